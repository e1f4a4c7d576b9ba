"""What a proof has in an arm's place, and can make go wrong: its plug, policy, camera and watchdog.

All of them live on a stepped clock and ask a `FaultInjector` what is wrong at the moment.
"""

import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hardware.cameras.shared import HEALTHY, SLOTS, TEXT, CameraReader, numbers_for
from hardware.cameras.worker import CameraWriter, Watcher
from hardware.emulator.faults.injector import FaultInjector
from hardware.emulator.stepped import SteppedPort
from hardware.emulator.wire import EmulatedBus
from hardware.runtime.control.tick import Tick
from hardware.runtime.sources.sources import GoalOnly, LocalPolicy
from hardware.servos.ports import PortUnavailable
from sim2real.camera import CameraModel
from sim2real.clock import SimulatedClock
from sim2real.observation import Observation
from sim2real.policies.protocol import Policy
from sim2real.robot import Robot

Array = NDArray[np.float64]

CAMERA_PERIOD: Final = 1 / 30


class WallClock:
    """The wall clock of this process: `time.time` tells a wrong time from a `shift` on until the tick is over.

    The system's own cannot be set in a proof; nothing in the loop may care about either.
    """

    def __init__(self) -> None:
        self._right = time.time

    def shift(self, by: float) -> None:
        """Set the wall clock `by` s wrong; 0: right again."""
        right = self._right
        time.time = right if by == 0.0 else lambda: right() + by

    def tick(self, tick: Tick) -> None:
        """See `TickSink`."""
        self.shift(0.0)


class SteppedPlug:
    """The plug of an arm on a stepped clock: gives out ports, and takes them away."""

    def __init__(self, bus: EmulatedBus, clock: SimulatedClock, name: str = "stepped") -> None:
        self.bus, self.clock, self.name = bus, clock, name
        self.present = True
        self._port: SteppedPort | None = None

    def open(self, baud: int) -> SteppedPort:
        """The port, for one program. Raises PortUnavailable while it is unplugged."""
        if not self.present:
            raise PortUnavailable(f"{self.name} does not exist: check plug and power")
        self._port = SteppedPort(self.bus, self.clock, baud=baud)
        return self._port

    def unplug(self) -> None:
        self.present = False
        if self._port is not None:
            self._port.plugged = False

    def plug(self, *, renamed: bool) -> None:
        self.present = True
        if renamed:
            self.name += "+"


class FaultyPolicy:
    """A policy whose actions go wrong while a fault says so."""

    def __init__(self, policy: Policy, injector: FaultInjector) -> None:
        self.policy, self.injector = policy, injector
        self.horizon = policy.horizon
        self._calls = 0

    def reset(self, seed: int) -> None:
        self.policy.reset(seed)

    def act(self, observation: Observation) -> Array:
        active = self.injector.active
        if active("policy_raise"):
            raise RuntimeError("the policy broke")
        chunk = np.array(self.policy.act(observation), dtype=np.float64)
        self._calls += 1
        if active("policy_nan"):
            chunk[...] = np.nan
        if active("policy_inf"):
            chunk[...] = np.inf
        jump = active("policy_jump")
        if jump is not None:
            chunk += (-1.0) ** self._calls * jump["by"]
        return chunk


class FaultySource(LocalPolicy):
    """Hands nothing to its policy while it is stalled."""

    def __init__(self, policy: FaultyPolicy, period: float, clock: SimulatedClock, latency: float) -> None:
        super().__init__(policy, period, clock, latency)
        self._injector = policy.injector

    def send(self, time: float, observation: Observation) -> None:
        if self._injector.active("policy_stall") is None and self._injector.active("server_gone") is None:
            super().send(time, observation)


class FaultyCamera(GoalOnly):
    """A camera on the rig's clock. The pictures are noise and go wrong while a fault says so; what is made of them
    is what a camera's process makes of them."""

    needed = True

    def __init__(self, injector: FaultInjector) -> None:
        super().__init__()
        model = CameraModel.looking_at((0.55, 0.2, 0.4), (0.22, 0.0, 0.0), width=32, height=24, name="front")
        memory = (
            bytearray(8 * numbers_for(())),
            bytearray(TEXT),
            bytearray(SLOTS * (8 + model.width * model.height * 3)),
        )
        self._injector, self._reader = injector, CameraReader(model, (), *memory)
        self._reader._numbers[HEALTHY] = -np.inf
        self._watcher = Watcher(model, (), CameraWriter(self._reader))
        self._rng = np.random.default_rng(0)
        self._shape = (model.height, model.width, 3)
        self._picture = self._noise()
        self._due = -np.inf

    def _noise(self) -> NDArray[np.uint8]:
        return self._rng.integers(20, 255, self._shape, dtype=np.uint8)

    def advance(self, now: float) -> None:
        """Take what pictures there are by `now`, s."""
        active, found = self._injector.active, None
        stale = active("camera_stale")
        if now >= self._due and active("camera_stall") is None:
            self._due = now + (CAMERA_PERIOD if stale is None else stale["every"])
            if active("camera_frozen") is None:
                self._picture = self._noise()
            black = active("camera_black") is not None
            found = (now, np.zeros_like(self._picture) if black else self._picture)
        elif stale is None:
            self._due = min(self._due, now + CAMERA_PERIOD)
        self._watcher.look(found, now)

    def frame_age(self, time: float) -> float:
        return self._reader.age(time)

    @property
    def problem(self) -> str:  # type: ignore[override]
        status = self._reader.status()
        return f"front {status.state} ({status.problem})"


class FaultyGuardian:
    """Stands for the watchdog process, whose work needs real time: there until a fault takes it away."""

    def __init__(self, injector: FaultInjector) -> None:
        self._injector = injector

    @property
    def alive(self) -> bool:
        return self._injector.active("kill_watchdog") is None

    def beat(self, armed: bool, executed: Array) -> None:
        pass

    def busy(self) -> None:
        pass


class Sway:
    """Goes gently to and fro around `middle` (n,), rad, with an amplitude of `swing` (n,), at 0.4 Hz."""

    horizon = 10

    def __init__(self, robot: Robot, middle: Array, swing: Array) -> None:
        self.middle, self.swing, self.rate = middle, swing, robot.policy_rate
        self._calls = 0

    def reset(self, seed: int) -> None:
        self._calls = 0

    def act(self, observation: Observation) -> Array:
        steps = self._calls + 1 + np.arange(self.horizon)
        self._calls += 1
        result: Array = self.middle + np.sin(2 * np.pi * 0.4 * steps / self.rate)[:, None] * self.swing
        return result
