"""A hand on the emulated arm: limp joints go where it wants, the others resist."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware.emulator.assembly import emulated_calibration
from hardware.emulator.hand import Hand, HandPath
from hardware.emulator.plant import POSITION, IdealPlant
from hardware.emulator.tell import tell
from hardware.emulator.world_plant import WorldPlant, stage_task
from sim2real.errors import UserError
from sim2real.robot import Robot

from .conftest import ArmRig


@pytest.fixture(scope="module")
def world_rig() -> ArmRig:
    robot = Robot.load("so101")
    rig = ArmRig(WorldPlant(robot, emulated_calibration(robot), task=stage_task(None, robot)))
    rig.arm.identify()
    rig.arm.configure()
    return rig


def test_limp_joints_follow_the_hand_and_fall_when_it_lets_go(world_rig: ArmRig) -> None:
    home, plant = world_rig.robot.home, world_rig.plant
    plant.hand.follow(HandPath.through([(1.0, list(home)), (1.3, list(home))]))
    world_rig.run(1.2)
    np.testing.assert_allclose(plant.position, home, atol=np.radians(1))
    np.testing.assert_allclose(world_rig.arm.observe().position, home, atol=np.radians(1.2))
    assert plant.state()["hand"]
    world_rig.run(1.0)
    assert not plant.hand.holding
    assert np.abs(plant.position - home).max() > 0.3


def test_a_hand_that_is_taken_away_pushes_no_more(world_rig: ArmRig) -> None:
    plant = world_rig.plant
    plant.hand.follow(HandPath.through([(1.0, list(world_rig.robot.home))]))
    world_rig.run(0.5)
    assert plant.world.servo.external.any()
    plant.hand.let_go()
    world_rig.run(0.02)
    assert not plant.world.servo.external.any()
    world_rig.run(1.0)


def test_what_the_hand_leaves_alone_stays_free(world_rig: ArmRig) -> None:
    plant = world_rig.plant
    before = plant.position.copy()
    path: list[float | None] = [None] * 6
    plant.hand.follow(HandPath.through([(0.5, [*path[:5], 0.9])]))
    world_rig.run(0.49)
    assert abs(plant.position[5] - 0.9) < 0.02
    assert np.abs(plant.position - before)[:5].max() < 0.1


def test_energised_joints_resist_with_the_servos_torque(world_rig: ArmRig) -> None:
    plant = world_rig.plant
    world_rig.arm.enable()
    before = plant.position.copy()
    plant.hand.follow(HandPath.through([(1.0, list(before + 0.6)), (1.5, list(before + 0.6))]))
    world_rig.run(1.3)
    pan = 0
    assert 0.05 < plant.position[pan] - before[pan] < 0.4
    assert plant.world.servo.torque[pan] < -1.0
    world_rig.run(0.7)
    assert abs(plant.position[pan] - before[pan]) < 0.03
    world_rig.arm.relax()


def test_an_ideal_arm_follows_exactly_where_it_is_limp() -> None:
    plant = IdealPlant(2, np.array([0.1, 0.2]))
    plant.drive.mode[1] = POSITION
    plant.hand.follow(HandPath.through([(1.0, [0.5, 0.9]), (2.0, [None, None]), (3.0, [0.3, None])]))
    for k in range(301):
        plant.advance(k * 0.01 + 0.01)
        if k == 50:
            assert plant.position[0] == pytest.approx(0.3)
    assert plant.position.tolist() == pytest.approx([0.3, 0.2])


def test_the_hand_begins_where_the_joint_is() -> None:
    hand = Hand(1)
    hand.follow(HandPath.through([(2.0, [1.0])]))
    assert hand.target(5.0, np.array([0.4]))[0] == pytest.approx([0.4])
    position, speed = hand.target(6.0, np.array([0.0]))
    assert (position[0], speed[0]) == pytest.approx((0.7, 0.3))
    assert np.isnan(hand.target(7.1, np.array([0.0]))[0]).all()
    assert not hand.holding


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "JSON list"),
        ([], "JSON list"),
        ([{"time": 1.0}], "point 0 is"),
        ([{"time": 1.0, "position": [0.0]}], "point 0 .* needs 2 joint angles"),
        ([{"time": 1.0, "position": [0.0, "a"]}], "point 0 .* needs 2 joint angles"),
        ([{"time": True, "position": [0.0, 0.0]}], "needs a time"),
        ([{"time": 0.0, "position": [0.0, 0.0]}], "above 0 and increase"),
        ([{"time": 2.0, "position": [0.0, 0.0]}, {"time": 2.0, "position": [0.0, 0.0]}], "above 0 and incr"),
        ([{"time": 1e9, "position": [0.0, 0.0]}], "at most 3600 s"),
    ],
)
def test_wrong_paths_are_refused(content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        HandPath.parse(json.loads(json.dumps(content)), 2)


def test_a_path_for_another_arm_is_refused() -> None:
    with pytest.raises(UserError, match="2 angles per point, the arm 3 joints"):
        Hand(3).follow(HandPath.through([(1.0, [0.0, 0.0])]))


def test_tell_hand_needs_a_readable_path(tmp_path: Path) -> None:
    assert tell("hand", str(tmp_path / "tty"))[0] == 2
    status, text = tell("hand", str(tmp_path / "tty"), path=str(tmp_path / "none.json"))
    assert status == 2 and "cannot read" in text
