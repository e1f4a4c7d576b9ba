"""Where a camera stands, from an arm that has shown it a marker, or its tool tip, in known poses.

Unknown are the camera's pose C, the marker's pose X in the tool frame (nobody measures how a card sits in a gripper),
the marker's size and the arm's zeros, all at once: the pixels of view i are predicted as
project(C⁻¹ · T(qᵢ + δ) · X · s m), and their errors minimized (M. Strobl and G. Hirzinger, "Optimal hand-eye
calibration", IROS 2006). What is known beforehand of s and δ enters as their priors. A joint with play stands half of
it to one side or the other of where it reads, by the direction from which it came: where views say that, the play
is one more unknown. What is left of it makes all corners of a view wrong together, so that views are weighted by what
it does to them; the stated standard deviations are honest only with that.

The first joint's zero cannot be seen from the arm: the base frame is the one that the arm believes in, which is also
the one in which it will be told where to go.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from hardware.commissioning.board import SMALLEST, Card
from sim2real.camera import CameraModel
from sim2real.errors import Sim2RealError, UserError
from sim2real.model.kinematics import tool_pose
from sim2real.robot import Robot

Array = NDArray[np.float64]

FEWEST = 6
"""Views (of the tool tip: twice as many)."""
TURN, MOVE = 20.0, 0.05
"""Degrees and metres by which the tool must have turned and moved between views."""
WORST = 0.005
"""m rms by which predicted and seen corners may differ."""
UNSURE = (0.008, 0.8)
"""m and degrees: standard deviations of the camera's pose that are still an answer."""
MARKER_PRIOR, MARKER_OFF = 0.01, 0.03
"""Relative standard deviation of a printed marker's size, and how wrong it may turn out to be."""
ZERO_PRIOR = math.radians(1.5)
"""rad: standard deviation of a joint's zero after a calibration by hand."""
PIXEL = 0.2
"""px: standard deviation of a corner as detected."""
PLAY, LEFT = math.radians(0.3), math.radians(0.1)
"""rad: standard deviations of half a joint's play, and of what is left of it where its direction is known."""
FACING, EDGE = 0.55, 20.0
"""Cosine of the steepest angle at which the card is well seen, and px that it keeps from the picture's edge."""
READABLE = 8.0 * SMALLEST
"""px of a marker's side: 4 × 4 bits and their border, and a third more than the least that can be read."""
SQUARE = 0.25
"""px rms, per coordinate, by which the corners of a marker may miss the best square."""
OUTLIER, MOST_OUTLIERS = 3.0, 0.2
"""Standard deviations off from which a view is left out, and the share of views that may be."""


@dataclass(frozen=True, eq=False)
class ArmView:
    """Joint angles (n,) rad as read, and the pixels (k, 2) of what the tool holds (k = 4 corners) or is (k = 1).

    `approach` (n,): +1 where a joint came from smaller angles, −1 from larger ones; None: nobody knows.
    """

    joints: Array
    pixels: Array
    approach: Array | None = None


@dataclass(frozen=True, eq=False)
class PoseFit:
    """Where the camera stands, and how well that is known. `camera` has everything but its source."""

    camera: CameraModel
    held: Array
    """(4, 4): the marker in the tool frame; (its rotation is the identity where it is a point)."""
    size: float
    """m: the marker's as it came out; NaN for a point."""
    zeros: Array
    """(n,) rad to be added to what the joints read."""
    play: Array
    """(n,) rad: half of what the joints' play came out as; 0 where nothing was known of directions."""
    position_deviation: float
    """m, the largest standard deviation of the position in any direction."""
    rotation_deviation: float
    """degrees, likewise."""
    pixels: float
    """px rms between seen and predicted corners."""
    metres: float
    """m rms, at the corners' distances."""
    view_pixels: Array
    """(views,) px rms."""
    dropped: tuple[int, ...] = ()
    """Views that contradict all others and were left out."""


