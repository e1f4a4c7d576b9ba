"""Where a camera stands, from synthetic views of an arm whose truth is known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hardware.commissioning.board import Card
from hardware.commissioning.camera_pose import ArmView, fit_points, fit_pose, nominal_hold, reliable
from sim2real.camera import CameraModel
from sim2real.errors import UserError
from sim2real.model.kinematics import tool_pose
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
CARD = Card()
TRUTH = CameraModel.looking_at((0.58, 0.33, 0.35), (0.2, 0.0, 0.1))
LENS = CameraModel.looking_at((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
"""Where it is said to stand is nowhere near."""


def held(seed: int) -> np.ndarray:
    """The card in the gripper, not quite as it should be."""
    rng = np.random.default_rng(seed)
    pose = nominal_hold(CARD)
    pose[:3, :3] = pose[:3, :3] @ Rotation.from_rotvec(rng.uniform(-0.3, 0.3, 3)).as_matrix()
    pose[:3, 3] += rng.uniform(-0.01, 0.01, 3)
    return pose


def tool(q: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3], pose[:3, :3] = tool_pose(ROBOT.model, q)
    return pose


def make_views(
    count: int = 20,
    *,
    card: Card | None = CARD,
    size: float = 1.0,
    offsets: float = 0.0,
    play: float = 0.0,
    noise: float = 0.2,
    reach: float = 1.0,
    mounted: bool = False,
    seed: int = 0,
) -> list[ArmView]:
    """What `TRUTH` sees of the arm in poses around home; `offsets` rad of the zeros but the first's and last's."""
    rng = np.random.default_rng(seed)
    zeros = np.zeros(ROBOT.n)
    zeros[1:4] = offsets * np.array([1.0, -0.7, 0.6])
    grip = held(seed) if card is not None else np.eye(4)
    points = np.zeros((1, 3)) if card is None else size * card.corners
    if card is None:
        grip[:3, 3] = (0.0, 0.004, 0.006)
    views: list[ArmView] = []
    while len(views) < count:
        q = ROBOT.home + reach * rng.uniform(-1, 1, ROBOT.n) * (0.8, 0.6, 0.6, 0.9, 1.2, 0.0)
        if mounted:
            eye = tool(q) @ np.linalg.inv(tool(ROBOT.home)) @ TRUTH.camera_to_base
            camera = CameraModel(**{**vars_of(TRUTH), "camera_to_base": eye})
            placed = points @ (tool(ROBOT.home) @ grip)[:3, :3].T + (tool(ROBOT.home) @ grip)[:3, 3]
        else:
            pose, camera = tool(q) @ grip, TRUTH
            placed = points @ pose[:3, :3].T + pose[:3, 3]
            away = camera.position - pose[:3, 3]
            if card is not None and pose[:3, 2] @ away < 0.5 * np.linalg.norm(away):
                continue
        pixels = camera.project(placed)
        if not camera.contains(pixels).all():
            continue
        read = q + zeros + rng.uniform(-play, play, ROBOT.n)
        views.append(ArmView(read, pixels + rng.normal(0, noise, pixels.shape)))
    return views


def test_play_is_told_from_zeros_where_directions_are_known() -> None:
    """Bang-bang play of 0.3° either way: unknown it costs millimetres, known next to nothing."""
    rng = np.random.default_rng(3)
    half, views = 0.005, []
    for view in make_views(24, offsets=0.014, noise=0.05):
        side = np.zeros(ROBOT.n)
        side[ROBOT.arm] = rng.choice([-1.0, 1.0], len(ROBOT.arm))
        views.append(ArmView(view.joints - half * side, view.pixels, side))
    known = fit_pose(ROBOT, LENS, views, CARD)
    unknown = fit_pose(ROBOT, LENS, [ArmView(view.joints, view.pixels) for view in views], CARD)
    assert apart(known.camera, TRUTH)[0] < min(0.001, 0.7 * apart(unknown.camera, TRUTH)[0])
    assert known.position_deviation < 0.6 * unknown.position_deviation
    np.testing.assert_allclose(known.play[:4], half, atol=0.001)
    assert not unknown.play.any()


def test_a_square_with_one_corner_elsewhere_is_not_reliable() -> None:
    (view,) = make_views(1, noise=0.05)
    assert reliable(LENS, CARD, view.pixels)
    hidden = view.pixels.copy()
    hidden[1] += (1.5, -1.0)
    assert not reliable(LENS, CARD, hidden)


def test_points_of_known_places() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform((0.1, -0.2, 0.0), (0.4, 0.2, 0.2), (12, 3))
    pixels = TRUTH.project(points)
    assert apart(fit_points(LENS, points, pixels).camera, TRUTH)[0] < 1e-6
    fit = fit_points(LENS, points, pixels + rng.normal(0, 0.5, pixels.shape))
    metres, degrees = apart(fit.camera, TRUTH)
    assert metres < 4 * fit.position_deviation < 0.03 and degrees < 4 * fit.rotation_deviation
    flat = points * (1.0, 1.0, 0.0)
    assert apart(fit_points(LENS, flat, TRUTH.project(flat)).camera, TRUTH)[0] < 1e-6
    line = np.linspace((0.1, 0.0, 0.0), (0.4, 0.1, 0.1), 12)
    for wrong, at, message in (
        (points[:5], pixels[:5], "5 points are given, at least 6"),
        (line, TRUTH.project(line), "lie on a line"),
        (points, np.roll(pixels, 1, axis=0), "differ by .* mm rms .* number"),
    ):
        with pytest.raises(UserError, match=message):
            fit_points(LENS, wrong, at)


def vars_of(camera: CameraModel) -> dict:  # type: ignore[type-arg]
    return {name: getattr(camera, name) for name in ("width", "height", "fx", "fy", "cx", "cy", "distortion")}


def apart(found: CameraModel, truth: CameraModel) -> tuple[float, float]:
    """m and degrees."""
    turn = Rotation.from_matrix(found.rotation.T @ truth.rotation).magnitude()
    return float(np.linalg.norm(found.position - truth.position)), float(np.degrees(turn))


@pytest.mark.parametrize("seed", range(6))
def test_an_arm_with_wrong_zeros_and_play_tells_where_the_camera_stands(seed: int) -> None:
    views = make_views(28, offsets=0.014, play=0.006, size=1.006, seed=seed)
    fit = fit_pose(ROBOT, LENS, views, CARD)
    metres, degrees = apart(fit.camera, TRUTH)
    assert metres < 0.004 and degrees < 0.4
    assert metres < 4 * fit.position_deviation and degrees < 4 * fit.rotation_deviation
    assert fit.metres < 0.003 and not fit.dropped


def test_exact_views_give_the_exact_place() -> None:
    fit = fit_pose(ROBOT, LENS, make_views(8, noise=0.0), CARD)
    metres, degrees = apart(fit.camera, TRUTH)
    assert metres < 1e-5 and degrees < 1e-3 and fit.size == pytest.approx(CARD.size, rel=1e-5)
    np.testing.assert_allclose(fit.held, held(0), atol=1e-5)


def test_zeros_are_found() -> None:
    fit = fit_pose(ROBOT, LENS, make_views(25, offsets=0.014, noise=0.1), CARD)
    np.testing.assert_allclose(fit.zeros[1:4], -0.014 * np.array([1.0, -0.7, 0.6]), atol=0.003)


def test_the_tool_tip_alone_does_with_more_views() -> None:
    fit = fit_pose(ROBOT, LENS, make_views(40, card=None, noise=0.5), None)
    metres, degrees = apart(fit.camera, TRUTH)
    assert metres < 0.006 and degrees < 0.6 and np.isnan(fit.size)
    np.testing.assert_allclose(fit.held[:3, 3], (0.0, 0.004, 0.006), atol=0.002)


def test_one_view_that_contradicts_all_others_is_left_out() -> None:
    views = make_views(16)
    views[5] = ArmView(views[5].joints, views[5].pixels + 30.0)
    fit = fit_pose(ROBOT, LENS, views, CARD)
    assert fit.dropped == (5,) and apart(fit.camera, TRUTH)[0] < 0.003


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (make_views(5), "seen in 5 poses of the arm, at least 6"),
        (make_views(11, card=None), "tool tip was seen in 11 poses of the arm, at least 12"),
        (make_views(12, reach=0.05), "moved by .* cm and turned by"),
        (make_views(16, size=0.8), r"marker is 40\.\d mm wide .*not 50 mm: measure"),
    ],
)
def test_what_cannot_be_right_is_refused(views: list[ArmView], message: str) -> None:
    card = None if views[0].pixels.shape == (1, 2) else CARD
    with pytest.raises(UserError, match=message):
        fit_pose(ROBOT, LENS, views, card)


def test_views_of_other_poses_are_refused() -> None:
    views = make_views(8)
    mixed = [ArmView(one.joints, other.pixels) for one, other in zip(views, views[3:] + views[:3])]
    with pytest.raises(UserError, match="differ by .* mm rms .* are allowed|marker is"):
        fit_pose(ROBOT, LENS, mixed, CARD)


def test_a_camera_on_the_arm_is_recognized() -> None:
    still = [ArmView(one.joints, make_views(1)[0].pixels) for one in make_views(10)]
    with pytest.raises(UserError, match="moves with the arm"):
        fit_pose(ROBOT, LENS, still, CARD)
    with pytest.raises(UserError, match="moves with the arm and the marker stands still"):
        fit_pose(ROBOT, LENS, make_views(8, mounted=True), CARD)
