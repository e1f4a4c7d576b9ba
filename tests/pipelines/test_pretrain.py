"""Collection and pretraining end to end on the real simulation, small."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hardware.runtime.sessions.session import ENOUGH
from pipelines.learning.collect import LINGER, CollectEpisode, Disturbance, collect
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.export import load_network
from pipelines.learning.pretrain import (
    Course,
    PretrainSettings,
    TimedPace,
    _Collector,
    pretrain,
    student_share,
)
from pipelines.learning.trainer import History, TrainerOptions
from pipelines.sweeps.evaluate import evaluate
from pipelines.sweeps.simulated import make_plan
from sim2real.errors import UserError
from sim2real.policies.file import load_policy_file
from sim2real.robot import Robot
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

CPU = TrainerOptions(accelerator="cpu", devices="1")
SMALL = {
    "task": "reach",
    "episodes": 6,
    "rounds": 2,
    "epochs": 4,
    "batches": 10,
    "batch_size": 64,
    "width": 32,
}


def small(out: Path, **changes: Any) -> dict[str, Any]:
    settings = PretrainSettings(**{**SMALL, "evaluate": 0, **changes})
    return pretrain(settings, out, workers=0, options=CPU)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    small(out, evaluate=2)
    return out


def test_a_run_directory_is_complete(trained: Path) -> None:
    policy = load_policy_file(trained / "policy.onnx")
    policy.check(Robot.load("so101"), load_task("reach"))
    assert policy.info.provenance["settings"]["episodes"] == 6
    metrics = json.loads((trained / "metrics.json").read_text())
    assert [row["epoch"] for row in metrics["curve"]] == [0, 1, 2, 3]
    assert [row["student_share"] for row in metrics["rounds"]] == [0.0, 0.5]
    assert metrics["evaluation"]["draws"] == 2
    assert metrics["export_difference"] < 1e-4
    config = json.loads((trained / "config.json").read_text())
    assert config["command"] == "pretrain" and config["seed"] == 0 and "torch" in config["versions"]
    assert list((trained / "tensorboard").rglob("events.*"))
    assert list((trained / "logs").rglob("metrics.csv"))


def test_same_seed_same_policy(trained: Path, tmp_path: Path) -> None:
    small(tmp_path / "again")
    small(tmp_path / "other", seed=1)
    weights = [
        load_network(folder / "policy.onnx")[0].state_dict()
        for folder in (trained, tmp_path / "again", tmp_path / "other")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["head.weight"], weights[2]["head.weight"])


def test_an_interrupted_run_is_usable_and_resumes_to_the_same_policy(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the third epoch, that is in the second round; then --resume."""
    from pipelines.learning.cloning import ChunkCloning

    original = ChunkCloning.training_step

    def stopping(self: ChunkCloning, batch: Any, index: int) -> Any:
        if self.trainer.current_epoch == 2 and index == 5:
            raise KeyboardInterrupt
        return original(self, batch, index)

    out = tmp_path / "run"
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(ChunkCloning, "training_step", stopping)
        result = small(out)
    assert result["interrupted"]
    assert signal.getsignal(signal.SIGINT) is handler
    load_policy_file(out / "policy.onnx").check(Robot.load("so101"), "reach")

    settings = PretrainSettings(**{**SMALL, "evaluate": 0})
    result = pretrain(settings, out, workers=0, options=CPU, resume=True)
    assert not result["interrupted"]
    metrics = json.loads((out / "metrics.json").read_text())
    assert [row["epoch"] for row in metrics["curve"]] == [0, 1, 2, 3]
    assert len(metrics["rounds"]) == 2
    straight, resumed = (load_network(p / "policy.onnx")[0].state_dict() for p in (trained, out))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_resuming_nothing_or_something_else_is_refused(trained: Path, tmp_path: Path) -> None:
    settings = PretrainSettings(**SMALL)
    with pytest.raises(UserError, match="to resume"):
        pretrain(settings, tmp_path / "empty", workers=0, resume=True)
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    with pytest.raises(UserError, match=r"another run of 'pretrain' \(seed: 0 there, 5 here"):
        pretrain(PretrainSettings(**{**SMALL, "evaluate": 2, "seed": 5}), trained, workers=0, resume=True)
    with pytest.raises(UserError, match=r"another run of 'pretrain' \(task: \"reach\" there, \"push\" here"):
        pretrain(PretrainSettings(**{**SMALL, "evaluate": 2, "task": "push"}), trained, workers=0)
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_a_finished_run_is_not_run_again(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = (trained / "policy.onnx").stat().st_mtime_ns
    result = pretrain(PretrainSettings(**{**SMALL, "evaluate": 2}), trained, workers=0, options=CPU)
    assert not result["interrupted"] and len(result["rounds"]) == 2 and result["steps"] > 0
    assert (trained / "policy.onnx").stat().st_mtime_ns == policy
    assert "nothing to do" in capsys.readouterr().err


def test_a_foreign_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is not empty"):
        small(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


class Clock:
    """A budget whose use is set by hand."""

    def __init__(self) -> None:
        self.value = 0.0

    def used(self) -> float:
        return self.value


def test_rounds_share_what_is_left_of_a_budget() -> None:
    clock = Clock()
    pace = TimedPace(rounds=3, epochs_per_round=10, budget=clock)  # type: ignore[arg-type]
    assert pace.wanted(0, 0) == 1
    clock.value = 0.3  # the start took long
    collected = pace.begin(0)
    assert not collected()
    clock.value = 0.41  # half of (0.9 − 0.3) / 3
    assert collected() and not pace.expired(1) and pace.wanted(1, 1) == 1
    clock.value = 0.51
    assert pace.expired(1) and pace.wanted(1, 1) == 2
    pace.begin(1)
    clock.value = 0.72
    assert pace.wanted(2, 2) == 3
    pace.begin(2)
    clock.value = 2.0
    assert not pace.expired(3) and pace.wanted(2, 3) <= 3
    # Without hurry rounds come with the epochs.
    clock.value = 0.0
    assert [pace.wanted(epoch, 3) for epoch in (0, 9, 10, 29)] == [1, 1, 2, 3]


def test_a_round_that_was_collected_before_ends_by_the_budget_too(tmp_path: Path) -> None:
    clock = Clock()
    pace = TimedPace(rounds=2, epochs_per_round=100, budget=clock)  # type: ignore[arg-type]
    kept = Demonstrations(np.zeros((4, 3), np.float32), np.zeros((4, 2, 6), np.float32), np.arange(4))
    kept.save(tmp_path / "data" / "round-0.npz")
    settings = PretrainSettings(task="reach", episodes=8, rounds=2, epochs=200)
    history = History(tmp_path / "metrics.json")
    collector = _Collector(Course(settings), tmp_path, 0, pace, lambda: 0.0, history, [])
    assert len(collector(0)) == 4 and pace.wanted(1, 1) == 1
    clock.value = 0.46  # more than 0.9 / 2
    assert pace.wanted(1, 1) == 2


@pytest.mark.realtime
def test_a_tiny_budget_still_gives_a_policy(tmp_path: Path) -> None:
    settings = PretrainSettings(**{**SMALL, "episodes": 400, "epochs": 4000, "evaluate": 0})
    result = pretrain(settings, tmp_path / "run", workers=0, options=CPU, max_minutes=0.1)
    assert not result["interrupted"]
    assert [row["episodes"] >= 8 for row in result["rounds"]] == [True, True]
    assert sum(row["episodes"] for row in result["rounds"]) < 400
    curve = json.loads((tmp_path / "run" / "metrics.json").read_text())["curve"]
    assert 2 <= len(curve) < 4000
    load_policy_file(tmp_path / "run" / "policy.onnx").check(Robot.load("so101"), "reach")


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for options in (
        TrainerOptions(accelerator="abacus"),
        TrainerOptions("cpu", "two"),
        TrainerOptions(precision="7"),
    ):
        with pytest.raises(UserError):
            pretrain(PretrainSettings(**SMALL), tmp_path / "run", workers=0, options=options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episodes": 3}, "at least two episodes each"),
        ({"epochs": 1}, "at least as many epochs"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"learning_rate": -1.0}, "learning rate must be positive"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PretrainSettings(**{**SMALL, **change})


def test_the_student_takes_over_bit_by_bit() -> None:
    assert [student_share(r, 4) for r in range(4)] == [0.0, 0.5, 0.7, 0.9]
    assert [student_share(r, 2) for r in range(2)] == [0.0, 0.5]


def test_collection_does_not_depend_on_workers_and_labels_come_from_the_expert(trained: Path) -> None:
    plan = make_plan(task="reach", draws=4, seed=3)
    draws, _ = plan.make_draws(plan.bind())
    recipe = CollectEpisode("so101", "reach", Disturbance(student=1.0), student=str(trained / "policy.onnx"))
    here, summary = collect(recipe, draws, workers=0, progress=False)
    there, _ = collect(recipe, draws[::-1], workers=2, progress=False)
    np.testing.assert_array_equal(here.observations, there.observations)
    np.testing.assert_array_equal(here.chunks, there.chunks)
    np.testing.assert_array_equal(here.episodes, there.episodes)
    assert summary["episodes"] == 4 and summary["errors"] == 0
    # The barely trained student did not reach; the labels still lead there: they differ from what it does.
    policy = load_policy_file(trained / "policy.onnx")
    assert np.abs(policy.act_on(here.observations) - here.chunks).max() > 0.05


def test_collection_noise_departs_from_the_expert() -> None:
    plan = make_plan(task="reach", draws=2, seed=3)
    draws, _ = plan.make_draws(plan.bind())
    quiet, _ = collect(
        CollectEpisode("so101", "reach", Disturbance(noise=0.0)), draws, workers=0, progress=False
    )
    noisy, _ = collect(
        CollectEpisode("so101", "reach", Disturbance(noise=0.1, noisy=0.9)), draws, workers=0, progress=False
    )
    shared = min(int((quiet.episodes == draws[0].index).sum()), int((noisy.episodes == draws[0].index).sum()))
    command = slice(6, 12)
    np.testing.assert_array_equal(quiet.observations[0, command], noisy.observations[0, command])
    assert np.abs(quiet.observations[:shared, command] - noisy.observations[:shared, command]).max() > 0.01


def test_collection_goes_on_after_success() -> None:
    """An arm's episode ends a second after it has succeeded: what to do until then must be learned as well."""
    plan = make_plan(task="reach", draws=1, seed=3)
    draw = plan.make_draws(plan.bind())[0][0]
    robot, task = Robot.load("so101"), load_task("reach")
    collected = CollectEpisode("so101", "reach", Disturbance(noise=0.0))()(draw)
    with World(robot, task) as world:
        episode = rollout(world, task.expert(robot), draw)
    assert episode.success and collected["success"]
    assert len(collected["observations"]) == len(episode) + round(LINGER * robot.policy_rate)
    assert LINGER > ENOUGH, "longer than a session waits"


def test_labels_are_what_the_expert_does_on_what_it_may_see() -> None:
    plan = make_plan(task="reach", draws=1, seed=3)
    draws, _ = plan.make_draws(plan.bind())
    robot, task = Robot.load("so101"), load_task("reach")
    stops = np.cumsum([feature.size for feature in task.features])[:-1]
    made = {}
    for labels in ("sensors", "truth"):
        recipe = CollectEpisode("so101", "reach", Disturbance(noise=0.0), labels=labels)
        made[labels], _ = collect(recipe, draws, workers=0, progress=False)
        parts = np.split(made[labels].observations[10].astype(float), stops)
        again = task.expert(robot).act({f.name: part for f, part in zip(task.features, parts)})
        same = np.allclose(again, made[labels].chunks[10], atol=1e-4)
        assert same == (labels == "sensors")


def test_workers_do_not_load_torch() -> None:
    code = (
        "import sys; import pipelines.learning.collect, pipelines.sweeps.evaluate, sim2real.policies.file\n"
        "print(sorted({'torch', 'lightning'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_evaluation_counts_and_does_not_depend_on_workers() -> None:
    plan = make_plan(task="reach", policy="zero", draws=3, seed=1)
    here = evaluate(plan, workers=0, progress=False)
    assert here == evaluate(plan, workers=2, progress=False)
    assert here["draws"] == 3 and here["successes"] + len(here["failures"]) == 3
    assert sum(here["stages"].values()) == 3
    assert here["wilson_95"][0] <= here["success_rate"] <= here["wilson_95"][1]


def command(*arguments: str, **extra: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments], capture_output=True, text=True, timeout=280, **extra
    )


SMALL_FLAGS = (
    *("--task", "reach", "--episodes", "4", "--rounds", "1", "--epochs", "2", "--batches", "5"),
    *("--width", "16", "--evaluate", "0", "--workers", "1", "--accelerator", "cpu"),
)


@pytest.mark.slow
def test_the_command_line_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = command("pretrain", *SMALL_FLAGS, "--out", str(out))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines()[-1] == f"{out}/policy.onnx"
    assert "Traceback" not in result.stderr
    result = command(
        *("evaluate", "--policy", str(out / "policy.onnx"), "--draws", "2"),
        *("--workers", "0", "--json"),
    )
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert {"draws", "successes", "success_rate", "wilson_95"} <= answer.keys()
    assert answer["draws"] == 2 and answer["task"] == "reach"
    result = command(
        "evaluate", "--policy", str(out / "policy.onnx"), "--task", "lift", "--draws", "2", "--json"
    )
    assert result.returncode == 2
    assert "trained for the task 'reach', not for 'lift'" in result.stderr and not result.stdout


@pytest.mark.slow
def test_ctrl_c_during_training_leaves_a_policy_and_no_process(tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = [*SMALL_FLAGS[:6], "--epochs", "100000", *SMALL_FLAGS[8:]]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "pretrain", *arguments, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 200
        while not (out / "metrics.json").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    load_policy_file(out / "policy.onnx").check(Robot.load("so101"), "reach")


def test_a_mistake_in_the_request_claims_no_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no kind of network 'mpl'"):
        pretrain(PretrainSettings(**{**SMALL, "network": "mpl"}), tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()
