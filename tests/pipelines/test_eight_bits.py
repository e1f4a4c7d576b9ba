"""8-bit weights: what they change, where they pay, and that nobody trains them further."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import quantize_policy
from pipelines.cli import main
from pipelines.learning.eight_bits import Comparison, Difference, eight_bits
from pipelines.learning.export import export_policy, load_network
from pipelines.learning.networks.mlp import ChunkMLP, chain_of
from sim2real.errors import UserError
from sim2real.policies.file import (
    INFO_KEY,
    NETWORK_KEY,
    QUANTIZED_KEY,
    WEIGHTS_KEY,
    PolicyInfo,
    load_policy_file,
)
from sim2real.policies.latency import Timing
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task

ROBOT = Robot.load("so101")
FEATURES = load_task("reach").features
INFO = PolicyInfo(
    task="reach",
    robot=ROBOT.name,
    joints=ROBOT.joint_names,
    features=FEATURES,
    horizon=10,
    policy_rate=ROBOT.policy_rate,
    command_rate=ROBOT.command_rate,
    provenance={"seed": 3},
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    chain = chain_of(ROBOT)
    made = ChunkMLP([(f.name, f.size) for f in FEATURES], ROBOT.n, 10, width=256, depth=2, chain=chain.joints)
    made.encoder.set_chain(chain)
    observations = 0.3 * torch.randn(200, INFO.observation_size)
    made.fit_normalizers(observations, made.reference(observations) + 0.1 * torch.randn(200, 10, ROBOT.n))
    for parameter in made.parameters():
        parameter.data += 0.03 * torch.randn_like(parameter)
    path = tmp_path_factory.mktemp("policy") / "policy.onnx"
    export_policy(made, INFO, path)
    return path


def took(p50: float) -> Timing:
    return Timing(100, p50, p50, p50, p50, p50)


def comparison(
    before: float, after: float, largest: float = 0.2, rms: float = 0.05, products: int = 3
) -> Comparison:
    apart = Difference(100, "x", np.radians(largest), np.radians(rms), "gripper")
    return Comparison(b"1234", 8, took(before), took(after), apart, products)


def test_when_it_pays() -> None:
    assert comparison(0.003, 0.001).pays
    for kept, words in (
        (comparison(0.003, 0.0027), "2.700 ms instead of 3.000 ms"),
        (comparison(0.0001, 0.00002), "0.020 ms instead of 0.100 ms"),
        (comparison(0.003, 0.001, largest=1.2), "at most by 1.20° (gripper)"),
        (comparison(0.003, 0.001, rms=0.3), "0.30° (root mean square)"),
        (comparison(0.003, 0.001, products=0), "no matrix product"),
    ):
        assert len(kept.objections) == 1 and words in kept.objections[0]
        assert kept.result()["pays"] is False


def test_a_small_network_is_left_as_it_is_unless_asked(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "policy8.onnx"
    words = ["bench-policy", str(policy), "--quantize", str(out), "--seconds", "0.2", "--load", "0"]
    assert main(words) == 1 and not out.exists()
    assert "do not pay" in capsys.readouterr().out
    assert main([*words, "--anyway", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    made = found["quantized"]
    assert not made["pays"] and made["out"] == str(out) and made["matrix_products"] >= 3
    assert made["compared_on"]["observations"] > 100 and 0 < made["difference_deg"]["rms"] < 1

    before, after = load_policy_file(policy), load_policy_file(out)
    for key in (INFO_KEY, NETWORK_KEY, WEIGHTS_KEY):
        assert after.metadata[key] == before.metadata[key]
    assert json.loads(after.metadata[QUANTIZED_KEY])["source"] == before.sha256
    assert out.stat().st_size < policy.stat().st_size
    vectors = np.random.default_rng(0).normal(scale=0.3, size=(50, INFO.observation_size)).astype(np.float32)
    apart = np.abs([after.act_on(v[None]) - before.act_on(v[None]) for v in vectors])
    assert 0 < apart.max() < np.radians(10), "8 bits, and what the network does"

    with pytest.raises(UserError, match="8-bit weights, which cannot be trained further: fine-tune the file"):
        load_network(out)
    with pytest.raises(UserError, match="has 8-bit weights already"):
        quantize_policy(out, tmp_path / "again.onnx", seconds=0.1)


def test_mistakes(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="is the policy itself"):
        quantize_policy(policy, policy)
    with pytest.raises(UserError, match="only a policy file"):
        quantize_policy("zero", tmp_path / "o.onnx")
    other = tmp_path / "other.onnx"
    other.write_bytes(b"theirs")
    with pytest.raises(UserError, match="was not made by this program"):
        quantize_policy(policy, other)
    assert other.read_bytes() == b"theirs"
    assert main(["bench-policy", str(policy), "--anyway"]) == 2
    assert "give --quantize OUT.onnx" in capsys.readouterr().err


def test_what_cannot_be_quantized_is_said(policy: Path) -> None:
    with pytest.raises(UserError, match="cannot be given 8-bit weights"):
        eight_bits(b"no network", load_policy_file(policy))


def test_products_are_found_however_an_exporter_writes_them(tmp_path: Path) -> None:
    """As a Gemm, without a name, or with weights that are transposed as it runs."""
    from onnx import TensorProto, helper, numpy_helper
    from torch import nn

    from pipelines import export_policy as export

    size = INFO.observation_size
    dense = nn.Sequential(
        nn.Linear(size, 300),
        nn.ReLU(),
        nn.Linear(300, 300),
        nn.Linear(300, 60),
        nn.Unflatten(1, (10, ROBOT.n)),
    )
    weights = np.random.default_rng(0).normal(size=(300, size)).astype(np.float32)
    more = np.random.default_rng(1).normal(size=(300, 60)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
            helper.make_node("MatMul", ["x", "wt"], ["h"]),
            helper.make_node("MatMul", ["h", "v"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["y"]),
        ],
        "turned",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 10, ROBOT.n])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(more, "v"),
            numpy_helper.from_array(np.array([-1, 10, ROBOT.n]), "shape"),
        ],
    )
    turned = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for network, expected in ((dense, 3), (turned.SerializeToString(), 2)):
        path = export(network, "reach", out=tmp_path / "network.onnx", gives="chunk")
        content, products = eight_bits(path.read_bytes(), load_policy_file(path))
        assert products == expected
        assert len(content) < 0.6 * path.stat().st_size
