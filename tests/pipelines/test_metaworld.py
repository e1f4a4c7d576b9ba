"""Meta-World: trials, demonstrations and training, where its package is installed; what is said where it is not."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.cli import main
from pipelines.learning.export import export_policy
from pipelines.learning.networks.registry import build_network
from sim2real.observation import Feature
from sim2real.policies.file import PolicyInfo, load_policy_file

THERE = find_spec("metaworld") is not None
needs = pytest.mark.skipif(not THERE, reason="metaworld is not installed")
FEATURES = [
    ("hand", 3), ("fingers", 1), ("first.position", 3), ("first.rotation", 4), ("second.position", 3),
    ("second.rotation", 4), ("goal", 3), ("task", 10),
]  # fmt: skip


@pytest.mark.skipif(THERE, reason="metaworld is installed")
@pytest.mark.parametrize("command", [["benchmark", "--policy", "expert"], ["pretrain"]])
def test_without_the_package_nothing_begins(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--suite", "metaworld-mt10", "--out", str(tmp_path / "o")]) == 2
    assert "sim2real-transfer[metaworld]" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_the_task_decides_what_the_network_does(tmp_path: Path) -> None:
    """Through the file: actions equal the network's, and differ by task alone."""
    torch.manual_seed(0)
    network = build_network(
        {"kind": "states", "features": FEATURES, "joints": 4, "horizon": 1, "width": 16, "depth": 2}
    )
    info = PolicyInfo(
        task="metaworld-mt10", robot="metaworld-sawyer", joints=("x", "y", "z", "gripper"),
        features=tuple(Feature(*f) for f in FEATURES), horizon=1, policy_rate=80, command_rate=80,
    )  # fmt: skip
    assert export_policy(network, info, tmp_path / "p.onnx") < 1e-4
    policy = load_policy_file(tmp_path / "p.onnx")
    state = np.tile(np.random.default_rng(0).normal(size=21), (10, 1))
    actions = policy.act_on(np.concatenate([state, np.eye(10)], axis=1).astype(np.float32))[:, 0]
    assert len(np.unique(actions.round(5), axis=0)) == 10


@needs
@pytest.mark.slow
def test_experts_succeed_at_different_goals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", "--policy", "expert", "--suite", "metaworld-mt10", "--workers", "0", "--json"]
    assert main([*words, "--trials", "2", "--out", str(tmp_path / "b")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tasks"] == 10 and found["success_rate"] >= 0.9
    assert main([*words, "--trials", "51", "--out", str(tmp_path / "c")]) == 2
    assert "at most 50" in capsys.readouterr().err


@needs
def test_resets_are_exact_and_goals_differ() -> None:
    from pipelines.metaworld.suite import Table

    table = Table("push-v3", "seen")
    starts = [table.reset(k) for k in (0, 1, 2, 0)]
    assert np.array_equal(starts[0], starts[3])
    assert np.abs(starts[0] - starts[1]).max() > 0.01 and np.abs(starts[1] - starts[2]).max() > 0.01


@needs
@pytest.mark.slow
def test_a_tiny_policy_goes_from_training_to_the_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--suite", "metaworld-mt10", "--workers", "0", "--out"]
    few = ["--episodes", "10", "--epochs", "1", "--batches", "2", "--evaluate", "0", "--width", "16"]
    assert main(["pretrain", *words, str(tmp_path / "p"), *few]) == 0
    policy = str(tmp_path / "p" / "policy.onnx")
    capsys.readouterr()
    assert (
        main(["benchmark", "--policy", policy, *words, str(tmp_path / "b"), "--trials", "2", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["trials"] == 20
    assert (
        main(["benchmark", "--policy", policy, "--suite", "metaworld-mt50", "--out", str(tmp_path / "c")])
        == 2
    )
    assert "metaworld-mt10" in capsys.readouterr().err
