"""Several objects of several kinds in one world."""

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.objects import ObjectSpec, Pose
from sim2real.observation import observed_names
from sim2real.parameters import Draw
from sim2real.simulation.world import World
from sim2real.task import Scene, Task
from sim2real.truth import Truth

OBJECTS = (
    ObjectSpec("cube", "cube", 0.025, "red", 0.02),
    ObjectSpec("brick", "block", (0.05, 0.02, 0.015), "blue", 0.03),
    ObjectSpec("can", "cylinder", (0.015, 0.05), "yellow", 0.03),
    ObjectSpec("ball", "ball", 0.015, "purple", 0.01),
    ObjectSpec("bowl", "bowl", (0.05, 0.03), "turquoise", 0.05),
    ObjectSpec("tray", "box", (0.08, 0.06, 0.02), "orange", 0.05),
    ObjectSpec("spot", "zone", 0.03, "green"),
)
APART = {
    "spot": Pose(0.2, 0.2),
    "tray": Pose(0.35, 0.05, 1.0),
    "bowl": Pose(0.3, -0.12),
    "ball": Pose(0.28, 0.16),
    "can": Pose(0.25, 0.0),
    "brick": Pose(0.2, -0.1, 0.5),
    "cube": Pose(0.2, 0.1, 0.3),
}


class Table(Task):
    name = "table"
    duration = 2.0
    features = ()
    stages = ("only",)
    objects = OBJECTS

    def setup(self, values: Mapping[str, float], rng: np.random.Generator) -> Scene:
        return Scene(np.zeros(3), APART)

    def satisfied(self, truth: Truth) -> bool:
        return False


@pytest.fixture(scope="module")
def table() -> Iterator[World]:
    with World("so101", Table()) as world:
        yield world


def numbers(world: World) -> np.ndarray:
    states = world.truth().objects.values()
    parts = [np.concatenate([s.position, s.quaternion, s.velocity, s.angular_velocity]) for s in states]
    return np.concatenate([*parts, world.position, *world.observe().values()])


def test_all_kinds_rest_on_the_table(table: World) -> None:
    table.reset()
    table.advance(None, 300)
    for name, state in table.truth().objects.items():
        assert state.position[2] == pytest.approx(state.spec.rest, abs=1e-4), name
        assert np.abs(state.velocity).max() < 1e-3 and np.abs(state.angular_velocity).max() < 1e-2, name
        np.testing.assert_allclose(state.position[:2], APART[name].xy, atol=1e-4)
        assert state.touches == (frozenset({"table"}) if state.spec.moves else frozenset())


def test_all_kinds_fall_onto_the_table(table: World) -> None:
    table.reset()
    raised = {name: Pose(p.x, p.y, p.yaw, 0.03) for name, p in APART.items() if name != "spot"}
    table.place(Scene(np.zeros(3), raised))
    table.advance(None, 900)
    truth = table.truth()
    assert list(truth.objects) == [spec.name for spec in OBJECTS[:-1]], "the zone is not in this scene"
    for name, state in truth.objects.items():
        assert state.position[2] == pytest.approx(state.spec.rest, abs=2e-4), name
        assert np.abs(state.velocity).max() < 1e-2, name


def test_a_bowl_holds_a_ball_and_a_block_carries_a_cube(table: World) -> None:
    table.reset()
    ball = Pose(APART["bowl"].x + 0.01, APART["bowl"].y, 0.0, 0.05)
    cube = Pose(*APART["brick"].xy, 0.5, 0.0152)
    table.place(Scene(np.zeros(3), {**APART, "ball": ball, "cube": cube}))
    table.advance(None, 900)
    objects = table.truth().objects
    assert "bowl" in objects["ball"].touches and "ball" in objects["bowl"].touches
    assert "table" not in objects["ball"].touches
    assert objects["cube"].touches == {"brick"} and "cube" in objects["brick"].touches


def test_a_rolling_ball_comes_to_rest(table: World) -> None:
    from sim2real.simulation.bullet import bullet

    table.reset()
    body = table.bodies._placed["ball"].body
    bullet.resetBaseVelocity(body, (0.1, 0.0, 0.0), (0.0, 0.1 / 0.015, 0.0), physicsClientId=table.client)
    table.advance(None, 1200)
    assert np.abs(table.truth().objects["ball"].velocity).max() < 5e-3