def fit_pose(robot: Robot, camera: CameraModel, views: Sequence[ArmView], card: Card | None) -> PoseFit:
    """`camera` gives the lens (its pose is ignored); without `card` the views are of a point of the tool.

    Raises UserError when the views cannot determine the pose or contradict each other.
    """
    fewest = FEWEST if card is not None else 2 * FEWEST
    if len(views) < fewest:
        what = "the marker" if card is not None else "the tool tip"
        raise UserError(f"{what} was seen in {len(views)} poses of the arm, at least {fewest} are needed")
    _check_motion(robot, views)
    fit = solve(robot, camera, views, card)
    worst = [i for i, value in enumerate(fit.strangeness) if value > OUTLIER]
    if worst and len(worst) <= MOST_OUTLIERS * len(views) and len(views) - len(worst) >= fewest:
        kept = [view for i, view in enumerate(views) if i not in worst]
        fit = solve(robot, camera, kept, card, start=fit)
    else:
        worst = []
    _check_fit(robot, camera, views, card, fit)
    return replace(fit.result, dropped=tuple(worst))


def _check_motion(robot: Robot, views: Sequence[ArmView]) -> None:
    poses = [tool_pose(robot.model, view.joints) for view in views]
    places = np.array([position for position, _ in poses])
    turns = Rotation.from_matrix(np.array([rotation for _, rotation in poses]))
    turned = max(float(np.degrees((turns[i].inv() * turns).magnitude().max())) for i in range(len(views)))
    moved = float(np.linalg.norm(places[:, None] - places, axis=-1).max())
    seen = np.array([view.pixels.mean(axis=0) for view in views])
    if moved >= MOVE and float(np.ptp(seen, axis=0).max()) < 3.0:
        raise UserError(
            f"the tool moved by {100 * moved:.0f} cm and stayed where it is in the picture: this camera moves with "
            "the arm; a cameras file describes cameras that stand still, so only its lens can be calibrated"
        )
    if moved < MOVE or turned < TURN:
        raise UserError(
            f"the tool moved by {100 * moved:.0f} cm and turned by {turned:.0f}° between the views; at least "
            f"{100 * MOVE:.0f} cm and {TURN:.0f}° are needed to tell where the camera stands"
        )


@dataclass(frozen=True, eq=False)
class Solution:
    """A solution with what judging it takes: `strangeness` (views,) is each view's error in standard deviations."""

    result: PoseFit
    strangeness: Array
    size_deviation: float
    known: Array
    """Information (inverse covariance) of all unknowns."""

    def information(
        self, robot: Robot, camera: CameraModel, card: Card, poses: Sequence[Array]
    ) -> tuple[Array, list[Array]]:
        """What is known already, and what a view of each of `poses` (n,) rad would add to it."""
        nothing = np.zeros((len(card.corners), 2))
        # From which side each joint will come is not decided yet: no matter for the choice.
        sides = np.ones(robot.n) if len(self.known) > 13 + len(robot.arm[1:-1]) else None
        problem = _Problem(robot, camera, [ArmView(q, nothing, sides) for q in poses], card, False)
        problem.base = self.result.camera.camera_to_base, self.result.held
        x = np.zeros(problem.size)
        problem.weigh(x)
        step, rows = 1e-5, 2 * len(card.corners)
        columns = []
        for i in range(problem.size):
            moved = [problem.residuals(x + sign * step * np.eye(problem.size)[i]) for sign in (1.0, -1.0)]
            columns.append((moved[0] - moved[1])[: rows * len(poses)] / (2 * step))
        slopes = np.stack(columns, axis=-1).reshape(len(poses), rows, -1)
        return self.known, [one.T @ one for one in slopes]


