"""What the arm would know: joint readings as they come over the bus, and objects as its camera finds them.

The detector imitates the one for real cameras (`imitation.py`), which knows the camera by its description and takes
objects for standing on the table: it reports where the ray from the camera through the object's origin meets the plane
on which such origins lie, but for an object of which it sees that the hand has lifted it. How much is hidden, and of
which side, is found by casting rays (`visibility.py`). Zones lie still; where they are is known from the first picture
on.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.objects import ByName, ObjectSpec
from sim2real.observation import Observation, object_entries, unseen
from sim2real.simulation.cameras import Cameras
from sim2real.simulation.coupling import Coupling
from sim2real.simulation.disturbance import BurstLosses
from sim2real.simulation.imitation import AT_HAND, Imitation, View, measured_errors
from sim2real.simulation.scene import SceneBodies
from sim2real.simulation.visibility import Visibility
from sim2real.tracking import Hand, Percept, PerceptTracker, Sighting
from sim2real.truth import ObjectState

Array = NDArray[np.float64]

TICK = 2 * math.pi / 4096
"""Resolution of the servos' encoders, rad."""
SPEED_TICK = TICK
"""Resolution of the servos' speed readings: one encoder step per second, rad/s."""
JOINT_NOISE = 0.01
"""Standard deviation of what the sensor of an object's joint says, as a share of the joint's way."""
PIXEL = 0.001
"""m that a pixel of a camera measures which nobody has described."""


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


