"""The scripted experts: laws of the present state, and what becomes of them in the world."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim2real import old_names
from sim2real.errors import UserError
from sim2real.experts import grasping
from sim2real.experts.base import (
    LEAST_GRASP,
    Expert,
    LiftExpert,
    PlaceExpert,
    PushExpert,
    ReachExpert,
    StackExpert,
    grip_angles,
    holds_something,
)
from sim2real.experts.grasping import FLOOR, GRASP, ROOM
from sim2real.experts.laws import PUSH_HEIGHT
from sim2real.experts.motion import MotionModel, gate_delay
from sim2real.experts.pointing import forward, inverse
from sim2real.model.kinematics import tool_position
from sim2real.objects import Pose
from sim2real.observation import Observation
from sim2real.robot import Robot
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task, task_names
from tests.sim2real.simulation.draws import random_draw

ROBOT = Robot.load("so101")
CLOSED, OPEN, HELD, WIDTH, FORK = grip_angles(ROBOT)
CUBE = (0.24, 0.03, 0.0125)


def pose(expert: Expert, x: float, y: float, z: float, gripper: float, roll: float = 0.0) -> np.ndarray:
    """Joints with the expert's guided point at (x, y, z), pointing straight down."""
    q = np.zeros(6)
    assert inverse(expert._geometry, x, y, z, 0.0, roll, ROBOT.lower, ROBOT.upper, q) == 0.0
    q[5] = gripper
    return q


def seen(q: np.ndarray, command: np.ndarray | None = None, **others: object) -> Observation:
    known: dict[str, object] = {
        "joint_position": q,
        "joint_command": q if command is None else command,
        "goal": (0.24, 0.12, 0.0125),
        "object.cube.position": CUBE,
        "object.cube.yaw": (1.0, 0.0),
        "object.cube.age": (0.1,),
        "object.base.position": (0.24, 0.12, 0.015),
    }
    new = {old_names.feature(key): value for key, value in others.items()}
    return {key: np.array(value, dtype=np.float64) for key, value in (known | new).items()}


def point(expert: Expert, q: np.ndarray) -> np.ndarray:
    return np.array(forward(expert._geometry, q)[:3])


@pytest.mark.parametrize("sag", [0.5, 1.0, 1.6])
def test_reach_settles_on_the_goal_however_soft_the_arm(sag: float) -> None:
    # An arm that lags 0.1 s behind its command, another 0.07 s late, and hangs below it.
    expert = ReachExpert(ROBOT)
    goal = np.array([0.27, -0.12, 0.1])
    q = np.array(ROBOT.home)
    hang = sag * np.array([0.0, 0.04, 0.03, 0.01, 0.0, 0.0])
    sent = [q.copy()] * 3
    for _ in range(90):
        sent.append(expert.act({"joint_position": q, "joint_command": sent[-1], "goal": goal})[0])
        q = q + 0.28 * (sent[-3] + hang - q)
    assert np.linalg.norm(tool_position(ROBOT.model, q) - goal) < 0.005


angles = st.lists(st.floats(0, 1), min_size=12, max_size=12)
places = st.lists(st.floats(-1, 1), min_size=8, max_size=8)


@pytest.mark.parametrize("name", task_names())
@settings(max_examples=150, deadline=None, derandomize=True)
@given(shares=angles, elsewhere=places)
def test_any_state_gets_a_chunk_within_limits_and_speeds(
    name: str, shares: list[float], elsewhere: list[float]
) -> None:
    expert = load_task(name).expert(ROBOT)
    assert isinstance(expert, Expert)
    motion = MotionModel(ROBOT)
    q = ROBOT.lower + np.array(shares[:6]) * (ROBOT.upper - ROBOT.lower)
    c = motion.lower + np.array(shares[6:]) * (motion.upper - motion.lower)
    observation = seen(
        q, c, goal=(0.25 + 0.1 * elsewhere[0], 0.3 * elsewhere[1], 0.12 + 0.1 * elsewhere[2]),
        cube=(0.25 + 0.3 * elsewhere[3], 0.5 * elsewhere[4], 0.0125),
        cube_yaw=(elsewhere[5], elsewhere[6]), cube_age=(1 + elsewhere[7],),
    ) | {"object.base.position": np.array([0.25 + 0.1 * elsewhere[0], 0.3 * elsewhere[1], 0.015])}  # fmt: skip
    kept = {key: value.copy() for key, value in observation.items()}
    chunk = expert.act(observation)
    assert chunk.shape == (expert.horizon, 6) and np.isfinite(chunk).all()
    assert (chunk >= motion.lower - 1e-12).all() and (chunk <= motion.upper + 1e-12).all()
    steps = np.abs(np.diff(chunk, axis=0, prepend=c[None]))
    periods = np.full(expert.horizon, motion.period)
    periods[0] += gate_delay(ROBOT)
    assert (steps <= motion.speed * periods[:, None] + 1e-9).all()
    # No memory: the same again, whatever was asked in between; and the observation is left alone.
    expert.act(seen(np.array(ROBOT.home)))
    assert np.array_equal(expert.act(observation), chunk)
    assert all(np.array_equal(observation[key], kept[key]) for key in kept)