def reliable(camera: CameraModel, card: Card, pixels: Array) -> bool:
    """Whether four corners (4, 2) px can be those of a square: one that something hides is taken for elsewhere."""
    done, turn, shift = cv2.solvePnP(
        card.corners, pixels, camera.matrix, camera.distortion, flags=cv2.SOLVEPNP_IPPE_SQUARE
    )
    if not done:
        return False
    turn, shift = cv2.solvePnPRefineLM(card.corners, pixels, camera.matrix, camera.distortion, turn, shift)
    found, _ = cv2.projectPoints(card.corners, turn, shift, camera.matrix, camera.distortion)
    return bool(np.sqrt(np.mean((found.reshape(-1, 2) - pixels) ** 2)) < SQUARE)


def first_sight(robot: Robot, camera: CameraModel, views: Sequence[ArmView], card: Card) -> "Sight":
    """Where the camera may stand, from few views, one even, if the card is held about as it should be."""
    problem = _Problem(robot, camera, views, card, False)
    return Sight(*problem.guesses()[0])


@dataclass(frozen=True, eq=False)
class Sight:
    """Where a camera is believed to stand, and how the card to be held: poses (4, 4) in the base and the tool frame."""

    camera: Array
    held: Array

    def side(self, robot: Robot, lens: CameraModel, card: Card, q: Array) -> float:
        """px: the marker's shortest side with the arm at `q` (n,) rad; 0 where it is turned away or out of sight."""
        tool = np.eye(4)
        tool[:3, 3], tool[:3, :3] = tool_pose(robot.model, q)
        pose = _inverse(self.camera) @ tool @ self.held
        away = -pose[:3, 3]
        if pose[:3, 2] @ away < FACING * np.linalg.norm(away):
            return 0.0
        pixels = lens.project_local(card.corners @ pose[:3, :3].T + pose[:3, 3])
        size = (lens.width - 1 - EDGE, lens.height - 1 - EDGE)
        return shortest_side(pixels) if (pixels > EDGE).all() and (pixels < size).all() else 0.0


def shortest_side(pixels: Array) -> float:
    """px, of a marker's corners (4, 2)."""
    return float(np.linalg.norm(pixels - np.roll(pixels, 1, axis=0), axis=1).min())


def _check_fit(
    robot: Robot, camera: CameraModel, views: Sequence[ArmView], card: Card | None, fit: Solution
) -> None:
    found = fit.result
    if card is not None:
        off = found.size / card.size - 1
        if abs(off) > MARKER_OFF and abs(off) > 3 * fit.size_deviation:
            raise UserError(
                f"the marker is {1000 * found.size:.1f} mm wide by what the arm and the lens say, not "
                f"{1000 * card.size:g} mm: measure the black square and give --marker MM; if it is right, the lens "
                "is calibrated for another zoom or size, or the robot is not this one"
            )
    if not found.metres < WORST:
        reason = "does the marker sit firmly in the gripper, does the camera stand still, and is the arm calibrated?"
        if card is not None and _mounted_is_better(robot, camera, views, card, found):
            reason = (
                "everything fits much better if the camera moves with the arm and the marker stands still; a cameras "
                "file describes cameras that stand still, so only the lens of this one can be calibrated"
            )
        raise UserError(
            f"what the camera saw and where the arm was differ by {1000 * found.metres:.1f} mm rms "
            f"({found.pixels:.1f} px), {1000 * WORST:g} mm are allowed: {reason}"
        )
    _check_deviation(found)


