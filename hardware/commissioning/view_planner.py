"""Which poses of the arm show a camera most, when little is known of where the camera stands.

Candidates are poses in free air, with room for the card in the gripper. As long as the camera has not seen the card,
they are tried one after another, each as unlike the ones before as possible; once it has, small changes of the
pose give a first idea of where the camera stands; then always the pose is taken, among those in which the card should
be well seen, that tells most about the camera's pose (D-optimal, as in the excitation of identification).
"""

from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from hardware.commissioning.board import Card
from hardware.commissioning.camera_pose import (
    READABLE,
    ArmView,
    Sight,
    Solution,
    first_sight,
    nominal_hold,
    reliable,
    shortest_side,
    solve,
)
from sim2real.camera import CameraModel
from sim2real.errors import Sim2RealError
from sim2real.gate.gate import Gate
from sim2real.model.kinematics import tool_pose
from sim2real.robot import Robot

Array = NDArray[np.float64]

CANDIDATES = 200
ALOFT, APART = 0.03, 0.01
"""m between the arm and table and between its parts, beyond what the gate keeps."""
CARD_ALOFT, CARD_APART = 0.02, 0.08
"""m between the card and the table, and the axis of the first joint."""
MARGIN = 0.1
"""rad kept from the joints' limits."""
STRIDE = 0.1
"""rad between poses that are checked on a way."""
NEARBY, MISSES = 0.25, 3
"""rad by which joints change around a pose that was seen, once that many others in a row were not."""
GUESSES = 15
"""Poses for which a guess of where the camera stands is followed without having seen the card."""
RUN_UP, SIDES = 0.08, 4
"""rad that every joint goes in one direction before it is looked at, and how many directions are tried for room."""
ROUNDS = 4
"""How often other candidates are drawn when no way leads to any."""
KNOWN = 4
"""Views from which on the estimate of the camera's pose is used."""


