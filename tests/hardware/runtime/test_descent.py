"""The way down where the straight one is barred."""

import numpy as np
import pytest

from hardware.runtime.control.goals import Goals
from hardware.runtime.safety.detour import STEPS, Detour
from hardware.runtime.safety.watchdog_client import DescentPlanner
from hardware.runtime.safety.way_back import NEAR, SPEED, WayBack, longest_descent
from sim2real.gate.gate import Gate
from sim2real.robot import Robot

BARRED = [
    ("so101", [-1.63, 1.45, -1.18, -1.34, 2.67, 1.1]),
    ("so101", [-0.63, 1.68, -1.21, -1.5, -1.61, 1.25]),
    ("so100", [0.88, 0.87, -0.35, -1.54, 1.06, 1.66]),
    ("koch", [-2.51, -0.58, -1.31, -1.43, 0.3, 0.33]),
    ("koch", [1.65, -0.15, -1.39, -0.97, -2.37, 0.59]),
]
"""Poses, rad, from which neither the straight way to rest nor up, home and down is free."""


@pytest.mark.parametrize(("name", "pose"), BARRED)
def test_an_arm_whose_way_is_barred_finds_one_round(name: str, pose: list[float]) -> None:
    robot = Robot.load(name)
    gate = Gate(robot, SPEED)
    gate.reset(pose)
    room, gap = min(gate.clearance(pose), 0.0), min(gate.self_clearance(pose), 0.0)
    descent, ticks = WayBack(robot, gate, down=True), 0
    while not descent.done:
        descent.step()
        ticks += 1
        assert (
            gate.clearance(gate.position) >= room - 1e-3 and gate.self_clearance(gate.position) >= gap - 1e-3
        )
    assert descent.arrived and descent.turns >= 1
    assert np.abs(gate.position - robot.rest).max() < NEAR
    assert ticks / robot.command_rate < 0.9 * longest_descent(robot)


@pytest.mark.parametrize("speed", [1.0, 0.3])
@pytest.mark.parametrize(
    "pose",
    [
        [0.512, -0.781, -1.506, -1.555, 1.767, 1.537],
        [1.659, -1.02, 0.04, -1.531, -1.798, 1.483],
        [-0.724, -0.911, 0.495, -0.757, 2.036, 0.368],
    ],
)
def test_an_arm_folded_by_its_policy_finds_its_way_home(pose: list[float], speed: float) -> None:
    """The straight way home ends where the gate lets no joint go on."""
    robot = Robot.load("so101")
    goals, ticks = Goals(robot, speed, None), 0
    goals.begin(np.array(pose))
    goals.aim(np.array(robot.home))
    for _ in range(round(20.0 / goals.gate.speed * robot.command_rate)):
        goals.travel()
    assert not goals.arrived
    goals.begin(np.array(pose))
    goals.aim_home()
    while not goals.arrived:
        goals.travel()
        ticks += 1
        assert not goals.barred
    assert ticks / robot.command_rate < 20.0 / goals.gate.speed


def test_the_watchdog_is_given_the_way_round_without_the_search() -> None:
    robot = Robot.load("so101")
    planner, points = DescentPlanner(robot), None
    planner.begin(np.array(BARRED[0][1]))
    while points is None:
        points = planner.advance(20)
    np.testing.assert_allclose(points[-1], robot.rest, atol=NEAR)
    still = np.abs(np.diff(points, axis=0)).max(axis=1) == 0.0
    assert still.sum() * planner.every / robot.command_rate < 3.0


def test_every_piece_of_a_way_round_is_clear() -> None:
    robot = Robot.load("koch")
    gate = Gate(robot, SPEED)
    start, home = np.array([-2.36, -0.68, -1.16, -1.31, 0.18, 0.17]), np.array(robot.home)
    assert gate.clear_share(start, home) < 1.0
    ways = []
    for _ in range(2):
        search = Detour(gate, start, home, room=0.0, seed=1)
        while not search.done:
            search.step()
        ways.append([start, *search.way])
    np.testing.assert_array_equal(ways[0], ways[1])
    assert np.array_equal(ways[0][-1], home)
    for a, b in zip(ways[0], ways[0][1:]):
        assert gate.clear_share(a, b, -1e-6, -1e-6) == 1.0


def test_a_search_gives_up() -> None:
    """Home is not reached by an arm that may not leave the ground it stands on."""
    robot = Robot.load("so101")
    gate = Gate(robot, SPEED)
    search, steps = Detour(gate, np.array(BARRED[0][1]), np.array(robot.home), room=10.0), 0
    search._keep = (10.0, 10.0)
    while not search.done:
        search.step()
        steps += 1
    assert search.way == [] and steps == STEPS