def fit_points(camera: CameraModel, points: Array, pixels: Array) -> PoseFit:
    """From known places: `points` (k, 3) m in the base frame, seen at `pixels` (k, 2). The arm takes no part in it.

    Raises UserError as `fit_pose` does.
    """
    if len(points) < FEWEST:
        raise UserError(f"{len(points)} points are given, at least {FEWEST} are needed")
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False) / math.sqrt(len(points))
    if spread[1] < MOVE / 2:
        raise UserError(
            f"the points lie on a line but for {1000 * spread[1]:.0f} mm: a camera could stand anywhere around it; "
            "take points all over the workspace"
        )
    done, turn, shift = cv2.solvePnP(
        points.copy(), pixels.copy(), camera.matrix, camera.distortion, flags=cv2.SOLVEPNP_SQPNP
    )
    if not done:
        raise UserError("no camera pose explains the points")
    start = _inverse(_matrix(turn, shift))

    def missed(x: Array) -> Array:
        back = _inverse(start @ _step(x))
        local = points @ back[:3, :3].T + back[:3, 3]
        depth = np.maximum(local[:, 2:], 1e-3)
        seen = camera.project_local(np.concatenate([np.clip(local[:, :2], -2 * depth, 2 * depth), depth], -1))
        return np.asarray(seen - pixels)

    found = least_squares(lambda x: missed(x).ravel(), np.zeros(6), loss="soft_l1")
    pose, distance = start @ _step(found.x), np.linalg.norm(missed(found.x), axis=1)
    away = np.linalg.norm(points - pose[:3, 3], axis=1) / math.sqrt(camera.fx * camera.fy)
    # Clicks are no better than a pixel, however well few of them agree.
    variance = max(float(np.sum(distance**2)) / (2 * len(points) - 6), 1.0)
    covariance = np.linalg.pinv(found.jac.T @ found.jac) * variance
    fit = PoseFit(
        replace(camera, camera_to_base=pose), np.eye(4), math.nan, np.zeros(0), np.zeros(0),
        _largest(covariance[3:, 3:]), math.degrees(_largest(covariance[:3, :3])), float(np.sqrt(np.mean(distance**2))),
        float(np.sqrt(np.mean((distance * away) ** 2))), distance,
    )  # fmt: skip
    if not fit.metres < WORST:
        worst = int(np.argmax(distance))
        raise UserError(
            f"the points differ by {1000 * fit.metres:.1f} mm rms ({fit.pixels:.1f} px) from where they were seen, "
            f"{1000 * WORST:g} mm are allowed; number {worst + 1} is the worst ({distance[worst]:.0f} px off)"
        )
    _check_deviation(fit)
    return fit


def _check_deviation(found: PoseFit) -> None:
    if not (found.position_deviation < UNSURE[0] and found.rotation_deviation < UNSURE[1]):
        raise UserError(
            f"the views leave the camera's place open by {1000 * found.position_deviation:.1f} mm and "
            f"{found.rotation_deviation:.2f}°, {1000 * UNSURE[0]:g} mm and {UNSURE[1]:g}° are allowed: take more "
            "views, further apart and turned differently"
        )


# Solving


def solve(
    robot: Robot,
    camera: CameraModel,
    views: Sequence[ArmView],
    card: Card | None,
    *,
    start: Solution | None = None,
    mounted: bool = False,
) -> Solution:
    """The solution nearest to `start` (or found from nothing), however bad. `mounted`: as if the camera were on
    the arm and the marker stood still. Raises Sim2RealError when nothing can be found."""
    problem = _Problem(robot, camera, views, card, mounted)
    starts = problem.starts() if start is None else [(start.result.camera.camera_to_base, start.result.held)]
    best: tuple[float, Array, tuple[Array, Array]] | None = None
    for one in starts:
        problem.base = one
        # Far off, a few views must not decide.
        found = least_squares(problem.residuals, np.zeros(problem.size), loss="soft_l1", max_nfev=60)
        if np.isfinite(found.cost) and (best is None or found.cost < best[0]):
            best = found.cost, found.x, one
    if best is None:
        raise Sim2RealError("no camera pose explains what was seen")
    _, x, problem.base = best
    for _ in range(2):
        problem.weigh(x)
        found = least_squares(problem.residuals, x, loss="soft_l1", max_nfev=100)
        x = found.x
    return problem.solution(x, found.jac)


