"""The injector: puts faults into effect on an emulated arm, each at its time."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from hardware.emulator.faults.catalogue import CATALOGUE, Place
from hardware.emulator.faults.effects import Plug, Target, effect_of
from hardware.emulator.faults.fault import Fault
from hardware.emulator.wire import EmulatedBus, Reply
from sim2real.errors import UserError


class FaultInjector:
    """Puts faults into effect on an emulated arm, each at its time.

    It takes over the bus's `tamper` and `overhear`; the loop that runs the arm also calls `advance` now and then, for
    faults that begin or end while nobody talks. `robot` names the servos that `id` may mean. What lies outside
    the emulated arm asks `active(name)` (a policy, a loop) or `camera` (pictures).
    """

    def __init__(
        self,
        bus: EmulatedBus,
        plug: Plug | None = None,
        faults: Iterable[Fault] = (),
        *,
        seed: int = 0,
        places: Iterable[Place] = tuple(Place),
    ) -> None:
        self.bus, self.plug = bus, plug
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
        places = self.places - {Place.PORT} if self.plug is None else self.places
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
        later = []
        for fault, given in self._waiting:
            origin = given
            if origin is None:
                origin = self._torque if fault.after == "torque" else self._start
            if origin is None or now < origin + fault.at:
                later.append((fault, given))
                continue
            effect = effect_of(fault, Target(self.bus, self.plug, self.rng))
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
