"""What the arm would know: joint readings as they come over the bus, and objects as its camera finds them.

The detector imitates the one for real cameras, which knows the camera's pose and takes every object for standing
on the table: it reports where the ray from the camera through the object's origin meets the plane on which such
origins lie. So a cube that was lifted appears further from the camera than it is. A hidden object is not reported
at all: the last value stays and its age grows. Whether it can be seen is found by casting rays from the camera
at points of it. Zones lie still; where they are is known from the first picture on.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.objects import ObjectSpec
from sim2real.observation import Observation, object_entries, unseen
from sim2real.simulation.bullet import bullet
from sim2real.simulation.cameras import Cameras
from sim2real.simulation.coupling import Coupling
from sim2real.simulation.disturbance import BurstLosses
from sim2real.simulation.scene import SceneBodies
from sim2real.truth import ObjectState

Array = NDArray[np.float64]

TICK = 2 * math.pi / 4096
"""Resolution of the servos' encoders, rad."""
SPEED_TICK = TICK
"""Resolution of the servos' speed readings: one encoder step per second, rad/s."""
VISIBLE = 0.5
"""Fraction of an object's points that must be seen for a detection."""

_POINTS = 0.4 * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=np.float64)
"""Points of a unit cube that rays are cast at: its centre and every other corner, drawn in a little. For other
things, of the box around them."""


class JointSensor:
    """Encoder readings: as old as the bus makes them, biased, noisy, quantized, sometimes repeated."""

    def __init__(self, values: Mapping[str, float], coupling: Coupling, rng: np.random.Generator) -> None:
        self._coupling, self._rng = coupling, rng
        self._delay, self._jitter = values["sensor.delay"], values["sensor.jitter"]
        # In rad; sliding joints have theirs in m.
        scale = coupling.scale
        self._noise, self._speed_noise = values["sensor.noise"], values["sensor.velocity_noise"]
        self._scale, self._tick, self._speed_tick = scale, TICK * scale, SPEED_TICK * scale
        self._losses = BurstLosses(values["sensor.dropout"], values["sensor.burst"], rng)
        self._last: tuple[Array, Array] | None = None

    def read(self) -> tuple[Array, Array]:
        """Angles (n,) rad and speeds (n,) rad/s as they would be received now."""
        if self._losses.next() and self._last is not None:
            return self._last
        age = self._delay
        if self._jitter > 0.0:
            age += self._jitter * float(self._rng.random())
        position, velocity = self._coupling.sense(age)
        if self._noise > 0.0:
            position += self._scale * self._noise * self._rng.standard_normal(len(position))
        if self._speed_noise > 0.0:
            velocity += self._scale * self._speed_noise * self._rng.standard_normal(len(velocity))
        self._last = (
            np.rint(position / self._tick) * self._tick,
            np.rint(velocity / self._speed_tick) * self._speed_tick,
        )
        return self._last


@dataclass(frozen=True)
class Detection:
    """An object as reported: exposure time s, origin (3,) m, yaw rad (known up to its symmetry)."""

    time: float
    position: Array
    yaw: float


