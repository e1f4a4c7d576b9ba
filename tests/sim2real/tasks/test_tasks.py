"""Tasks: where things start, when they have succeeded, how users' own are found."""

import math

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.experts.base import grip_angles
from sim2real.model.kinematics import tool_pose
from sim2real.objects import ByName
from sim2real.observation import AXIS
from sim2real.robot import Robot
from sim2real.task import CUBE, Hold
from sim2real.tasks import place, push, stack
from sim2real.tasks.registry import load_task, task_names
from sim2real.truth import ObjectState, Truth, left_alone

ROBOT = Robot.load("so101")


def truth(
    q: np.ndarray,
    *,
    cube: tuple[float, float, float] = (0.2, 0.1, CUBE / 2),
    goal: object = (0.2, 0, 0),
    base: tuple[float, float, float] = (0.2, -0.1, 0.015),
    touches: frozenset[str] = frozenset(),
    velocity: float = 0.0,
) -> Truth:
    stack = load_task("stack")
    upper = ObjectState(
        stack.object("cube"), np.array(cube), np.eye(3), velocity=np.array([0, 0, velocity]), touches=touches
    )
    position, rotation = tool_pose(ROBOT.model, q)
    return Truth(
        time=0.0, joint_position=q, joint_velocity=np.zeros(6), joint_command=q, tool_position=position,
        tool_rotation=rotation, goal=np.array(goal, dtype=float),
        objects=ByName(cube=upper, base=ObjectState(stack.object("base"), np.array(base), np.eye(3))),
    )  # fmt: skip


def draws(name: str, count: int, seed: int = 0) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    parameters = load_task(name).parameters(ROBOT).values()
    return [{p.name: rng.uniform(p.low, p.high) for p in parameters} for _ in range(count)]


@pytest.mark.parametrize("name", task_names())
def test_what_is_drawn_lies_where_the_task_says(name: str) -> None:
    task = load_task(name)
    places = []
    for values in draws(name, 400):
        scene = task.setup(values, np.random.default_rng(0))
        places += [pose.xy for pose in scene.poses.values()]
        if name == "reach":
            places.append(tuple(scene.goal[:2]))
            assert 0.05 <= scene.goal[2] <= 0.22
        if name in ("push", "place", "stack"):
            other = "base" if name == "stack" else "mark"
            distance = {"push": push.APART, "place": place.APART, "stack": stack.APART}[name]
            assert math.dist(scene.poses["cube"].xy, scene.poses[other].xy) >= distance
            assert tuple(scene.goal[:2]) == scene.poses[other].xy
    radii = [math.dist(place, AXIS) for place in places]
    angles = [math.atan2(y - AXIS[1], x - AXIS[0]) for x, y in places]
    low, high, widest = (0.16, 0.30, 0.9) if name == "reach" else (0.17, 0.27, 0.7)
    assert low - 1e-9 <= min(radii) < low + 0.01 and high - 0.01 < max(radii) <= high + 1e-9
    assert widest - 0.05 < max(map(abs, angles)) <= widest + 1e-9


