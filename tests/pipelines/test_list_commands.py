"""`sim2real robots` and `sim2real tasks`."""

import json

import pytest

from pipelines.cli import main


def test_tasks_are_listed_with_what_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "--json"]) == 0
    tasks = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(tasks) == {"reach", "push", "lift", "place", "stack"}
    assert [spec["name"] for spec in tasks["push"]["objects"]] == ["cube", "mark"]
    assert {"name": "goal", "size": 3} in tasks["reach"]["features"]
    radius = next(p for p in tasks["lift"]["parameters"] if p["name"] == "task.cube.radius")
    assert (radius["low"], radius["high"], radius["unit"]) == (0.17, 0.27, "m")
    assert main(["tasks"]) == 0
    assert "push a cube" in capsys.readouterr().out


def test_a_users_task_is_listed_by_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "--task", "examples.04_own_task:ReachHigh", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "reach_high"


def test_robots_are_listed_with_their_joints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robots", "--json"]) == 0
    robots = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert [joint["servo_id"] for joint in robots["so101"]["joints"]] == [1, 2, 3, 4, 5, 6]
    assert robots["so101"]["gripper"] == "gripper"
    assert main(["robots"]) == 0
    assert "wrist_flex" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tasks", "--task", "juggle"], "known are lift, place, push, reach, stack"),
        (["robots", "--robot", "so102"], "there is no robot called 'so102'"),
        (["robots", "--robot", "absent.toml"], "absent.toml does not exist"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert expected in shown.err and "Traceback" not in shown.err
    assert shown.out == ""
