"""The emulated camera's pictures against geometry."""

import numpy as np
import pytest

from hardware.drawing.picture import OBJECT, Picture
from hardware.drawing.raster import box, cylinder, disc, rectangle, sphere, urdf_meshes
from sim2real.camera import CameraModel
from sim2real.model.kinematics import tool_position
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task

ROBOT = Robot.load("so101")
OBJECTS = load_task("push").objects
VALUES = {
    "light.azimuth": 0.6,
    "light.elevation": 1.0,
    "light.ambient": 0.55,
    "light.diffuse": 0.45,
    "camera.white_balance": 0.0,
    "camera.exposure": 0.0,
    "camera.noise": 0.0,
}
ABOVE = CameraModel.looking_at((0.2, 0.0, 0.8), (0.2, 0.0, 0.0))


def _pose(cube: tuple[float, float] | None = None, mark: tuple[float, float] | None = None) -> np.ndarray:
    pose = np.full(ROBOT.n + 2 * OBJECT, np.nan)
    pose[: ROBOT.n] = ROBOT.home
    rows = pose[ROBOT.n :].reshape(2, OBJECT)
    if cube is not None:
        rows[0] = [*cube, 0.0125, *np.eye(3).ravel(), 0.025]
    if mark is not None:
        rows[1] = [*mark, 0.0, *np.eye(3).ravel(), 0.03]
    return pose


def _middle(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])


def test_cube_and_mark_are_where_they_should_be() -> None:
    image = (
        Picture(ROBOT, ABOVE, VALUES, OBJECTS).draw(_pose(cube=(0.25, 0.15), mark=(0.2, -0.2))).astype(int)
    )
    red = (image[..., 0] > 100) & (image[..., 1] < 60)
    green = (image[..., 1] > 90) & (image[..., 0] < 60)
    assert np.abs(_middle(green) - ABOVE.project((0.2, -0.2, 0.0))).max() < 0.5
    assert np.abs(_middle(red) - ABOVE.project((0.25, 0.15, 0.0125))).max() < 2.5
    # A disc of 3 cm seen from straight above.
    radius = np.sqrt(green.sum() / np.pi)
    expected = np.linalg.norm(ABOVE.project((0.23, -0.2, 0.0)) - ABOVE.project((0.2, -0.2, 0.0)))
    assert radius == pytest.approx(expected, rel=0.02)


def test_nothing_is_drawn_that_is_not_there() -> None:
    image = Picture(ROBOT, ABOVE, VALUES, OBJECTS).draw(_pose()).astype(int)
    assert not ((image[..., 0] > 100) & (image[..., 1] < 60)).any()
    assert not ((image[..., 1] > 90) & (image[..., 0] < 60)).any()


def test_the_arm_hides_what_is_behind_it_and_moves() -> None:
    picture = Picture(ROBOT, ABOVE, VALUES, OBJECTS)
    tool = tool_position(ROBOT.model, ROBOT.home)
    hidden = picture.draw(_pose(cube=(float(tool[0]), float(tool[1])))).astype(int)
    assert ((hidden[..., 0] > 100) & (hidden[..., 1] < 60)).sum() < 300
    moved = _pose()
    moved[0] = 0.8
    assert (picture.draw(moved) != picture.draw(_pose())).any(axis=-1).mean() > 0.01


def test_shadows_fall_on_the_table_only() -> None:
    low = VALUES | {"light.elevation": 0.7, "light.azimuth": 0.0}
    image = Picture(ROBOT, ABOVE, low, OBJECTS).draw(_pose(cube=(0.3, 0.2))).astype(int)
    lit = image[5, 5].sum()
    # Light comes from +x, so the shadow lies beside the cube towards −x.
    x, y = ABOVE.project((0.3 - 0.018, 0.2, 0.0)).round().astype(int)
    assert image[y, x].sum() < 0.8 * lit
    x, y = ABOVE.project((0.3 + 0.018, 0.2, 0.0)).round().astype(int)
    assert image[y, x].sum() == lit


def test_exposure_and_noise() -> None:
    plain = Picture(ROBOT, ABOVE, VALUES, OBJECTS).draw(_pose())
    dark = Picture(ROBOT, ABOVE, VALUES | {"camera.exposure": -1.0}, OBJECTS).draw(_pose())
    assert dark.mean() == pytest.approx(plain.mean() / 2, rel=0.03)
    noisy = Picture(ROBOT, ABOVE, VALUES | {"camera.noise": 0.02}, OBJECTS).draw(_pose()).astype(float)
    corner = noisy[:40, :40, 1]
    assert corner.std() == pytest.approx(255 * 0.02, rel=0.15)


@pytest.mark.parametrize(
    ("mesh", "volume"),
    [
        (box((0.1, 0.2, 0.3), (1, 1, 1)), 0.006),
        (cylinder(0.1, 0.5, (1, 1, 1), sides=200), np.pi * 0.005),
        (sphere(0.1, (1, 1, 1), rings=60, sides=120), 4 / 3 * np.pi * 0.001),
    ],
)
def test_shapes_face_outward_and_enclose_their_volume(mesh: object, volume: float) -> None:
    a, b, c = (mesh.triangles[:, i] for i in range(3))  # type: ignore[attr-defined]
    assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6 == pytest.approx(volume, rel=0.01)


def test_flat_shapes_face_up() -> None:
    for mesh in (disc(0.1, (1, 1, 1)), rectangle((0, 1), (0, 1), (1, 1, 1), cells=3)):
        a, b, c = (mesh.triangles[:, i] for i in range(3))
        assert (np.cross(b - a, c - a)[:, 2] > 0).all()


def test_every_visual_shape_is_carried_by_a_joint_or_the_base() -> None:
    meshes = urdf_meshes(ROBOT.urdf, ROBOT.joint_names)
    assert set(meshes) == {None, *ROBOT.joint_names}
