"""The protocol end to end: an episode on each engine, resuming, what is refused."""

import json
from pathlib import Path

import pytest

from pipelines.transfer.methods import narrowed, widened
from pipelines.transfer.reality import load_reality, parameters_of
from pipelines.transfer.recording import record_on
from pipelines.transfer.rig import Rig, start_of
from pipelines.transfer.run import Asked, run_transfer
from sim2real.errors import UserError
from sim2real.lerobot.reader import LeRobotDataset
from sim2real.policies.load import load_policy
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task


def _asked(**changed: object) -> Asked:
    given = {
        "task": "reach",
        "robot": "so101",
        "realities": (load_reality("mujoco_plain"),),
        "methods": ("default",),
        "episodes": 2,
        "policies": {"default": "expert"},
    }
    return Asked(**{**given, **changed})  # type: ignore[arg-type]


def _expert(method: str, reality: object) -> str:
    return "expert"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slow_wire", "mujoco_loose"])
def test_the_expert_lifts_through_bytes_and_pictures(name: str) -> None:
    robot = Robot.load("so101")
    task, reality = load_task("lift", robot.n), load_reality(name)
    rig = Rig(robot, task, reality, values=reality.values(parameters_of(robot, task)))
    try:
        policy = load_policy("expert", task, robot)
        first = rig.run(policy, start_of(task, robot, 1, 0))
        assert first.success and first.stage == "lifted" and first.fault == "" and 1.0 < first.seconds < 8.0
        assert rig.plant.world.truth().objects["cube"].position[2] > 0.06
        # Nothing of an episode is left in the next: the same one goes the same way.
        assert rig.run(policy, start_of(task, robot, 1, 0)) == first
        assert not rig.run(load_policy("zero", task, robot), start_of(task, robot, 1, 0)).success
    finally:
        rig.close()


def test_episodes_begin_alike_for_every_method() -> None:
    robot = Robot.load("so101")
    task = load_task("push", robot.n)
    one, two, other = start_of(task, robot, 3, 0), start_of(task, robot, 3, 0), start_of(task, robot, 4, 0)
    assert one.scene.poses == two.scene.poses and (one.position == two.position).all()
    assert one.scene.poses != other.scene.poses


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_transfer(_asked(episodes=1), out, _expert, workers=0, progress=False)
    cell = out / "episodes" / "mujoco_plain.default.json"
    first = json.loads(cell.read_text())
    # As if it had been killed after an episode of which this is known: what is there is not run again.
    first["rows"][0]["seconds"] = 1.25
    cell.write_text(json.dumps(first))
    found = run_transfer(_asked(episodes=2), out, _expert, workers=0, progress=False)
    rows = json.loads(cell.read_text())["rows"]
    assert [row["index"] for row in rows] == [0, 1] and rows[0]["seconds"] == 1.25
    assert (
        found["methods"]["default"]["episodes"] == 2
        and found["realities"]["mujoco_plain"]["default"]["successes"] == 2
    )
    assert json.loads((out / "transfer.json").read_text())["caveat"] == found["caveat"]

    with pytest.raises(UserError, match="policy.name"):
        run_transfer(
            _asked(policies={"default": "zero"}),
            out,
            lambda method, reality: "zero",
            workers=0,
            progress=False,
        )
    with pytest.raises(UserError, match="seed"):
        run_transfer(_asked(seed=1), out, _expert, workers=0, progress=False)


def test_what_is_asked_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'default'"):
        _asked(methods=("defalt",), policies={})
    with pytest.raises(UserError, match="not among --methods"):
        _asked(methods=("none",))
    with pytest.raises(UserError, match="at least 1"):
        _asked(episodes=0)
    with pytest.raises(UserError, match="twice"):
        _asked(methods=("none", "none"), policies={})
    out = tmp_path / "run"
    with pytest.raises(UserError, match="does not exist"):
        run_transfer(
            _asked(policies={"default": str(tmp_path / "x.onnx")}), out, _expert, workers=0, progress=False
        )
    assert not out.exists()


def test_what_was_recorded_on_a_reality_can_be_learned_from(tmp_path: Path) -> None:
    out = tmp_path / "recorded" / "mujoco_plain"
    found = record_on(load_reality("mujoco_plain"), "reach", "so101", "expert", 2, out)
    data = LeRobotDataset.open(out)
    assert found["episodes"] == len(data) == 2 and found["successes"] == 2
    assert all(data.success(k) for k in range(2))
    robot = Robot.load("so101")
    episodes = data.load(robot, data.converter(robot), [0, 1])
    for episode in episodes:
        # The state follows what was executed, as far behind as servos are.
        lag = abs(episode.state[5:] - episode.executed[:-5]).max()
        assert lag < 0.15 and len(episode) > 20


def test_spaces_of_methods_lie_around_the_nominal_values() -> None:
    robot = Robot.load("so101")
    declared = parameters_of(robot, load_task("lift", robot.n))
    ranges = narrowed(declared, 0.3)["parameters"]
    name = "servo.elbow_flex.coulomb"
    parameter = declared[name]
    assert parameter.low < ranges[name]["low"] < parameter.nominal < ranges[name]["high"] < parameter.high
    assert not any(key.startswith("task.") for key in ranges)
    wide = widened(declared, ("servo.voltage", "servo.*.coulomb"), 1.0)
    assert wide["servo.voltage"] == pytest.approx((0.7, 1.3)) and 0 < wide[name][0] < parameter.low