class ObjectDetector:
    """Imitates the camera's detector; `capture` at every frame, `entries` whenever they are asked for.

    What it says goes through the filter that an arm uses (`sim2real/tracking.py`). It is told the objects as they are
    declared; what they measure in an episode may differ.
    """

    def __init__(
        self,
        values: Mapping[str, float],
        cameras: Cameras,
        bodies: SceneBodies,
        rng: np.random.Generator,
        now: float,
        hand: Callable[[], Hand],
    ) -> None:
        """`hand` says where the arm's hand is now, by its encoders."""
        self._values, self._bodies, self._rng, self._drift = values, bodies, rng, cameras.drift
        # Of its own: how often somebody asks must not change what the camera says.
        self._joint_rng = rng.spawn(1)[0]
        self._hand = hand
        name = cameras.detector
        self._camera = None if name is None else cameras.real(name)
        self._described = None if name is None else cameras.described(name)
        self._visibility = None if self._camera is None else Visibility(bodies, self._camera)
        self._period = 1.0 / values["detector.rate"]
        self._latency = values["detector.latency"]
        self._bias = np.array([values["detector.bias_x"], values["detector.bias_y"], 0.0])
        self._noise = values["detector.noise"], values["detector.yaw_noise"]
        self._more = np.diag([self._noise[0] ** 2, self._noise[0] ** 2, self._noise[1] ** 2])
        moving = [spec for spec in bodies.specs.values() if spec.moves]
        self._imitations = {
            spec.name: Imitation(measured_errors(), rng, values["detector.errors"]) for spec in moving
        }
        self.tracker = PerceptTracker(moving)
        self._pending: deque[tuple[float, Percept, Hand]] = deque()
        # The camera was running before, and saw what there is to see now.
        age = self._latency + self._period * float(rng.random())
        self.next_frame = now - age + self._period
        self.tracker.add(self.percept(now - age, dropout=0.0))
        while self.next_frame <= now:
            self.capture(self.next_frame)

    def capture(self, time: float) -> None:
        """Expose a frame; its result becomes available after the latency."""
        self.next_frame += self._period
        percept = self.percept(time, self._values["detector.dropout"])
        self._pending.append((time + self._latency, percept, self._hand()))

    def goal(self, goal: Array) -> Array:
        """A goal (3,) m over a zone, as the camera finds it: with its constant error."""
        return np.add(goal, self._bias)

    def entries(self, states: Mapping[str, ObjectState], time: float, hand: Hand) -> Observation:
        """The observation's entries about every object at `time`; `states` are those that are there, `hand` is where
        the hand is by the readings of the joints."""
        pending, tracks = self._pending, self.tracker.tracks
        while pending and pending[0][0] <= time + 1e-9:
            _, percept, then = pending.popleft()
            self.tracker.add(percept, then)
        entries: Observation = {}
        for name, spec in self._bodies.specs.items():
            entries.update(tracks[name].entries(time) if spec.moves else self._zone(spec, states.get(name)))
        # As on an arm, where a cycle ends with telling the filter where the hand is.
        self.tracker.follow(time, hand)
        return entries

    def _zone(self, spec: ObjectSpec, state: ObjectState | None) -> Observation:
        """A zone or a mechanism, which stay where they are, for one who takes the table for being where it should be.
        No camera tells where a joint is: an imitated sensor of its own does."""
        if state is None:
            return unseen(spec)
        x, y, _ = state.position + self._bias
        joint = 0.0
        if spec.joint is not None:
            joint = state.share + JOINT_NOISE * float(self._joint_rng.standard_normal())
        return object_entries(
            spec, (x, y, 0.0), object_yaw(state), 0.0, (self._noise[0], 0.0), min(max(joint, 0.0), 1.0)
        )

    def visible(self, state: ObjectState) -> float:
        """Fraction of the object that the camera sees past everything else; 1 without a camera."""
        return 1.0 if self._visibility is None else self._visibility.look(state)[0]

    def percept(self, time: float, dropout: float = 0.0) -> Percept:
        """What the detector says of a picture that is taken now, at `time` s; times must rise."""
        found: ByName[Sighting] = ByName()
        for name, state in self._bodies.states().items():
            if state.spec.moves:
                # Drawn whether or not it is used, so that an episode's noise does not depend on what hides things.
                noise, lost = self._rng.standard_normal(3), self._rng.random() < dropout
                seen = self._sighting(name, state, time)
                if seen is not None and not lost:
                    found[name] = self._noisy(seen, noise)
        return Percept(time, found)

    def _sighting(self, name: str, state: ObjectState, time: float) -> Sighting | None:
        rest, camera = self._bodies.specs[name].rest, self._camera
        yaw = object_yaw(state)
        if camera is None or self._visibility is None:
            place = np.array([state.position[0], state.position[1], rest])
            view = View(place, yaw, 1.0, (0.0, 0.0), 0.0, False, PIXEL, state.spec.extent[0])
            return self._imitations[name].sight(view, time, None)
        visible, shift = self._visibility.look(state)
        place = self._seen(state.position, rest, time)
        pixel = math.dist(state.position, camera.position) / math.sqrt(camera.fx * camera.fy)
        height = float(state.position[2]) - rest
        at_hand = math.dist(self._hand().position, state.position) < AT_HAND
        view = View(place, yaw, visible, shift, height, at_hand, pixel, state.spec.extent[0])
        seen = self._imitations[name].sight(view, time, self._described)
        return seen if seen is None or math.isfinite(seen.position[0]) else None

    def _noisy(self, seen: Sighting, noise: Array) -> Sighting:
        """With what differs from picture to picture, and what is constantly wrong."""
        place, turn = self._noise
        wrong = self._bias + place * np.array([noise[0], noise[1], 0.0])
        yaw = seen.yaw + self._values["detector.bias_yaw"] + turn * float(noise[2])
        return replace(seen, position=seen.position + wrong, yaw=yaw, covariance=seen.covariance + self._more)

    def _seen(self, position: Array, height: float, time: float) -> Array:
        """Where a point appears on the plane at `height`, m, to one who knows the camera as it is described."""
        real, described, drift = self._camera, self._described, self._drift
        assert real is not None and described is not None
        ratio = np.array([real.fx / described.fx, real.fy / described.fy])
        return _appearing(  # type: ignore[no-any-return]
            position, height, real.camera_to_base, drift.velocity * time, drift.turning * time, ratio,
            described.camera_to_base,
        )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _appearing(
    position: Array, height: float, real: Array, shift: Array, turn: Array, ratio: Array, described: Array
) -> Array:
    """(3,) m on the plane at `height`: where a point seen by a camera at `real` (4, 4) that has moved by `shift` m and
    turned by `turn` rad about its own axes, with `ratio` times the focal lengths, appears to one who takes it for
    `described` (4, 4). NaN where its ray never meets the plane."""
    ray = np.zeros(3)
    for i in range(3):
        for j in range(3):
            ray[i] += real[j, i] * (position[j] - real[j, 3] - shift[j])
    angle = math.sqrt(turn[0] ** 2 + turn[1] ** 2 + turn[2] ** 2)
    if angle > 0.0:
        # Rodrigues' formula, turned back.
        axis = turn / angle
        cross = np.cross(axis, ray)
        ray = ray * math.cos(angle) - cross * math.sin(angle) + axis * (axis @ ray) * (1.0 - math.cos(angle))
    ray[0] *= ratio[0]
    ray[1] *= ratio[1]
    away = np.zeros(3)
    for i in range(3):
        for j in range(3):
            away[i] += described[i, j] * ray[j]
    along = (height - described[2, 3]) / away[2]
    if not along > 0.0:
        along = math.nan
    return described[:3, 3] + along * away


def true_entries(spec: ObjectSpec, state: ObjectState) -> Observation:
    """The entries about an object that is known as it is."""
    return object_entries(spec, state.position, object_yaw(state), 0.0, joint=state.share)


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