class ObjectDetector:
    """Imitates the camera's detector; `capture` at every frame, `entries` whenever they are asked for.

    It is told the objects as they are declared; what they measure in an episode may differ.
    """

    def __init__(
        self,
        values: Mapping[str, float],
        cameras: Cameras,
        bodies: SceneBodies,
        rng: np.random.Generator,
        now: float,
    ) -> None:
        self._values, self._bodies, self._rng, self._drift = values, bodies, rng, cameras.drift
        name = cameras.detector
        self._camera = None if name is None else cameras.real(name)
        self._described = None if name is None else cameras.described(name)
        self._spread = values["detector.noise"], values["detector.yaw_noise"]
        self._period = 1.0 / values["detector.rate"]
        self._latency = values["detector.latency"]
        self._bias = np.array([values["detector.bias_x"], values["detector.bias_y"], 0.0])
        self._pending: deque[tuple[float, str, Detection]] = deque()
        self._latest: dict[str, Detection] = {}
        # The camera was running before, and saw what there is to see now.
        age = self._latency + self._period * float(rng.random())
        self.next_frame = now - age + self._period
        for name, state in self._looked_for():
            seen = self._detect(now - age, state, dropout=0.0)
            if seen is not None:
                self._latest[name] = seen
        while self.next_frame <= now:
            self.capture(self.next_frame)

    def _looked_for(self) -> Iterable[tuple[str, ObjectState]]:
        return ((name, state) for name, state in self._bodies.states().items() if state.spec.moves)

    def capture(self, time: float) -> None:
        """Expose a frame; its result becomes available after the latency."""
        self.next_frame += self._period
        for name, state in self._looked_for():
            detection = self._detect(time, state, self._values["detector.dropout"])
            if detection is not None:
                self._pending.append((time + self._latency, name, detection))

    def latest(self, name: str, time: float) -> Detection | None:
        """The newest result about an object that is available at `time`; None when it was never seen."""
        while self._pending and self._pending[0][0] <= time + 1e-9:
            _, seen, detection = self._pending.popleft()
            self._latest[seen] = detection
        return self._latest.get(name)

    def goal(self, goal: Array) -> Array:
        """A goal (3,) m over a zone, as the camera finds it: with its constant error."""
        return np.add(goal, self._bias)

    def entries(self, states: Mapping[str, ObjectState], time: float) -> Observation:
        """The observation's entries about every object at `time`; `states` are those that are there."""
        entries: Observation = {}
        for name, spec in self._bodies.specs.items():
            if not spec.moves:
                entries |= self._zone(spec, states[name]) if name in states else unseen(spec)
            elif (seen := self.latest(name, time)) is not None:
                entries |= object_entries(spec, seen.position, seen.yaw, time - seen.time, self._spread)
            else:
                entries |= unseen(spec)
        return entries

    def _zone(self, spec: ObjectSpec, state: ObjectState) -> Observation:
        """A zone, for one who takes the table for being where it should be."""
        x, y, _ = state.position + self._bias
        return object_entries(spec, (x, y, 0.0), object_yaw(state), 0.0, (self._spread[0], 0.0))

    def visible(self, state: ObjectState) -> float:
        """Fraction of the object's points that the camera sees past everything else; 1 without a camera."""
        camera = self._camera
        if camera is None:
            return 1.0
        points = state.position + np.array(state.spec.extent) * _POINTS @ state.rotation.T
        # Without distortion, which matters at the very edge only.
        local = points @ camera.base_to_camera[:3, :3].T + camera.base_to_camera[:3, 3]
        x = local[:, 0] * camera.fx / local[:, 2] + camera.cx
        y = local[:, 1] * camera.fy / local[:, 2] + camera.cy
        inside = (local[:, 2] > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
        hits = bullet.rayTestBatch(
            [camera.position.tolist()] * len(points), points.tolist(), physicsClientId=self._bodies.client
        )
        # A ray that meets nothing passed beside a round thing: nothing is in the way.
        own, owner = state.spec.name, self._bodies.owner
        clear = [hit[0] == -1 or owner(hit[0]) == own for hit in hits]
        return sum(free and seen for free, seen in zip(clear, inside.tolist())) / len(points)

    def _seen(self, position: Array, height: float, time: float) -> Array:
        """Where a point appears on the plane at `height`, m, to one who knows the camera as it is described."""
        real, described = self._camera, self._described
        assert real is not None and described is not None
        if self._drift:
            real = self._drift.after(real, time)
        ray = real.rotation.T @ (position - real.position)
        ray[:2] *= (real.fx / described.fx, real.fy / described.fy)
        return described.meet_plane(described.rotation @ ray, height)

    def _detect(self, time: float, state: ObjectState, dropout: float) -> Detection | None:
        v = self._values
        visible = self.visible(state)
        # Random numbers are drawn whether or not they are used, so that an episode's noise does not depend on
        # what hides the object.
        noise = self._rng.standard_normal(3)
        lost = self._rng.random() < dropout
        if lost or visible < VISIBLE:
            return None
        height = self._bodies.specs[state.spec.name].rest
        position = state.position
        if self._camera is not None:
            position = self._seen(position, height, time)
            if not math.isfinite(position[0]):
                return None
        spread = v["detector.noise"] / visible
        seen = np.array(
            [
                position[0] + v["detector.bias_x"] + spread * noise[0],
                position[1] + v["detector.bias_y"] + spread * noise[1],
                height,
            ]
        )
        yaw = object_yaw(state) + v["detector.bias_yaw"] + v["detector.yaw_noise"] / visible * noise[2]
        return Detection(time, seen, yaw)


def true_entries(spec: ObjectSpec, state: ObjectState) -> Observation:
    """The entries about an object that is known as it is."""
    return object_entries(spec, state.position, object_yaw(state), 0.0)


def object_yaw(state: ObjectState) -> float:
    """Rotation about the vertical, rad, up to the object's symmetry."""
    if state.spec.kind == "cube":
        return cube_yaw(state.rotation)
    # The direction of the object's length; of its width where it stands on end.
    axis = 0 if abs(state.rotation[2, 0]) < 0.9 else 1
    return math.atan2(state.rotation[1, axis], state.rotation[0, axis])


@njit(cache=True, nogil=True, error_model="numpy")
def cube_yaw(rotation: Array) -> float:
    """Rotation about the vertical, up to quarter turns, of a cube with `rotation` (3, 3), rad."""
    # Of its three axes take the one that lies flattest: the others may point up.
    axis = 0
    for k in range(1, 3):
        if abs(rotation[2, k]) < abs(rotation[2, axis]):
            axis = k
    return math.atan2(rotation[1, axis], rotation[0, axis])
