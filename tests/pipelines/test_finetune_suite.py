"""Teaching a policy for many tasks a further one: what is refused, and the whole way at toy size."""

import json
from pathlib import Path

import pytest
import torch

from pipelines import finetune
from pipelines.cli import main
from pipelines.learning.export import export_policy
from pipelines.learning.finetune_suite import ONE_TASK_ONLY, SuiteTuning, settings_of
from pipelines.learning.networks.registry import build_network
from pipelines.learning.pretrain import PretrainSettings
from pipelines.learning.suite import SuiteSettings
from sim2real.calibration import Calibration
from sim2real.errors import UserError
from sim2real.lerobot.recording import write_episodes
from sim2real.parameters import Draw
from sim2real.policies.file import load_policy_file
from sim2real.robot import Robot
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

SMALL = ["--epochs", "1", "--evaluate", "0", "--workers", "0"]


def untrained(settings: PretrainSettings, path: Path) -> str:
    """A policy file as `pretrain` begins with."""
    course = settings.course()
    torch.manual_seed(0)
    network = build_network(course.arguments())
    network.set_robot(course.robot)
    export_policy(network, course.info(network), path)
    return str(path)


@pytest.fixture(scope="module")
def suite_policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    settings = SuiteSettings(
        task="table", tasks=("lift_cube", "can_at_mark"), episodes=8, rounds=2, epochs=2, width=16, depth=1, token=8,
        heads=2,
    )  # fmt: skip
    return untrained(settings, tmp_path_factory.mktemp("suite") / "policy.onnx")


@pytest.fixture(scope="module")
def single_policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    settings = PretrainSettings(task="reach", width=8, depth=1)
    return untrained(settings, tmp_path_factory.mktemp("single") / "policy.onnx")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "got neither"),
        (["--tasks", "lift_ball", "--data", "somewhere"], "not both"),
        (["--tasks", "lift_bal"], "did you mean 'table/lift_ball'"),
        (["--tasks", "lift"], "no task of 'table' is called 'lift'"),
        (["--tasks", "x_*"], "sim2real tasks --suite table"),
        (["--tasks", "lift_ball", "--mix", "0.5"], "--mix: only"),
        (["--tasks", "lift_ball", "--demonstrations", "0"], "at least 1"),
        (["--tasks", "lift_ball", "--rehearsal", "1"], "0..1 (not 1)"),
        (["--tasks", "lift_ball", "--task", "table/lift_ball"], "leave it out"),
        (["--tasks", "lift_cube", "can_at_mark"], "nothing to rehearse"),
        (["--demonstrations", "3", "--data", "somewhere"], "add --tasks"),
    ],
)
def test_what_cannot_be_taught_is_refused(
    words: list[str], says: str, suite_policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t"
    assert main(["finetune", "--policy", suite_policy, *words, "--out", str(out)]) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--tasks", "lift_ball"], "is for the one task 'reach'"),
        ([], "give --data DIR"),
        (["--data", "somewhere", "--demonstrations", "3"], "give --data DIR"),
    ],
)
def test_policies_for_one_task_are_refused(
    words: list[str], says: str, single_policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t"
    assert main(["finetune", "--policy", single_policy, *words, "--out", str(out)]) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()


def test_settings_of_policies_for_one_task_are_named() -> None:
    for name in ONE_TASK_ONLY:
        with pytest.raises(UserError, match=name):
            settings_of({"policy": "p.onnx", "tasks": ("lift_ball",), name: 1})
    assert settings_of({"policy": "p.onnx", "tasks": ["lift_ball"], "object": []}) == SuiteTuning(
        policy="p.onnx", tasks=("lift_ball",)
    )


@pytest.mark.slow
def test_a_task_is_taught_with_rehearsal(suite_policy: str, tmp_path: Path) -> None:
    taught = finetune(
        suite_policy, tasks=["lift_ball"], demonstrations=2, simulated=2, epochs=1, batches=2, batch_size=32,
        evaluate=1, out=tmp_path / "t", workers=0,
    )  # fmt: skip
    metrics = json.loads((tmp_path / "t" / "metrics.json").read_text())
    assert metrics["tasks"] == ["table/lift_ball"] and taught.episodes == 2
    assert metrics["rehearsed"]["tasks"] == 2 and metrics["rehearsed"]["share"] == 0.5
    assert set(metrics["simulation"]["after"]["per_task"]) == {"table/lift_ball"}
    assert metrics["forgetting"]["after"]["draws"] == 1 and metrics["forgotten"] is False
    assert len(metrics["forgetting"]["interval_95"]) == 2
    info = load_policy_file(taught.policy).info
    assert info.provenance["tasks"] == ["table/lift_cube", "table/can_at_mark", "table/lift_ball"]


@pytest.mark.slow
def test_a_recording_teaches_the_task_that_it_shows(suite_policy: str, tmp_path: Path) -> None:
    robot, task = Robot.load("so101"), load_task("table/lift_ball")
    recorded = tmp_path / "set"
    with World(robot, task) as world:
        episodes = [rollout(world, task.expert(robot), Draw(k, k, {}), privileged=False) for k in range(2)]
    write_episodes(recorded, robot, Calibration.nominal(robot), episodes)
    words = ["finetune", "--policy", suite_policy, "--data", str(recorded), "--rehearsal", "0", *SMALL]
    assert main([*words, "--out", str(tmp_path / "t")]) == 0
    metrics = json.loads((tmp_path / "t" / "metrics.json").read_text())
    assert metrics["tasks"] == ["table/lift_ball"] and "rehearsed" not in metrics
    assert metrics["recorded"]["episodes"] == 2
    before, after = (metrics["held_out_deg"][when] for when in ("before", "after"))
    assert after < before