def test_a_reset_is_bit_identical_whatever_came_before(table: World) -> None:
    draw = Draw(
        seed=7, values={"object.ball.size": 0.0165, "object.can.mass": 0.02, "object.cube.friction": 0.4}
    )
    table.reset(draw)
    table.advance(None, 200)
    first = numbers(table)
    for other in range(3):
        table.reset(Draw(seed=other, values={"object.cube.size": 0.0225, "object.bowl.size": 0.055}))
        table.place(Scene(np.zeros(3), {"cube": Pose(0.3, -0.12, 0.2, 0.05), "bowl": Pose(0.3, -0.12)}))
        # The arm knocks things over.
        table.advance(np.array([0.4, 0.9, 0.2, 0.6, 0.0, 0.3]), 97 + 50 * other)
        table.reset(draw)
        table.advance(None, 200)
        assert (numbers(table) == first).all()


def test_parameters_of_each_object_do_what_they_say(table: World) -> None:
    table.reset(Draw(values={"object.can.size": 0.0165, "object.brick.mass": 0.05}))
    state = table.truth().objects["can"]
    assert state.spec.measures == (0.0165, pytest.approx(0.055))
    assert state.position[2] == pytest.approx(0.0275)
    names = [name for name in table.parameters if name.startswith("object.")]
    assert names[:4] == [f"object.cube.{what}" for what in ("mass", "size", "friction", "restitution")]
    assert len(names) == 4 * 6 and "object.spot.mass" not in names
    with pytest.raises(UserError, match="object.can.size cannot be 0.03; it can be 0.0135 … 0.0165 m"):
        table.reset(Draw(values={"object.can.size": 0.03}))


def test_the_order_is_the_tasks_and_not_a_dictionarys(table: World) -> None:
    for poses in (APART, dict(reversed(APART.items()))):
        table.reset(Draw(seed=3))
        table.place(Scene(np.zeros(3), poses))
        assert tuple(table.observe()) == observed_names(OBJECTS)
        assert list(table.truth().objects) == [spec.name for spec in OBJECTS]
        table.advance(None, 30)
        seen = numbers(table)
        if poses is APART:
            first = seen
    assert (seen == first).all()


def test_an_absent_object_is_reported_as_never_seen(table: World) -> None:
    table.reset()
    table.place(Scene(np.zeros(3), {"cube": APART["cube"]}))
    for privileged in (False, True):
        observation = table.observe(privileged=privileged)
        assert tuple(observation) == observed_names(OBJECTS)
        assert observation["object.ball.age"][0] == 2.0 and observation["object.spot.age"][0] == 2.0
    assert table.observe(privileged=True)["object.cube.age"][0] == 0.0
    with pytest.raises(UserError, match="no object 'ball'.*known: cube"):
        table.truth().objects["ball"]


def test_unknown_names_are_refused_with_the_nearest_and_nothing_changes(table: World) -> None:
    table.reset()
    before = numbers(table)
    with pytest.raises(UserError, match="no object 'bal'; did you mean ball"):
        table.place(Scene(np.zeros(3), {"bal": Pose(0.2, 0.0)}))
    assert (numbers(table) == before).all() and "cube" in table.scene.poses


def test_what_is_hidden_behind_another_object_is_not_seen(table: World) -> None:
    """The tray on end of a tall can's shadow: a ball right behind the can, as the camera looks."""
    table.reset()
    eye = table.camera().position
    can = np.array([0.25, 0.0])
    away = (can - eye[:2]) / np.linalg.norm(can - eye[:2])
    ball = can + 0.035 * away
    table.place(Scene(np.zeros(3), {"can": Pose(*can), "ball": Pose(*ball)}))
    objects = table.truth().objects
    assert table.detector.visible(objects["ball"]) < 0.5 < table.detector.visible(objects["can"])


@pytest.mark.parametrize("name", [spec.name for spec in OBJECTS])
def test_every_kind_is_drawn_in_its_colour_where_it_is(table: World, name: str) -> None:
    table.reset()
    table.place(Scene(np.zeros(3), {}))
    empty = table.render(width=320, height=240).astype(int)
    table.place(Scene(np.zeros(3), {name: Pose(0.28, 0.05)}))
    picture = table.render(width=320, height=240).astype(int)
    spec = next(spec for spec in OBJECTS if spec.name == name)
    rgb = np.array(spec.rgb) - np.mean(spec.rgb)
    chroma = picture - picture.mean(axis=-1, keepdims=True)
    own = (np.abs(picture - empty).max(axis=-1) > 20) & (chroma @ rgb > 20 * np.linalg.norm(rgb))
    assert own.sum() > 60
    rows, columns = np.nonzero(own)
    camera = table.camera().resized(320, 240)
    x, y = camera.project((0.28, 0.05, spec.rest))
    size = camera.fx * max(spec.extent) / np.linalg.norm(camera.position - (0.28, 0.05, 0.0))
    assert np.hypot(columns.mean() - x, rows.mean() - y) < 0.25 * size + 2
