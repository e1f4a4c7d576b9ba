"""Realities as data: they can be used on every task, lie outside the training ranges, and training knows none."""

from pathlib import Path

import pytest

from pipelines.transfers.reality import (
    load_realities,
    load_reality,
    parameters_of,
    read_reality,
    reality_names,
)
from sim2real.errors import UserError
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task
from tests.test_imports import ARROWS

NAMES = reality_names()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("task_name", ["reach", "push", "lift", "place", "stack"])
def test_each_fits_every_task(name: str, task_name: str) -> None:
    robot = Robot.load("so101")
    task = load_task(task_name, robot.n)
    declared = parameters_of(robot, task)
    values = load_reality(name).values(declared)
    assert values
    for key, value in values.items():
        assert declared[key].refusal(value) == ""


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mujoco_plain"])
def test_each_is_outside_the_training_ranges(name: str) -> None:
    robot = Robot.load("so101")
    reality = load_reality(name)
    declared = parameters_of(robot, load_task("lift", robot.n))
    beyond = [
        key
        for key, value in reality.values(declared).items()
        if not declared[key].low <= value <= declared[key].high
    ]
    assert beyond or reality.camera is not None


def test_half_of_them_are_in_another_engine() -> None:
    engines = [load_reality(name).engine for name in NAMES]
    assert len(NAMES) >= 8 and engines.count("mujoco") * 2 == len(engines)


def test_nothing_that_trains_imports_them() -> None:
    """No chain of imports leads from what trains to a reality, and no file of it imports the engine that only tests."""
    rooms = ("pipelines.learning.", "pipelines.sweeps.", "pipelines.identification.", "randomization.")
    starts = [module for module in ARROWS if module.startswith(rooms)]
    assert len(starts) > 50
    for start in starts:
        assert not any(target.startswith("sim2real.simulation.crosssim") for target in ARROWS[start]), start
        seen, waiting = {start}, [start]
        while waiting:
            for target in ARROWS.get(waiting.pop(), ()):
                assert not target.startswith("pipelines.transfers"), (start, target)
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)


def test_wrong_names_say_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'sticky'"):
        load_reality("stiky")
    with pytest.raises(UserError, match="twice"):
        load_realities("sticky,sticky")
    assert len(load_realities("all")) == len(NAMES)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("engine = 'mujocoo'", "did you mean 'mujoco'"),
        ("enginee = 'mujoco'", "did you mean 'engine'"),
        ("[parameters]\n'servo.*.kp' = {scal = 2.0}", "scale"),
        ("[parameters]\n'servo.*.kp' = 'soft'", "finite number"),
        ("[parameters]\n'servo.*.kp' = []", "needs a number"),
        ("[camera]\nposition = [0.5, 0.1]\ntarget = [0, 0, 0]", "three numbers"),
        ("[camera]\nposition = [0.5, 0.1, 0.3]\ntarget = [0, 0, 0]\nwidht = 3", "did you mean 'width'"),
        ("parameters = 3", "tables"),
        ("engine = ", "TOML"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        read_reality(path)


def test_a_parameter_that_does_not_exist_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[parameters]\n'servo.*.kpp' = 2.0\n'object.*.mass' = 0.03")
    robot = Robot.load("so101")
    declared = parameters_of(robot, load_task("reach", robot.n))
    with pytest.raises(UserError, match=r"servo.\*.kpp"):
        read_reality(path).values(declared)


def test_modes_and_numbers_by_joint(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "[parameters]\n'servo.*.offset' = {add = [0.01, -0.02]}\n'servo.*.kp' = {scale = 2.0}\n"
        "'servo.gripper.kp' = 1.5\n[camera]\nposition = [0.5, 0.1, 0.4]\ntarget = [0.2, 0.0, 0.0]\nwidth = 320\n"
    )
    robot, reality = Robot.load("so101"), read_reality(path)
    declared = parameters_of(robot, load_task("lift", robot.n))
    values = reality.values(declared)
    assert [values[f"servo.{n}.offset"] for n in robot.joint_names] == pytest.approx([0.01, -0.02] * 3)
    assert values["servo.elbow_flex.kp"] == pytest.approx(2 * declared["servo.elbow_flex.kp"].nominal)
    assert values["servo.gripper.kp"] == 1.5
    assert reality.robot(robot).cameras["front"].width == 320 and robot.cameras["front"].width == 640