class _Problem:
    """The residuals as a function of: C (6), X (6; of a point 3), log size (of a card 1), zeros (k), play (m)."""

    def __init__(
        self, robot: Robot, camera: CameraModel, views: Sequence[ArmView], card: Card | None, mounted: bool
    ) -> None:
        self.robot, self.lens, self.views, self.card, self.mounted = robot, camera, views, card, mounted
        self.points = np.zeros((1, 3)) if card is None else card.corners
        self.seen = np.array([view.pixels for view in views])
        self.joints = np.array([view.joints for view in views])
        # The first zero turns the whole world, the last turns the marker in the gripper: neither can be seen.
        self.free = robot.arm[1:-1]
        self.held_size = 6 if card is not None else 3
        nobody = np.zeros(robot.n)
        self.approach = np.array([nobody if view.approach is None else view.approach for view in views])
        known = robot.arm if self.approach.any() else robot.arm[:0]
        self.playing = known
        self.size = 6 + self.held_size + (card is not None) + len(self.free) + len(self.playing)
        self.base: tuple[Array, Array] = (np.eye(4), np.eye(4))
        self._whiten = np.tile(np.eye(2 * len(self.points)) / 2.0, (len(views), 1, 1))

    def starts(self) -> list[tuple[Array, Array]]:
        """Guesses of C and X."""
        tools = self._tools(np.zeros(len(self.free) + len(self.playing)))
        matrix, distortion = self.lens.matrix, self.lens.distortion
        if self.card is None:
            done, turn, shift = cv2.solvePnP(
                tools[:, :3, 3].copy(), self.seen[:, 0], matrix, distortion, flags=cv2.SOLVEPNP_SQPNP
            )
            return [(_inverse(_matrix(turn, shift)), np.eye(4))] if done else []
        markers = self._markers()
        return self._hand_eye(tools, np.array([one[0] for one in markers])) + self._nominal(tools, markers)

    def guesses(self) -> list[tuple[Array, Array]]:
        """C and X as a few views of a card suggest them."""
        return self._nominal(self._tools(np.zeros(len(self.free) + len(self.playing))), self._markers())

    def _markers(self) -> list[list[Array]]:
        """By view the marker's poses (4, 4) in the camera's frame: flat ones have two that look alike."""
        markers = []
        for pixels in self.seen:
            _, turns, shifts, _ = cv2.solvePnPGeneric(
                self.points, pixels, self.lens.matrix, self.lens.distortion, flags=cv2.SOLVEPNP_IPPE_SQUARE
            )
            markers.append([_matrix(turn, shift) for turn, shift in zip(turns, shifts)])
        return markers

    def _hand_eye(self, tools: Array, markers: Array) -> list[tuple[Array, Array]]:
        """The closed forms of Shah and of Li, Wang and Wu: as for a camera in the hand, base and gripper exchanged."""
        if len(self.views) < 3:
            return []
        found = []
        for method in (cv2.CALIB_ROBOT_WORLD_HAND_EYE_SHAH, cv2.CALIB_ROBOT_WORLD_HAND_EYE_LI):
            try:
                turn, shift, other, place = cv2.calibrateRobotWorldHandEye(
                    list(markers[:, :3, :3]), list(markers[:, :3, 3]), list(tools[:, :3, :3]),
                    list(tools[:, :3, 3]), method=method,
                )  # fmt: skip
            except cv2.error:
                continue  # it does not converge for views that contradict each other
            held, seen = _inverse(_rigid(turn, shift)), _inverse(_rigid(other, place))
            if np.isfinite(held).all() and np.isfinite(seen).all():
                found.append((seen, held))
        return found

    def _nominal(self, tools: Array, markers: list[list[Array]]) -> list[tuple[Array, Array]]:
        """Every way to hold the card in which it points out of the gripper, with the camera where the first views
        then put it."""
        assert self.card is not None
        ways = [
            nominal_hold(self.card, quarter, turned)
            for quarter in range(4)
            for turned in (0.0, math.pi / 2, math.pi, -math.pi / 2)
        ]
        guesses = [
            (tools[i] @ way @ _inverse(marker), way)
            for i in range(min(len(markers), 3))
            for marker in markers[i]
            for way in ways
        ]

        def cost(guess: tuple[Array, Array]) -> float:
            self.base = guess
            return float(np.minimum(np.abs(self.residuals(np.zeros(self.size))), 200.0).sum())

        # Where few views allow several, the earlier one: as the card should be held.
        costs = [cost(guess) + 1e-6 * place for place, guess in enumerate(guesses)]
        return [guesses[i] for i in np.argsort(costs)[:3]]

    def _tools(self, shifts: Array) -> Array:
        """(views, 4, 4) with the joints' zeros and play, (k + m,) rad."""
        joints, split = self.joints.copy(), len(self.free)
        joints[:, self.free] += shifts[:split]
        joints[:, self.playing] += self.approach[:, self.playing] * shifts[split:]
        poses = np.tile(np.eye(4), (len(joints), 1, 1))
        for pose, q in zip(poses, joints):
            pose[:3, 3], pose[:3, :3] = tool_pose(self.robot.model, q)
        return np.array([_inverse(pose) for pose in poses]) if self.mounted else poses

    def unpack(self, x: Array) -> tuple[Array, Array, float, Array]:
        """C (4, 4), X (4, 4), the factor on the card's size, zeros and play (k + m,)."""
        at = 6 + self.held_size
        camera = self.base[0] @ _step(x[:6])
        held = self.base[1] @ _step(
            x[6:at] if self.held_size == 6 else np.concatenate([np.zeros(3), x[6:at]])
        )
        size = math.exp(min(max(x[at], -2.0), 2.0)) if self.card is not None else 1.0
        return camera, held, size, x[at + (self.card is not None) :]

    def _predict(self, x: Array, joints: Array | None = None) -> Array:
        """(views, k, 2) px."""
        camera, held, size, zeros = self.unpack(x)
        tools = self._tools(zeros)
        return self._project(camera, tools, held, size)

    def _project(self, camera: Array, tools: Array, held: Array, size: float) -> Array:
        points = (size * self.points) @ held[:3, :3].T + held[:3, 3]
        placed = np.einsum("vij,kj->vki", tools[:, :3, :3], points) + tools[:, None, :3, 3]
        back = _inverse(camera)
        local = placed @ back[:3, :3].T + back[:3, 3]
        # On the way to the solution points may be behind the camera, where no pixels are.
        depth = np.maximum(local[..., 2:], 1e-3)
        return self.lens.project_local(
            np.concatenate([np.clip(local[..., :2], -2 * depth, 2 * depth), depth], -1)
        )

    def residuals(self, x: Array) -> Array:
        missed = (self._predict(x) - self.seen).reshape(len(self.views), -1)
        white = np.einsum("vij,vj->vi", self._whiten, missed).ravel()
        at = 6 + self.held_size
        shifts, split = x[at + (self.card is not None) :], len(self.free)
        prior = [shifts[:split] / ZERO_PRIOR, shifts[split:] / PLAY]
        if self.card is not None:
            prior.append(x[at : at + 1] / MARKER_PRIOR)
        return np.concatenate([white, *prior])

    def weigh(self, x: Array) -> None:
        """Weight the views' pixels by what noise and play, at this solution, do to them."""
        camera, held, size, zeros = self.unpack(x)
        plain = self._predict(x)
        moved = []
        for joint in self.robot.arm:
            kept = self.joints.copy()
            self.joints[:, joint] += np.where(self.approach[:, joint] == 0.0, PLAY, LEFT)
            moved.append(
                (self._project(camera, self._tools(zeros), held, size) - plain).reshape(len(plain), -1)
            )
            self.joints = kept
        slopes = np.stack(moved, axis=-1)
        covariance = np.einsum("vij,vkj->vik", slopes, slopes) + PIXEL**2 * np.eye(slopes.shape[1])
        self._whiten = np.linalg.inv(np.linalg.cholesky(covariance))

    def solution(self, x: Array, jacobian: Array) -> Solution:
        camera, held, size, zeros = self.unpack(x)
        white = self.residuals(x)[: 2 * self.seen.shape[0] * self.seen.shape[1]]
        # More scatter than expected makes everything less sure; less does not make it surer.
        scatter = max(float(white @ white) / max(len(white) - 6 - self.held_size, 1), 1.0)
        covariance = np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-12) * scatter
        missed = np.linalg.norm(self._predict(x) - self.seen, axis=-1)
        tools = self._tools(zeros)
        points = np.einsum("vij,j->vi", tools[:, :3, :3], held[:3, 3]) + tools[:, :3, 3]
        distance = np.linalg.norm(points - camera[:3, 3], axis=1)
        focal = math.sqrt(self.lens.fx * self.lens.fy)
        offsets, play = np.zeros(self.robot.n), np.zeros(self.robot.n)
        offsets[self.free], play[self.playing] = zeros[: len(self.free)], zeros[len(self.free) :]
        at = 6 + self.held_size
        return Solution(
            PoseFit(
                camera=replace(self.lens, camera_to_base=camera),
                held=held,
                size=size * self.card.size if self.card is not None else math.nan,
                zeros=offsets,
                play=play,
                position_deviation=_largest(covariance[3:6, 3:6]),
                rotation_deviation=math.degrees(_largest(covariance[:3, :3])),
                pixels=float(np.sqrt(np.mean(missed**2))),
                metres=float(np.sqrt(np.mean((missed * distance[:, None] / focal) ** 2))),
                view_pixels=np.sqrt(np.mean(missed**2, axis=1)),
            ),
            np.sqrt(np.mean(white.reshape(len(self.views), -1) ** 2, axis=1)),
            math.sqrt(covariance[at, at]) if self.card is not None else math.nan,
            jacobian.T @ jacobian,
        )