def test_the_lead_of_the_command_is_the_gates_delay() -> None:
    # A window of 5 ticks of 10 ms delays by 2 of them; the last tick is half a tick old on average.
    assert gate_delay(ROBOT) == pytest.approx(0.025)


def test_lift_comes_down_only_when_it_is_aligned_and_open() -> None:
    expert = LiftExpert(ROBOT)
    over = pose(expert, *CUBE[:2], 0.06, OPEN)
    assert point(expert, expert.act(seen(over))[-1])[2] < 0.055
    for q in (
        pose(expert, CUBE[0] + 0.02, CUBE[1], 0.06, OPEN),  # beside the cube
        pose(expert, *CUBE[:2], 0.06, WIDTH),  # not open yet
        pose(expert, *CUBE[:2], 0.06, OPEN, roll=0.5),  # across the cube
    ):
        assert point(expert, expert.act(seen(q))[2])[2] > 0.0595


def test_lift_closes_both_fingers_around_the_cube() -> None:
    expert = LiftExpert(ROBOT)
    level = roll_along_cube(expert)
    q = pose(expert, *CUBE[:2], LEAST_GRASP, OPEN, roll=level)
    chunk = expert.act(seen(q))
    assert np.all(np.diff(chunk[:, 5]) < 0) and chunk[0, 5] < OPEN
    # The fixed finger comes along the direction in which the jaws close, and nowhere else.
    heading = forward(expert._geometry, q)[4]
    came = (tool_position(ROBOT.model, chunk[-1]) - tool_position(ROBOT.model, q))[:2]
    assert 0.002 < came @ [math.cos(heading), math.sin(heading)] < 0.015
    assert abs(came @ [-math.sin(heading), math.cos(heading)]) < 0.001
    # Half closed, with the cube at the fixed finger or at the jaw: go on. With nothing between them: go up.
    half = q.copy()
    half[5] = (OPEN + WIDTH) / 2
    for off, goes_on in ((-0.020, True), (0.0, True), (-0.045, False), (0.03, False)):
        cube = (CUBE[0] + off * math.cos(heading), CUBE[1] + off * math.sin(heading), 0.0125)
        assert bool(expert.act(seen(half, cube=cube))[0, 5] < half[5] - 0.01) is goes_on, off


def roll_along_cube(expert: Expert) -> float:
    """The roll with which the jaws close on the faces of the cube at CUBE with yaw 0."""
    q = np.zeros(6)
    inverse(expert._geometry, *CUBE[:2], 0.05, 0.0, 0.0, ROBOT.lower, ROBOT.upper, q)
    return -forward(expert._geometry, q)[4]


def test_lift_carries_up_what_it_holds_wherever_the_cube_seems_to_be() -> None:
    expert = LiftExpert(ROBOT)
    q = pose(expert, *CUBE[:2], LEAST_GRASP, WIDTH)
    told = q.copy()
    told[5] = CLOSED
    chunk = expert.act(seen(q, told))
    assert point(expert, chunk[-1])[2] > point(expert, chunk[0])[2] > LEAST_GRASP
    assert np.allclose(chunk[:, 5], CLOSED)
    astray = expert.act(seen(q, told, cube=(0.15, -0.2, 0.0125), cube_age=(0.0,), cube_yaw=(-1.0, 0.0)))
    assert np.array_equal(astray, chunk)


def test_lift_tries_again_after_closing_on_nothing() -> None:
    expert = LiftExpert(ROBOT)
    low = pose(expert, *CUBE[:2], LEAST_GRASP, CLOSED)
    chunk = expert.act(seen(low))
    assert point(expert, chunk[-1])[2] > LEAST_GRASP + 0.02
    assert np.allclose(chunk[:3, 5], CLOSED), "opening down there would close again at once"
    high = pose(expert, *CUBE[:2], 0.075, CLOSED)
    assert expert.act(seen(high))[-1, 5] > CLOSED + 0.3