def test_a_mark_too_close_to_the_cube_is_moved_by_the_seed_alone() -> None:
    values = {
        "task.cube.radius": 0.2,
        "task.cube.angle": 0.1,
        "task.mark.radius": 0.21,
        "task.mark.angle": 0.1,
    }
    task = load_task("push")
    scenes = [task.setup(values, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert scenes[0].poses["mark"].xy == scenes[1].poses["mark"].xy != scenes[2].poses["mark"].xy
    assert len({scene.poses["cube"].xy for scene in scenes}) == 1, "the cube stays where the draw says"


def test_episodes_start_near_home_within_the_limits() -> None:
    task = load_task("lift")
    assert np.array_equal(task.start({}, ROBOT), ROBOT.home)
    start = task.start({"task.start.elbow_flex": 0.04, "task.start.gripper": 100.0}, ROBOT)
    assert start[2] == pytest.approx(ROBOT.home[2] + 0.04)
    assert start[5] == ROBOT.upper[5]


def test_reach_is_satisfied_within_two_centimetres() -> None:
    task = load_task("reach")
    tool = truth(ROBOT.home).tool_position
    for distance, inside, stage in ((0.019, True, "inside"), (0.021, False, "near"), (0.06, False, "far")):
        now = truth(ROBOT.home, goal=tool + np.array([0, distance, 0]))
        assert task.satisfied(now) is inside
        assert task.stage(now) == stage
        assert task.estimate({"joint_position": ROBOT.home, "goal": now.goal}, ROBOT) is inside


def test_push_is_satisfied_by_a_cube_on_the_table_at_the_mark() -> None:
    task = load_task("push")
    goal = (0.24, 0.05, CUBE / 2)
    assert task.satisfied(truth(ROBOT.home, cube=(0.24, 0.074, CUBE / 2), goal=goal))
    assert not task.satisfied(truth(ROBOT.home, cube=(0.24, 0.076, CUBE / 2), goal=goal))
    assert not task.satisfied(truth(ROBOT.home, cube=(0.24, 0.05, 0.06), goal=goal))
    assert task.stage(truth(ROBOT.home, cube=(0.24, 0.10, CUBE / 2), goal=goal)) == "closer"
    seen = {
        "object.cube.position": np.array([0.24, 0.06, CUBE / 2]),
        "goal": np.array(goal),
        "object.cube.age": np.array([0.1]),
    }
    assert task.estimate(seen, ROBOT) is True
    assert task.estimate(seen | {"object.cube.age": np.array([1.5])}, ROBOT) is None


def test_lift_is_satisfied_by_a_cube_up_at_the_tool() -> None:
    task = load_task("lift")
    x, y, z = truth(ROBOT.home).tool_position
    assert task.satisfied(truth(ROBOT.home, cube=(x + 0.01, y, z)))
    assert not task.satisfied(truth(ROBOT.home, cube=(x + 0.06, y, z))), "not a cube in the air"
    assert task.stage(truth(ROBOT.home, cube=(x, y, 0.04))) == "raised"
    assert task.stage(truth(ROBOT.home, cube=(x, y, CUBE / 2))) == "above"
    assert task.stage(truth(ROBOT.home, cube=(x, y + 0.1, CUBE / 2))) == "approach"


def test_place_is_satisfied_by_a_cube_at_rest_on_the_mark_that_the_hand_has_left() -> None:
    task = load_task("place")
    goal, rest = (0.24, 0.05, CUBE / 2), CUBE / 2
    good = truth(ROBOT.home, cube=(0.24, 0.074, rest), goal=goal)
    assert task.satisfied(good) and task.stage(good) == "placed"
    assert task.satisfied(truth(ROBOT.home, cube=(0.24, 0.05, rest), goal=goal, touches=frozenset({"table"})))
    assert not task.satisfied(truth(ROBOT.home, cube=(0.24, 0.076, rest), goal=goal))
    for touched in ("finger", "jaw", "arm"):
        held = truth(ROBOT.home, cube=(0.24, 0.05, rest), goal=goal, touches=frozenset({touched}))
        assert not task.satisfied(held) and task.stage(held) == "over_mark"
    assert not task.satisfied(truth(ROBOT.home, cube=(0.24, 0.05, rest), goal=goal, velocity=0.05))
    assert not task.satisfied(truth(ROBOT.home, cube=(0.24, 0.05, 0.03), goal=goal)), "not in the air"
    x, y, z = good.tool_position
    near = truth(ROBOT.home, cube=(x, y + 0.03, z), goal=(x, y, z))
    assert not left_alone(near.objects["cube"], near)
    seen = {
        "object.cube.position": np.array([0.24, 0.06, rest]), "goal": np.array(goal),
        "object.cube.age": np.array([0.1]), "joint_position": ROBOT.home, "joint_command": ROBOT.home,
    }  # fmt: skip
    assert task.estimate(seen, ROBOT) is True
    assert task.estimate(seen | {"object.cube.position": np.array([0.24, 0.08, rest])}, ROBOT) is False
    assert task.estimate(seen | {"object.cube.age": np.array([1.5])}, ROBOT) is None


def test_stack_is_satisfied_by_a_cube_at_rest_on_the_other_that_the_hand_has_left() -> None:
    task = load_task("stack")
    base = (0.24, 0.05, 0.015)
    top = 0.03 + CUBE / 2
    good = truth(ROBOT.home, base=base, cube=(0.24, 0.062, top), touches=frozenset({"base"}))
    assert task.satisfied(good) and task.stage(good) == "stacked"
    assert not task.satisfied(truth(ROBOT.home, base=base, cube=(0.24, 0.067, top)))
    assert not task.satisfied(truth(ROBOT.home, base=base, cube=(0.24, 0.05, top + 0.01)))
    held = truth(ROBOT.home, base=base, cube=(0.24, 0.05, top), touches=frozenset({"jaw", "base"}))
    assert not task.satisfied(held) and task.stage(held) == "over_base"
    beside = truth(ROBOT.home, base=base, cube=(0.24, 0.05 + 0.028, CUBE / 2))
    assert not task.satisfied(beside) and task.stage(beside) == "approach"
    seen = {
        "object.cube.position": np.array([0.24, 0.055, top]), "object.base.position": np.array(base),
        "object.cube.age": np.array([0.1]), "joint_position": ROBOT.home, "joint_command": ROBOT.home,
    }  # fmt: skip
    assert task.estimate(seen, ROBOT) is True
    # A camera that knows only the table sees the upper cube on the table behind: that may be anything.
    for spot, told in (((0.22, 0.08, CUBE / 2), None), ((0.24, 0.15, CUBE / 2), False)):
        assert task.estimate(seen | {"object.cube.position": np.array(spot)}, ROBOT) is told


def test_lift_is_estimated_from_a_blocked_gripper_and_the_tools_height() -> None:
    task = load_task("lift")
    closed, opened, held, width, _ = grip_angles(ROBOT)
    assert closed < held < width < opened
    for told, angle, expected in ((closed, width, True), (closed, closed, False), (opened, opened, False)):
        q, c = ROBOT.home.copy(), ROBOT.home.copy()
        q[5], c[5] = angle, told
        assert task.estimate({"joint_position": q, "joint_command": c}, ROBOT) is expected
    low = ROBOT.home + np.array([0, 0.6, 0.0, 0, 0, 0])
    low[5] = width
    c = low.copy()
    c[5] = closed
    assert tool_pose(ROBOT.model, low)[0][2] < 0.06
    assert task.estimate({"joint_position": low, "joint_command": c}, ROBOT) is False


def test_unknown_tasks_and_broken_ones_are_named() -> None:
    with pytest.raises(UserError, match="lift, place, push, reach, stack"):
        load_task("stuck")
    with pytest.raises(UserError, match="lacks"):
        load_task("collections:OrderedDict")


def test_the_example_task_is_one() -> None:
    task = load_task("examples.04_own_task:ReachHigh")
    scene = task.setup({}, np.random.default_rng(0))
    assert scene.goal[2] == pytest.approx(0.20)
    assert task.expert(ROBOT).horizon == 10


def test_a_condition_must_hold_without_interruption() -> None:
    hold = Hold()
    looks = [(k / 30, k not in (0, 10)) for k in range(40)]
    held = [hold.look(time, satisfied) for time, satisfied in looks]
    # From look 11 on it holds; half a second later, at look 26, it has held long enough.
    assert held == [False] * 26 + [True] * 14
    assert hold.succeeded and hold.seconds == pytest.approx(28 / 30)
    assert not hold.look(2.0, False)
    assert hold.succeeded and hold.seconds == 0.0