@dataclass
class ViewPlanner:
    """`count` views are wanted. `guess`: whether the pose of `camera` is one. `limits` (lower, upper), (n,) rad."""

    robot: Robot
    limits: tuple[Array, Array]
    camera: CameraModel
    card: Card
    count: int
    guess: bool = False
    seed: int = 0
    views: list[ArmView] = field(default_factory=list)
    tried: list[Array] = field(default_factory=list)
    _solution: Solution | None = None
    _sight: Sight | None = None
    _smallest: float = np.inf
    """px: the shortest side of a marker that was seen well."""
    _least: float = READABLE
    """px: what it must have, by what was not seen; how small a marker is read depends on camera and light."""
    _misses: int = 0
    """Poses since the card was last seen."""
    _before: Array | None = None
    """Where the arm was before: as a way back."""
    _side: Array | None = None
    """From where each joint came to the pose it is in, see `ArmView`."""

    def __post_init__(self) -> None:
        self._gate = Gate(self.robot)
        self._rng = np.random.default_rng(self.seed)
        self._hold = nominal_hold(self.card)
        self._sight = Sight(self.camera.camera_to_base, self._hold) if self.guess else None
        self._candidates = self._draw(self.robot.home, 1.0, CANDIDATES)
        if not self._candidates:
            raise Sim2RealError(
                f"no pose of {self.robot.name} around its home has room for the card; check its home pose"
            )

    @property
    def most(self) -> int:
        """Poses that are tried at most."""
        return 2 * self.count + 40

    def seen(self, joints: Array, pixels: Array | None) -> bool:
        """The card was seen (or not) with the arm at `joints` (n,) rad. Returns whether that is a view to use."""
        if pixels is None or not reliable(self.camera, self.card, pixels):
            self._misses += 1
            side = (
                0.0 if self._known is None else self._known.side(self.robot, self.camera, self.card, joints)
            )
            if self._least < side < self._smallest:
                self._least = side
            return False
        self._misses = 0
        self._smallest = min(self._smallest, shortest_side(pixels))
        self._least = min(self._least, self._smallest)
        self.views.append(ArmView(joints, pixels, self._side))
        try:
            if len(self.views) < KNOWN:
                self._sight = first_sight(self.robot, self.camera, self.views, self.card)
                return True
            self._solution = solve(self.robot, self.camera, self.views, self.card, start=self._solution)
            if self._solution.result.metres > 0.03:
                # Begun in the wrong valley: look for others.
                self._solution = solve(self.robot, self.camera, self.views, self.card)
        except (Sim2RealError, cv2.error, np.linalg.LinAlgError):
            self._solution = None
        return True

    @property
    def _known(self) -> Sight | None:
        """Where the camera stands by what was seen, if anything was."""
        if self._solution is not None:
            return Sight(self._solution.result.camera.camera_to_base, self._solution.result.held)
        return self._sight if self.views else None

    def next(self, position: Array) -> list[Array] | None:
        """The way (poses (n,) rad) to the next pose from `position`; None when it is enough or hopeless."""
        if len(self.views) >= self.count or len(self.tried) >= self.most:
            return None
        for _ in range(ROUNDS):
            for pose in self._preferred():
                way = self._way(position, pose)
                if way is not None:
                    self.tried.append(pose)
                    self._before = position
                    return way
            self._candidates = self._draw(self.robot.home, 1.0, CANDIDATES)
        return self._home(position)

    def _home(self, position: Array) -> list[Array] | None:
        """Where there is no way to any pose with room to spare, the gate may still let the arm home; None there."""
        home = np.array(self.robot.home)
        if np.abs(position - home)[self.robot.arm].max() < NEARBY:
            return None
        self.tried.append(home)
        self._before = self._side = None
        return [home]

    def _preferred(self) -> list[Array]:
        """Poses to take next, the best first."""
        if self._solution is not None and (chosen := self._telling(self._solution)):
            return chosen
        if self.views and self._misses >= MISSES:
            # The idea of where the camera stands misleads: around a pose that was seen, ever nearer.
            around = self.views[self._misses % len(self.views)].joints
            return self._unlike(self._draw(around, NEARBY / (self._misses - MISSES + 1), 20, near=True))
        candidates = self._remaining()
        if self._sight is not None and (self.views or len(self.tried) < GUESSES):
            candidates = [q for q in candidates if self._shown(self._sight, q)] or candidates
        return self._unlike(candidates)

    def _shown(self, sight: Sight, q: Array) -> bool:
        return sight.side(self.robot, self.camera, self.card, q) > self._least

    def _remaining(self) -> list[Array]:
        done = {pose.tobytes() for pose in self.tried}
        return [pose for pose in self._candidates if pose.tobytes() not in done]

    def _unlike(self, poses: list[Array]) -> list[Array]:
        """`poses` (each (n,) rad) in another order: first those whose card looks where that of no tried pose did."""
        if not self.tried or not poses:
            return poses
        signs = np.array([self._sign(q) for q in poses])
        before = np.array([self._sign(q) for q in self.tried])
        distance = np.linalg.norm(signs[:, None] - before, axis=-1).min(axis=1)
        return [poses[i] for i in np.argsort(-distance)]

    def _sign(self, q: Array) -> Array:
        """(6,): where the card looks, and where it is, 10 cm counting as much as half a turn to the side."""
        position, rotation = tool_pose(self.robot.model, q)
        return np.concatenate([(rotation @ self._hold[:3, :3])[:, 2], position / 0.1])

    def _telling(self, solution: Solution) -> list[Array]:
        found = solution.result
        sight = Sight(found.camera.camera_to_base, found.held)
        poses = self._remaining() + self._draw(self.robot.home, 1.0, 40)
        poses = [q for q in poses if self._shown(sight, q)]
        if not poses:
            return []
        known, added = solution.information(self.robot, self.camera, self.card, poses)
        base = known + 1e-9 * np.eye(len(known))
        gains = np.array([np.linalg.slogdet(base + one)[1] for one in added])
        return [poses[i] for i in np.argsort(-gains)]

    # Safety

    def _draw(self, around: Array, share: float, count: int, near: bool = False) -> list[Array]:
        """Poses with room: within `share` of the way to the limits, or (`near`) within that many rad."""
        robot = self.robot
        lower = np.minimum(np.maximum(robot.lower, self.limits[0]) + MARGIN, robot.home)
        upper = np.maximum(np.minimum(robot.upper, self.limits[1]) - MARGIN, robot.home)
        found: list[Array] = []
        for _ in range(40 * count):
            q = np.array(robot.home if not near else around)
            low, high = (around - share, around + share) if near else (lower, upper)
            q[robot.arm] = self._rng.uniform(low, high)[robot.arm]
            q = np.clip(q, lower, upper)
            if self._free(q):
                found.append(q)
                if len(found) == count:
                    break
        return found

    def _free(self, q: Array) -> bool:
        return self._room(q) > 0.0

    def _room(self, q: Array) -> float:
        """m to spare, with the card; negative where there is too little."""
        position, rotation = tool_pose(self.robot.model, q)
        half = self.card.size / 2 + self.card.margin
        corners = half * np.array([[-1, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]], dtype=np.float64)
        # However it is held: around the way out of the gripper.
        reach = (corners @ self._hold[:3, :3].T + self._hold[:3, 3]) @ rotation.T + position
        card = min(reach[:, 2].min() - CARD_ALOFT, np.linalg.norm(reach[:, :2], axis=1).min() - CARD_APART)
        return float(min(card, self._gate.clearance(q) - ALOFT, self._gate.self_clearance(q) - APART))

    def _way(self, start: Array, end: Array) -> list[Array] | None:
        """Straight, or by way of home, first back if need be; None where nothing is free.

        The last bit every joint comes from a side drawn by lot, so that its play can be told from its zero.
        """
        for _ in range(SIDES):
            side = np.zeros(self.robot.n)
            side[self.robot.arm] = self._rng.choice([-1.0, 1.0], len(self.robot.arm))
            near = end - RUN_UP * side
            inside = (near >= np.maximum(self.robot.lower, self.limits[0])) & (
                near <= np.minimum(self.robot.upper, self.limits[1])
            )
            if inside.all() and self._free(near) and self._clear(near, end):
                break
        else:
            return None
        home = np.array(self.robot.home)
        ways = [[near, end], [home, near, end]]
        if self._before is not None:
            ways.append([self._before, home, near, end])
        for way in ways:
            if all(self._clear(a, b) for a, b in pairwise([start, *way])):
                self._side = side
                return [np.array(pose) for pose in way]
        return None

    def _clear(self, start: Array, end: Array) -> bool:
        steps = max(int(np.abs(end - start).max() / STRIDE), 1)
        # Where it stands it stands already: from where there is too little room it may only come out.
        least = self._room(start)
        for k in range(1, steps + 1):
            room = self._room(start + (end - start) * k / steps)
            if room <= min(least, 0.0):
                return False
            least = room
        return True