def test_push_goes_behind_the_cube_from_above() -> None:
    expert = PushExpert(ROBOT)
    ahead = pose(expert, CUBE[0], CUBE[1] + 0.06, PUSH_HEIGHT, FORK)
    chunk = expert.act(seen(ahead))
    rising = point(expert, chunk[3])
    assert rising[2] > PUSH_HEIGHT + 0.005
    assert abs(rising[1] - (CUBE[1] + 0.06)) < 0.01, "not through the cube"


def test_push_pushes_a_cube_that_was_last_seen_where_the_tool_is_now() -> None:
    expert = PushExpert(ROBOT)
    contact = pose(expert, CUBE[0], CUBE[1] - 0.020, PUSH_HEIGHT, FORK)
    fresh = point(expert, expert.act(seen(contact))[-1])
    # The camera's last picture is 0.2 s old: the cube was 2 cm back then.
    stale = point(
        expert, expert.act(seen(contact, cube=(CUBE[0], CUBE[1] - 0.02, 0.0125), cube_age=(0.2,)))[-1]
    )
    assert fresh[1] > CUBE[1] - 0.01 and fresh[2] < PUSH_HEIGHT + 0.01
    assert np.allclose(stale, fresh, atol=0.002)
    # Seen just now that far behind the tool's front, it has slipped away: go up and round.
    slipped = expert.act(seen(contact, cube=(CUBE[0], CUBE[1] - 0.045, 0.0125), cube_age=(0.0,)))
    assert point(expert, slipped[4])[2] > PUSH_HEIGHT + 0.005


def test_push_leaves_a_cube_that_is_there() -> None:
    expert = PushExpert(ROBOT)
    q = pose(expert, CUBE[0], CUBE[1] - 0.02, PUSH_HEIGHT, FORK)
    chunk = expert.act(seen(q, goal=(CUBE[0], CUBE[1] + 0.004, 0.0125)))
    tool = point(expert, chunk[-1])
    assert tool[2] > PUSH_HEIGHT + 0.015
    assert tool[1] < CUBE[1] - 0.01


def test_push_goes_up_where_the_hand_is_when_the_cube_is_there() -> None:
    """The command is ahead of a hand that pushes; going on to it takes the cube past the mark."""
    expert = PushExpert(ROBOT)
    q = pose(expert, CUBE[0], CUBE[1] - 0.02, PUSH_HEIGHT, FORK)
    command = pose(expert, CUBE[0], CUBE[1] + 0.02, PUSH_HEIGHT, FORK)
    chunk = expert.act(seen(q, command, goal=(CUBE[0], CUBE[1] + 0.004, 0.0125)))
    assert point(expert, chunk[-1])[2] > PUSH_HEIGHT + 0.01
    assert point(expert, chunk[0])[1] < point(expert, command)[1] - 0.001


@pytest.mark.parametrize("roll", [-2.7, 0.0, 2.7])
@pytest.mark.parametrize("direction", np.linspace(0, 2 * math.pi, 9)[:-1])
def test_push_comes_down_behind_the_cube_whatever_the_wrist_can_do(roll: float, direction: float) -> None:
    expert = PushExpert(ROBOT)
    q = pose(expert, CUBE[0] - 0.04, CUBE[1], 0.08, FORK)
    q[4] = roll
    goal = (CUBE[0] + 0.1 * math.cos(direction), CUBE[1] + 0.1 * math.sin(direction), 0.0125)
    for _ in range(40):
        q = expert.act(seen(q, goal=goal))[-1]
        if point(expert, q)[2] < PUSH_HEIGHT + 0.008:
            break
    behind = np.array(CUBE[:2]) - point(expert, q)[:2]
    assert point(expert, q)[2] < PUSH_HEIGHT + 0.008
    assert behind @ (np.array(goal[:2]) - CUBE[:2]) > 0


@pytest.mark.parametrize("kind", [LiftExpert, PlaceExpert, PushExpert])
def test_the_hand_gets_out_of_the_cameras_way_when_nothing_is_known_of_the_cube(kind: type[Expert]) -> None:
    expert = kind(ROBOT)
    q = pose(expert, 0.25, 0.0, 0.05, OPEN)
    unknown = {"cube_age": (2.0,), "object.cube.spread": (0.1, 1.0), "cube": (0.25, 0.0, 0.0125)}
    for _ in range(12):
        q = expert.act(seen(q, **unknown))[-1]
    x, y, z = point(expert, q)
    assert z > 0.13 and math.hypot(x, y) < 0.2