def _mounted_is_better(
    robot: Robot, camera: CameraModel, views: Sequence[ArmView], card: Card, found: PoseFit
) -> bool:
    try:
        return solve(robot, camera, views, card, mounted=True).result.pixels < 0.3 * found.pixels
    except (Sim2RealError, cv2.error, np.linalg.LinAlgError):
        return False


def nominal_hold(card: Card, quarter: int = 0, turned: float = 0.0) -> Array:
    """(4, 4): the card in the tool frame, its tab in the gripper, facing −x of the tool; `turned` about the way out
    of the gripper, rad, and the marker by `quarter` turns on the card."""
    pose = np.eye(4)
    pose[:3, :3] = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    pose[:3, 3] = (0.0, 0.0, card.size / 2 + card.margin)
    pose[:3, :3] = Rotation.from_rotvec([0.0, 0.0, turned]).as_matrix() @ pose[:3, :3]
    pose[:3, :3] = pose[:3, :3] @ Rotation.from_rotvec([0.0, 0.0, quarter * math.pi / 2]).as_matrix()
    return pose


def _matrix(turn: ArrayLike, shift: ArrayLike) -> Array:
    return _rigid(Rotation.from_rotvec(np.ravel(turn)).as_matrix(), shift)


def _rigid(rotation: ArrayLike, shift: ArrayLike) -> Array:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, np.ravel(shift)
    return pose


def _inverse(pose: Array) -> Array:
    """Of a rotation and a shift; what OpenCV calls one may be skewed by a little."""
    return np.asarray(np.linalg.inv(pose), dtype=np.float64)


def _step(x: Array) -> Array:
    """(4, 4) from a rotation vector and a shift."""
    return _matrix(x[:3], x[3:])


def _largest(covariance: NDArray[np.floating[Any]]) -> float:
    return math.sqrt(max(float(np.linalg.eigvalsh(covariance)[-1]), 0.0))
