"""Faults by name: what to inject, when, for how long, and the injector that does it.

    mute:id=3,at=5.0,for=0.2        servo 3 is silent from 5.0 s to 5.2 s

Time counts from the moment torque first comes on, because that is when an arm can be hurt and when a run really
begins; `after=start` counts from the start of the emulator (or from the request, for faults that come later).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.emulator.faults.catalogue import CATALOGUE, EMULATED, FaultKind, Place
from hardware.emulator.wire import EmulatedBus, Reply
from sim2real.errors import UserError

Array = NDArray[np.float64]
After = Literal["torque", "start"]


@dataclass(frozen=True)
class Fault:
    """One fault: kind by `name`, from `at` s on, for `lasts` s, with the kind's parameters in `values`.

    Parameters that are not given take the kind's defaults. Raises UserError, with what there is, for an unknown
    name or parameter and for values out of range.
    """

    name: str
    at: float = 0.0
    lasts: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    after: After = "torque"

    def __post_init__(self) -> None:
        kind = kind_of(self.name)
        for name, value in self.values.items():
            found = kind.parameter(name)
            if found is None:
                raise UserError(f"fault '{self.name}' has no parameter '{name}'; {describe(kind)}")
            if not found.low <= value <= found.high:
                raise UserError(
                    f"fault '{self.name}': {name} must be between {found.low:g} and {found.high:g}"
                    f"{' ' + found.unit if found.unit else ''}, got {value:g}"
                )
        lasts = kind.lasts if self.lasts is None else self.lasts
        if not 0 <= self.at < math.inf or not lasts > 0:
            raise UserError(
                f"fault '{self.name}': 'at' is a time of 0 s or more and 'for' a duration above 0 s, got "
                f"at={self.at:g}, for={lasts:g}"
            )
        if self.after not in ("torque", "start"):
            raise UserError(f"fault '{self.name}': 'after' is torque or start, got '{self.after}'")
        given = {p.name: float(self.values.get(p.name, p.default)) for p in kind.parameters}
        object.__setattr__(self, "lasts", float(lasts))
        object.__setattr__(self, "values", given)

    @property
    def kind(self) -> FaultKind:
        return CATALOGUE[self.name]

    @property
    def end(self) -> float:
        """When it is over, s on the same clock as `at`."""
        assert self.lasts is not None
        return self.at + self.lasts

    def __getitem__(self, parameter: str) -> float:
        return self.values[parameter]

    def __str__(self) -> str:
        parts = [f"{name}={value!r}" for name, value in self.values.items()]
        parts += [f"at={self.at!r}", f"for={self.lasts!r}"]
        if self.after != "torque":
            parts.append(f"after={self.after}")
        return f"{self.name}:{','.join(parts)}".replace(".0,", ",").removesuffix(".0")


def kind_of(name: str) -> FaultKind:
    """The kind of that name. Raises UserError with the names there are."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    from difflib import get_close_matches

    close = get_close_matches(name, CATALOGUE, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise UserError(f"there is no fault '{name}'; {hint}faults are {', '.join(CATALOGUE)}")


def describe(kind: FaultKind) -> str:
    """What a fault takes, in one line."""
    own = [
        f"{p.name} ({p.text}; {p.default:g}{' ' + p.unit if p.unit else ''} unless given)"
        for p in kind.parameters
    ]
    common = ["at (s)", f"for (s; {kind.lasts:g} unless given)", "after (torque or start)"]
    return f"it takes {', '.join(own + common)}"


def parse_fault(text: str) -> Fault:
    """A fault from "name:key=value,…"; see the module docstring. Raises UserError that says what is wrong."""
    name, _, rest = text.strip().partition(":")
    kind = kind_of(name.strip())
    at, lasts, after = 0.0, None, "torque"
    values: dict[str, float] = {}
    seen: set[str] = set()
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, separator, value = (piece.strip() for piece in part.partition("="))
        if not separator or not value:
            raise UserError(
                f"fault '{text}': '{part}' is not of the form key=value, as in mute:id=3,at=5,for=0.2; "
                f"{describe(kind)}"
            )
        if key in seen:
            raise UserError(f"fault '{text}': {key} is given twice")
        seen.add(key)
        if key == "after":
            after = value
            continue
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise UserError(f"fault '{text}': {key} must be a number, got '{value}'; {describe(kind)}")
        if key == "at":
            at = number
        elif key == "for":
            lasts = number
        else:
            values[key] = number
    return Fault(kind.name, at, lasts, values, after)  # type: ignore[arg-type]


class Line(Protocol):
    """The plug of an emulated arm."""

    def unplug(self) -> None:
        """The port disappears; whoever has it open finds it gone."""

    def plug(self, *, renamed: bool) -> None:
        """It is back, under another name if `renamed`."""


class FaultInjector:
    """Puts faults into effect on an emulated arm, each at its time.

    It takes over the bus's `tamper` and `overhear`; whoever runs the arm also calls `advance` now and then, for
    faults that begin or end while nobody talks. `robot` names the servos that `id` may mean. What lies outside
    the emulated arm asks `active(name)` (a policy, a loop) or `camera` (pictures).
    """

    def __init__(
        self,
        bus: EmulatedBus,
        line: Line | None = None,
        faults: Iterable[Fault] = (),
        *,
        seed: int = 0,
        places: Iterable[Place] = tuple(Place),
    ) -> None:
        self.bus, self.line = bus, line
        self.rng = np.random.default_rng(seed)
        self.places = frozenset(places)
        self.begun: list[Fault] = []
        """Faults that have taken effect, in order."""
        self._start: float | None = None
        self._torque: float | None = None
        self._waiting: list[
            tuple[Fault, float | None]
        ] = []  # with the time that `at` counts from, once known
        self._active: list[tuple[Fault, float, Any]] = []  # with its end and its effect
        self._busy = False
        bus.tamper, bus.overhear = self._tamper, self._overhear
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault, now: float | None = None) -> None:
        """Plan a fault. With `now`, `at` counts from then, whatever `after` says.

        Raises UserError for one that this arm cannot have.
        """
        kind, servos = fault.kind, self.bus.servos
        places = self.places - {Place.PORT} if self.line is None else self.places
        family = servos[0].family
        if kind.place not in places or family not in kind.families:
            where = f"the {kind.place.value}, which is not part of the emulated arm"
            if kind.place in places:
                where = f"{kind.families[0]} servos, but those of the emulated arm are {family}"
            here = ", ".join(k.name for k in CATALOGUE.values() if k.place in places and family in k.families)
            raise UserError(f"fault '{fault.name}' acts on {where}; here there are {here}")
        ids, id = [servo.id for servo in servos], fault.values.get("id", 0.0)
        if id and id not in ids:
            raise UserError(f"fault '{fault.name}': there is no servo {id:g}; the arm has {ids}")
        self._waiting.append((fault, now))

    @property
    def quiet(self) -> bool:
        """Whether nothing is in effect and nothing is planned."""
        return not self._active and not self._waiting

    def active(self, name: str) -> Fault | None:
        """The fault of that name which is in effect now."""
        return next((fault for fault, _, _ in self._active if fault.name == name), None)

    def restart(self) -> None:
        """Begin the list of faults anew, with those that are in effect now."""
        self.begun[:] = [fault for fault, _, _ in self._active]

    def clear(self) -> None:
        """Undo what is in effect and forget what is planned: the arm has been repaired."""
        for _, _, effect in self._active:
            effect.end()
        self._active.clear()
        self._waiting.clear()

    def advance(self, now: float) -> None:
        """Begin and end what is due by `now`, s on the bus's clock."""
        if self._busy:
            return
        if self._start is None:
            self._start = now
        if self._torque is None and (self.bus.plant.drive.mode != 0).any():
            self._torque = now
        self._busy = True
        try:
            if self._waiting:
                self._begin(now)
            for entry in [entry for entry in self._active if now >= entry[1]]:
                self._active.remove(entry)
                entry[2].end()
            for _, _, effect in self._active:
                effect.step(now)
        finally:
            self._busy = False

    def _begin(self, now: float) -> None:
        from hardware.emulator.faults.effects import effect_of

        later = []
        for fault, given in self._waiting:
            origin = given
            if origin is None:
                origin = self._torque if fault.after == "torque" else self._start
            if origin is None or now < origin + fault.at:
                later.append((fault, given))
                continue
            effect = effect_of(fault, self)
            effect.begin(now)
            assert fault.lasts is not None
            self._active.append((fault, now + fault.lasts, effect))
            self.begun.append(fault)
        self._waiting = later

    def _tamper(self, reply: Reply) -> list[Reply]:
        replies = [reply]
        for _, _, effect in self._active:
            replies = [changed for one in replies for changed in effect.reply(one)]
        return replies

    def _overhear(self, data: bytes, now: float) -> bytes:
        self.advance(now)
        for _, _, effect in self._active:
            data = effect.request(data)
        return data


__all__ = ["EMULATED", "Fault", "FaultInjector", "Line", "describe", "kind_of", "parse_fault"]