def test_what_is_held_askew_is_set_down_by_where_it_is_seen_in_the_hand() -> None:
    expert = PlaceExpert(ROBOT)
    goal = np.array([0.24, 0.05])
    askew = np.array([0.010, -0.004])

    def cube_of(q: np.ndarray, off: np.ndarray) -> np.ndarray:
        heading = forward(expert._geometry, q)[4]
        at = point(expert, q) - ROOM * np.array([math.cos(heading), math.sin(heading), 0.0])
        return at + np.array([*off, 0.0])

    for spread, error in ((0.001, 0.004), (0.02, 0.015)):
        q = pose(expert, *goal, 0.06, WIDTH)
        for _ in range(20):
            command = q.copy()
            command[5] = CLOSED
            told = {"goal": (*goal, 0.0125), "cube": cube_of(q, askew), "object.cube.spread": (spread, 0.1)}
            q = expert.act(seen(q, command, **told))[-1]
            if q[5] > CLOSED + 0.02:
                break
            q[5] = WIDTH
        q[5] = WIDTH
        off = float(np.hypot(*(cube_of(q, askew)[:2] - goal)))
        assert off < error, "told well"
        assert spread < 0.01 or off > 0.006, "not told, it is where the hand is thought to have it"


def test_what_was_set_down_beside_something_is_let_go_wherever_it_seems_to_be() -> None:
    """What is not seen to be there would be fetched again, by a hand that is just letting it go."""
    task = load_task("table/can_left_post", 6)
    expert = task.expert(ROBOT)
    law = expert._movers[expert._specs["can"].width][0]
    post = np.array([0.25, 0.10, expert._specs["post"].rest])
    part = expert._parts[0]
    x, y = part.place(np.array([0.2, 0.0, 0.0]), post)
    hand = expert._hands["can"]
    q = pose(law, x, y, float(hand[GRASP]), float(hand[grasping.WIDTH]))
    heading = forward(law._geometry, q)[4]
    q = pose(
        law,
        x + ROOM * math.cos(heading),
        y + ROOM * math.sin(heading),
        float(hand[GRASP]),
        float(hand[grasping.WIDTH]),
    )
    command = q.copy()
    command[5] = hand[grasping.CLOSED] + 0.12
    observation = {"joint_position": q, "joint_command": command}
    places = {"can": np.array([x + 0.06, y + 0.04, 0.0175]), "post": post}
    for name, place in places.items():
        observation |= {
            f"object.{name}.position": place, f"object.{name}.yaw": np.array([1.0, 0.0]),
            f"object.{name}.age": np.array([2.0]), f"object.{name}.spread": np.array([0.02, 0.0]),
        }  # fmt: skip
    assert not expert.reached(part, observation)
    chunk = expert.act(observation)
    assert (np.diff(chunk[:, 5]) > 0).all()


def test_who_sweeps_goes_on_to_the_second_thing_past_the_first() -> None:
    task = load_task("table/sweep_cube_to_mark_big_cube_to_dot", 6)
    expert = task.expert(ROBOT)
    mark, dot = np.array([0.2, 0.0, 0.0]), np.array([0.3, 0.0, 0.0])
    law = expert._movers[expert._specs["big_cube"].width][1]
    q = pose(law, 0.24, 0.0, 0.02, FORK)
    observation = {"joint_position": q, "joint_command": q}
    places = {"cube": (0.205, 0.0, 0.0125), "big_cube": (0.28, 0.04, 0.015), "mark": mark, "dot": dot}
    for name, place in places.items():
        observation |= {
            f"object.{name}.position": np.array(place), f"object.{name}.yaw": np.array([1.0, 0.0]),
            f"object.{name}.age": np.array([0.1]), f"object.{name}.spread": np.array([0.001, 0.05]),
        }  # fmt: skip
    assert expert._next(observation).objects() == ("big_cube", "dot")


