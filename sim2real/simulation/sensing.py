"""What the arm would know: joint readings as they come over the bus, and the cube as its camera finds it.

The detector imitates the one for real cameras, which knows the camera's pose and takes the cube for lying on
the table: it reports where the ray from the camera through the cube's centre meets the plane half a cube above
the table. So a cube that was lifted appears further from the camera than it is. Hidden, it is not reported
at all: the last value stays and its age grows. Whether the cube can be seen is found by casting rays from the
camera at points of it.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.observation import MAX_AGE
from sim2real.simulation.bullet import bullet
from sim2real.simulation.coupling import Coupling
from sim2real.simulation.disturbance import BurstLosses
from sim2real.simulation.drift import Drift
from sim2real.simulation.scene import CubeState, SceneBodies

Array = NDArray[np.float64]

TICK = 2 * math.pi / 4096
"""Resolution of the servos' encoders, rad."""
SPEED_TICK = TICK
"""Resolution of their speed readings: one encoder step per second, rad/s."""
KNOWN_SIZE = 0.025
"""Side of the cube that the detector is told, m; the real one may differ."""
VISIBLE = 0.5
"""Fraction of the cube's points that must be seen for a detection."""
UNSEEN = (0.25, 0.0, KNOWN_SIZE / 2)
"""What is reported before the cube was ever seen: the middle of the workspace."""

_POINTS = 0.4 * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=np.float64)
"""Points of a unit cube that rays are cast at: its centre and every other corner, drawn in a little."""


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
    """The cube as reported: exposure time s, centre (3,) m, yaw rad (known up to quarter turns)."""

    time: float
    position: Array
    yaw: float


class CubeDetector:
    """Imitates the camera's cube detector; `capture` at every frame, `latest` whenever somebody asks."""

    def __init__(
        self,
        values: Mapping[str, float],
        camera: CameraModel | None,
        drift: Drift,
        bodies: SceneBodies,
        rng: np.random.Generator,
        now: float,
    ) -> None:
        self._values, self._camera, self._drift, self._bodies, self._rng = values, camera, drift, bodies, rng
        self._period = 1.0 / values["detector.rate"]
        self._latency = values["detector.latency"]
        self._pending: deque[tuple[float, Detection]] = deque()
        self._latest: Detection | None = None
        # The camera was running before, and saw what there is to see now.
        age = self._latency + self._period * float(rng.random())
        self.next_frame = now - age + self._period
        cube = bodies.cube_state()
        if cube is not None:
            self._latest = self._detect(now - age, cube, dropout=0.0)
        while self.next_frame <= now:
            self.capture(self.next_frame)

    def capture(self, time: float) -> None:
        """Expose a frame; its result becomes available after the latency."""
        self.next_frame += self._period
        cube = self._bodies.cube_state()
        if cube is None:
            return
        detection = self._detect(time, cube, self._values["detector.dropout"])
        if detection is not None:
            self._pending.append((time + self._latency, detection))

    def latest(self, time: float) -> Detection | None:
        """The newest result available at `time`; None when the cube was never seen."""
        while self._pending and self._pending[0][0] <= time + 1e-9:
            self._latest = self._pending.popleft()[1]
        return self._latest

    def goal(self, goal: Array) -> Array:
        """A mark at `goal` (3,), as the same camera finds it: with the same constant error."""
        bias = (self._values["detector.bias_x"], self._values["detector.bias_y"], 0.0)
        return np.add(goal, bias)

    def visible(self, cube: CubeState) -> float:
        """Fraction of the cube's points that the camera sees past the arm; 1 without a camera."""
        camera = self._camera
        if camera is None:
            return 1.0
        points = cube.position + self._bodies.cube_size * _POINTS @ cube.rotation.T
        # Without distortion, which matters at the very edge only.
        local = points @ camera.base_to_camera[:3, :3].T + camera.base_to_camera[:3, 3]
        x = local[:, 0] * camera.fx / local[:, 2] + camera.cx
        y = local[:, 1] * camera.fy / local[:, 2] + camera.cy
        inside = (local[:, 2] > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
        hits = bullet.rayTestBatch(
            [camera.position.tolist()] * len(points), points.tolist(), physicsClientId=self._bodies.client
        )
        # A ray that ends inside the cube without meeting it cannot be: no hit means that nothing is in the way.
        clear = (self._bodies.cube, -1)
        return sum(hit[0] in clear and seen for hit, seen in zip(hits, inside.tolist())) / len(points)

    def _seen(self, camera: CameraModel, position: Array, time: float) -> Array:
        """Where a point appears on the plane half a cube above the table, to one who knows the camera as it was."""
        if not self._drift:
            return camera.seen_on_plane(position, KNOWN_SIZE / 2)
        now = self._drift.after(camera, time)
        ray = now.rotation.T @ (position - now.position)
        return camera.meet_plane(camera.rotation @ ray, KNOWN_SIZE / 2)

    def _detect(self, time: float, cube: CubeState, dropout: float) -> Detection | None:
        v = self._values
        visible = self.visible(cube)
        # Random numbers are drawn whether or not they are used, so that an episode's noise does not depend on
        # what hides the cube.
        noise = self._rng.standard_normal(3)
        lost = self._rng.random() < dropout
        if lost or visible < VISIBLE:
            return None
        position = cube.position
        if self._camera is not None:
            position = self._seen(self._camera, position, time)
            if not math.isfinite(position[0]):
                return None
        spread = v["detector.noise"] / visible
        seen = np.array(
            [
                position[0] + v["detector.bias_x"] + spread * noise[0],
                position[1] + v["detector.bias_y"] + spread * noise[1],
                KNOWN_SIZE / 2,
            ]
        )
        yaw = cube_yaw(cube.rotation) + v["detector.bias_yaw"] + v["detector.yaw_noise"] / visible * noise[2]
        return Detection(time, seen, yaw)


@njit(cache=True, nogil=True, error_model="numpy")
def cube_yaw(rotation: Array) -> float:
    """Rotation about the vertical, up to quarter turns, of a cube with `rotation` (3, 3), rad."""
    # Of its three axes take the one that lies flattest: the others may point up.
    axis = 0
    for k in range(1, 3):
        if abs(rotation[2, k]) < abs(rotation[2, axis]):
            axis = k
    return math.atan2(rotation[1, axis], rotation[0, axis])


def yaw_features(yaw: float) -> Array:
    """(2,): cos 4ψ, sin 4ψ."""
    return np.array([math.cos(4 * yaw), math.sin(4 * yaw)])


def cube_entries(detection: Detection | None, time: float) -> dict[str, Array]:
    """The observation's entries about the cube, from a detection at `time`."""
    if detection is None:
        return {
            "cube": np.array(UNSEEN),
            "cube_yaw": np.array([1.0, 0.0]),
            "cube_age": np.array([MAX_AGE]),
        }
    return {
        "cube": detection.position,
        "cube_yaw": yaw_features(detection.yaw),
        "cube_age": np.array([min(time - detection.time, MAX_AGE)]),
    }
