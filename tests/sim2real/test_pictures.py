"""What policies see of a camera: the same from a real picture as from the simulation's own camera."""

from dataclasses import replace

import numpy as np
import pytest

from sim2real.camera import CameraModel
from sim2real.errors import UserError
from sim2real.parameters import Draw
from sim2real.pictures import PictureInput, PictureTaker, find_cameras
from sim2real.robot import Robot
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

ROBOT = Robot.load("so101")
TABLE = PictureInput("front", 64, 96)
FRAME = PictureInput("front", 48, 48, "frame")


@pytest.fixture(scope="module")
def world():
    with World(ROBOT, load_task("lift")) as made:
        yield made


def seen(world: World, wanted: PictureInput) -> np.ndarray:
    return world.pictures([wanted])[wanted][0]


@pytest.mark.parametrize("wanted", [TABLE, FRAME])
def test_a_taken_picture_is_the_one_that_is_drawn(world: World, wanted: PictureInput) -> None:
    """Cut out of the whole picture, as on an arm, or drawn as it is cut out, as in training."""
    world.reset(Draw(seed=1, values={"light.shadow": 0.0, "camera.azimuth": 0.6, "camera.tilt": 0.04}))
    taken = PictureTaker(wanted, world.camera("front"))(world.render("front")).astype(float)
    drawn = seen(world, wanted).astype(float)
    assert taken.shape == drawn.shape == wanted.shape
    # Edges are drawn sharp and taken soft; nearly everything else is equal.
    assert np.median(abs(taken - drawn)) <= 2 and (abs(taken - drawn).max(axis=2) > 40).mean() < 0.03


def test_from_above_a_pixel_is_a_place_whatever_the_camera(world: World) -> None:
    """Two cameras that stand differently see the foot of the cube in one place."""
    centres = []
    for side in (0.68, 0.78):
        values = {
            "task.cube.radius": 0.22,
            "task.cube.angle": 0.3,
            "camera.azimuth": side,
            "camera.tilt": side - 0.73,
        }
        world.reset(Draw(seed=2, values=values | {"light.shadow": 0.0}))
        red = seen(world, TABLE).astype(float)
        red = (red[..., 0] > 1.8 * red[..., 1]) & (red[..., 0] > 60)
        places = TABLE.places()[red]
        # The end towards the camera is where it stands; the other leans away.
        centres.append(places[np.argsort(-places.sum(axis=1))[:8]].mean(axis=0))
    assert np.abs(centres[0] - centres[1]).max() < 0.006
    assert np.abs(np.mean(centres, axis=0) - world.truth().objects["cube"].position[:2]).max() < 0.02


def test_pictures_come_late_and_are_those_of_the_draw(world: World) -> None:
    values = {"detector.latency": 0.1, "camera.noise": 0.02, "texture.table": 0.1, "distractors.count": 3.0}

    def episode(seed: int) -> list[np.ndarray]:
        world.reset(Draw(seed=seed, values=values))
        found = [seen(world, TABLE)]
        for _ in range(6):
            world.advance(world.goal + 0.02, 10)
            found.append(seen(world, TABLE))
        return found

    first = episode(3)
    assert all(np.array_equal(a, b) for a, b in zip(first, episode(3)))
    assert any(not np.array_equal(a, b) for a, b in zip(first, episode(4)))
    # Where everybody stands still a while, an old picture and a new one show one thing; the arm has moved.
    world.reset(Draw(seed=5, values=values | {"camera.noise": 0.0}))
    old = seen(world, FRAME)
    world.advance(world.goal + 0.3, 10)
    assert np.array_equal(old, seen(world, FRAME))
    world.advance(None, 90)
    assert not np.array_equal(old, seen(world, FRAME))


def test_what_cannot_be_seen_is_refused() -> None:
    low = CameraModel.looking_at((0.5, 0.0, 0.03), (0.2, 0.0, 0.0))
    for wanted, camera, message in (
        (TABLE, low, "0.03 m over the table"),
        (TABLE, replace(low, link="gripper"), "carried by 'gripper'"),
        (
            replace(FRAME, height=512, width=512),
            replace(low, width=64, height=48, cx=31.5, cy=23.5),
            "larger",
        ),
    ):
        with pytest.raises(UserError, match=message):
            wanted.check(camera)
    with pytest.raises(UserError, match="there is side"):
        find_cameras([TABLE], {"side": low}, "the policy")
    with pytest.raises(UserError, match="its description says"):
        PictureTaker(FRAME, ROBOT.cameras["front"])(np.zeros((48, 64, 3), np.uint8))
    for changes in ({"height": 3}, {"view": "bird"}, {"area": (0.3, 0.1, 0.0, 0.1)}):
        with pytest.raises(UserError):
            replace(TABLE, **changes)


def test_a_small_picture_is_the_mean_of_the_large_one() -> None:
    camera = CameraModel.looking_at((0.5, 0.0, 0.4), (0.2, 0.0, 0.0), width=64, height=48)
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    taken = PictureTaker(PictureInput("front", 24, 24, "frame"), camera)(picture)
    expected = picture[:, 8:56].reshape(24, 2, 24, 2, 3).mean(axis=(1, 3))
    assert np.abs(taken - expected).max() <= 0.5
    larger = PictureTaker(PictureInput("front", 60, 80, "frame"), camera)(picture)
    assert set(map(tuple, larger.reshape(-1, 3))) <= set(map(tuple, picture.reshape(-1, 3)))


def test_a_picture_reads_back() -> None:
    for wanted in (TABLE, FRAME):
        assert PictureInput.from_table(wanted.table()) == wanted


# Photographs of a table


def striped() -> np.ndarray:
    """Red left, blue right, a white line across."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32, 0] = image[:, 32:, 2] = 200
    image[24] = 250
    return image


def test_a_photograph_by_a_known_camera_is_where_it_was_taken() -> None:
    """What the camera sees of the table is its own photograph; from above it is where it lies."""
    camera = ROBOT.cameras["front"]
    image = striped()
    with World(ROBOT, load_task("lift"), cameras={"front": camera}, backgrounds=[image]) as world:
        shown = []
        for seed in range(12):
            world.reset(Draw(seed=seed, values={"light.shadow": 0.0, "world.table_height": 0.0}))
            picture = world.render("front", 64, 48)
            red, _, blue = map(int, picture[2, 5])
            if red > 3 * blue + 60:
                shown.append(picture)
        assert 5 <= len(shown) < 12, "most episodes show the photograph, not all"
        same = np.abs(shown[0].astype(int) - image).max(axis=2) < 60
        assert same.mean() > 0.75, "all but the arm and the cube"
    with pytest.raises(UserError, match="proportions"):
        World(ROBOT, load_task("lift"), cameras={"front": camera}, backgrounds=[image[:, :40]])


def test_a_photograph_by_nobody_knows_whom_is_a_pattern() -> None:
    with World(ROBOT, load_task("lift"), backgrounds=[striped()]) as world:
        pictures = []
        for seed in (0, 1, 2, 3, 0):
            world.reset(Draw(seed=seed, values={"light.shadow": 0.0}))
            pictures.append(seen(world, TABLE))
    assert np.array_equal(pictures[0], pictures[-1])
    coloured = [p for p in pictures[:4] if (p.astype(int).max(axis=2) - p.min(axis=2) > 60).mean() > 0.5]
    assert len(coloured) >= 2 and not np.array_equal(coloured[0], coloured[1])