@pytest.mark.parametrize("name", ["push", "lift"])
def test_commands_keep_off_the_table(name: str) -> None:
    expert = load_task(name).expert(ROBOT)
    assert isinstance(expert, Expert)
    q = pose(expert, *CUBE[:2], FLOOR - 0.004, OPEN if name == "lift" else FORK)
    assert point(expert, expert.act(seen(q, cube=(CUBE[0], CUBE[1] + 0.003, 0.0125)))[-1])[2] > FLOOR - 0.0035


@pytest.mark.parametrize(("kind", "under"), [(PlaceExpert, 0.0), (StackExpert, 0.03)])
def test_what_is_held_goes_up_then_over_then_down(kind: type[Expert], under: float) -> None:
    expert = kind(ROBOT, under=under)
    told = pose(expert, *CUBE[:2], LEAST_GRASP, CLOSED)
    low = pose(expert, *CUBE[:2], LEAST_GRASP, WIDTH)
    rising = expert.act(seen(low, told))
    assert point(expert, rising[-1])[2] > LEAST_GRASP + 0.01
    assert np.hypot(*(point(expert, rising[-1])[:2] - CUBE[:2])) < 0.012, "not over before it is up"
    goal = seen(low)["goal"][:2]
    heading = forward(expert._geometry, low)[4]
    spot = goal + ROOM * np.array([math.cos(heading), math.sin(heading)])
    for height, down in ((LEAST_GRASP + under + 0.04, True), (LEAST_GRASP + under + 0.004, False)):
        over = pose(expert, *spot, height, WIDTH)
        command = over.copy()
        command[5] = CLOSED
        observation = seen(over, command, cube=(*goal, 0.0125))
        # The heading turns with the pan: where the hand has the cube is off by some millimetres there.
        heading = forward(expert._geometry, over)[4]
        cube = point(expert, over)[:2] - ROOM * np.array([math.cos(heading), math.sin(heading)])
        for key in ("goal", "object.base.position"):
            observation[key] = np.array([*cube, 0.0125])
        chunk = expert.act(observation)
        lower = point(expert, chunk[-1])[2] < height - 0.005
        assert bool(lower) is down
        assert bool(chunk[-1, 5] > CLOSED + 0.05) is not down, "it lets go once it is down, and only then"


@pytest.mark.parametrize(("kind", "under"), [(PlaceExpert, 0.0), (StackExpert, 0.03)])
def test_a_hand_around_what_it_has_set_down_opens_wherever_the_cube_seems_to_be(
    kind: type[Expert], under: float
) -> None:
    expert = kind(ROBOT, under=under)
    over = pose(expert, *CUBE[:2], LEAST_GRASP + under, WIDTH)
    command = over.copy()
    command[5] = WIDTH + 0.05
    heading = forward(expert._geometry, over)[4]
    cube = point(expert, over)[:2] - ROOM * np.array([math.cos(heading), math.sin(heading)])
    there = {key: np.array([*cube, 0.0125]) for key in ("goal", "object.base.position")}
    for seems in ((*cube, 0.0125), (cube[0] - 0.1, cube[1] - 0.05, 0.0125)):
        chunk = expert.act(seen(over, command, cube=seems) | there)
        assert (np.diff(chunk[:, 5]) > 0).all()
        assert point(expert, chunk[-1])[2] < LEAST_GRASP + under + 0.02
    opened = pose(expert, *cube, LEAST_GRASP + under, OPEN)
    chunk = expert.act(seen(opened, cube=(*cube, 0.0125)) | there)
    assert point(expert, chunk[-1])[2] > LEAST_GRASP + under + 0.01, "open, it leaves upwards"
    away = pose(expert, *cube, 0.09 + under, OPEN)
    chunk = expert.act(seen(away, cube=(*cube, 0.0125)) | there)
    assert point(expert, chunk[-1])[2] > 0.085 + under, "it does not come down on it again"


def test_holding_is_told_from_a_gripper_that_does_not_close() -> None:
    q, told = np.array(ROBOT.home), np.array(ROBOT.home)
    q[5], told[5] = WIDTH, CLOSED
    assert holds_something(seen(q, told), ROBOT)
    q[5] = CLOSED
    assert not holds_something(seen(q, told), ROBOT)
    q[5], told[5] = OPEN, OPEN
    assert not holds_something(seen(q, told), ROBOT)


TEN_DEGREES = math.radians(10.0)


