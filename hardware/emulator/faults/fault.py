"""A fault by its name: what to inject, when, and for how long.

    mute:id=3,at=5.0,for=0.2        servo 3 is silent from 5.0 s to 5.2 s

Time counts from the moment torque first comes on, because that is when an arm can be hurt and when a run really
begins; `after=start` counts from the start of the emulator (or from the request, for faults that come later).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hardware.emulator.faults.catalogue import CATALOGUE, FaultKind
from sim2real.errors import UserError

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
        """When the fault is over, s on the clock of `at`."""
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