def hand(height: float, angle: float, **others: object) -> Observation:
    """A hand that is told to be shut, with its jaw reading `angle`, around CUBE or over it."""
    q = pose(LiftExpert(ROBOT), *CUBE[:2], height, angle)
    told = q.copy()
    told[5] = CLOSED
    heading = forward(LiftExpert(ROBOT)._geometry, q)[4]
    there = (CUBE[0] - ROOM * math.cos(heading), CUBE[1] - ROOM * math.sin(heading), CUBE[2])
    return seen(q, told, **{"cube": there, **others})


def test_what_is_held_is_told_whatever_the_grippers_zero() -> None:
    for zero in (-TEN_DEGREES, 0.0, TEN_DEGREES):
        assert holds_something(hand(LEAST_GRASP, WIDTH + zero), ROBOT), zero
        # Up in the air it is seen on the table behind, or no longer.
        for seems in ({"cube": (0.14, -0.06, 0.0125)}, {"cube_age": (1.5,)}):
            assert holds_something(hand(0.08, WIDTH + zero, **seems), ROBOT), (zero, seems)
    # A hand that has closed on nothing stops where its fingers meet, or where it is told to.
    met = max(ROBOT.lower[5] + TEN_DEGREES, CLOSED)
    for empty in (CLOSED, met):
        assert not holds_something(hand(LEAST_GRASP, empty, cube=(0.28, 0.08, 0.0125)), ROBOT)
        below = {"cube_age": (0.0,), "object.cube.spread": (0.001, 0.02)}
        assert not holds_something(hand(0.08, empty, **below), ROBOT)
        # Nor is what was left on the table a little beside, however wide the jaw seems to be.
        for angle in (empty, empty + 0.03):
            left = {"cube": (CUBE[0], CUBE[1] + 0.03, CUBE[2])} | below
            assert not holds_something(hand(0.08, angle, **left), ROBOT)


def test_a_grasp_is_finished_where_it_was_begun() -> None:
    expert = LiftExpert(ROBOT)
    level = roll_along_cube(expert)
    heading = -math.sin(level), math.cos(level)
    for height in (LEAST_GRASP, 0.03):
        q = pose(expert, *CUBE[:2], height, OPEN, roll=level)
        for turn, moved in ((math.radians(30.0), 0.0), (math.radians(-36.0), 0.004), (0.0, 0.006)):
            yaw = (math.cos(4 * turn), math.sin(4 * turn))
            place = (CUBE[0] + moved * heading[0], CUBE[1] + moved * heading[1], CUBE[2])
            chunk = expert.act(seen(q, cube=place, cube_yaw=yaw))
            assert point(expert, chunk[-1])[2] < height + 0.003, (height, turn, moved)
            assert abs(chunk[-1, 4] - q[4]) < 0.15, "it does not turn with a cube half hidden by its fingers"
            if height == LEAST_GRASP:
                assert chunk[-1, 5] < OPEN - 0.1, "it closes"


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UserError, match="'goal' in the observation"):
        ReachExpert(ROBOT).act({"joint_position": ROBOT.home, "joint_command": ROBOT.home})


@pytest.mark.parametrize("privileged", [True, False], ids=["truth", "sensors"])
@pytest.mark.parametrize("name", task_names())
def test_experts_succeed_in_the_world_under_randomization(name: str, privileged: bool) -> None:
    task = load_task(name)
    with World(ROBOT, task) as world:
        expert = task.expert(ROBOT)
        draws = [random_draw(world.parameters, seed) for seed in range(8)]
        episodes = [rollout(world, expert, draw, privileged=privileged) for draw in draws]
    failed = [(e.draw, e.stage) for e in episodes if not e.success]
    # Of hundreds of draws nearly all succeed (benchmarks/experts.py); of eight, one may be a hard one. Where the joints
    # are off by a degree or two, a cube is stacked in five of six.
    assert len(failed) <= (2 if name == "stack" and not privileged else 1), failed


def test_lift_starts_over_when_the_cube_is_taken_away() -> None:
    task = load_task("lift")
    with World(ROBOT, task) as world:
        expert = task.expert(ROBOT)
        grasped_at: list[int] = []

        def steal(step: int, observation: Observation, chunk: np.ndarray) -> None:
            if not grasped_at and world.truth().objects["cube"].position[2] > 0.03:
                grasped_at.append(step)
                world.place(
                    replace(world.scene, poses={"cube": Pose(0.22, -0.05, world.scene.poses["cube"].yaw)})
                )

        episode = rollout(world, expert, None, privileged=True, on_step=steal)
    assert grasped_at and episode.success
    assert len(episode) > grasped_at[0] + 45, "it had to go there and grasp again"
