"""The policy file: equal to the network, readable again, and refused where it does not belong."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pipelines.learning.export import export_policy, load_network
from pipelines.learning.networks.mlp import ChunkMLP, chain_of
from sim2real.errors import Sim2RealError, UserError
from sim2real.observation import standard_features
from sim2real.policies.file import INFO_KEY, WEIGHTS_KEY, PolicyInfo, load_policy_file
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
FEATURES = standard_features(
    ["joint_position", "joint_command", "goal", "object.cube.position", "object.cube.yaw", "object.cube.age"],
    ROBOT.n,
)
INFO = PolicyInfo(
    task="push",
    robot=ROBOT.name,
    joints=ROBOT.joint_names,
    features=FEATURES,
    horizon=7,
    policy_rate=ROBOT.policy_rate,
    command_rate=ROBOT.command_rate,
    provenance={"seed": 3},
)


def network(seed: int = 0) -> ChunkMLP:
    torch.manual_seed(seed)
    chain = chain_of(ROBOT)
    made = ChunkMLP([(f.name, f.size) for f in FEATURES], ROBOT.n, 7, width=32, depth=2, chain=chain.joints)
    made.encoder.set_chain(chain)
    observations = 0.3 * torch.randn(200, INFO.observation_size)
    made.fit_normalizers(observations, made.reference(observations) + 0.1 * torch.randn(200, 7, ROBOT.n))
    return made


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    export_policy(network(), INFO, tmp_path / "policy.onnx")
    return tmp_path / "policy.onnx"


def test_file_gives_the_same_chunks_as_the_network(exported: Path) -> None:
    policy = load_policy_file(exported)
    rng = np.random.default_rng(1)
    observation = {f.name: rng.normal(scale=0.3, size=f.size) for f in FEATURES}
    observation["object.cube.yaw"] = np.array([0.6, -0.8])
    vector = np.concatenate([observation[f.name] for f in FEATURES]).astype(np.float32)
    expected = network()(torch.from_numpy(vector)[None])[0].detach().numpy()
    chunk = policy.act(observation)
    assert chunk.shape == (7, ROBOT.n) and chunk.dtype == np.float64
    np.testing.assert_allclose(chunk, expected, atol=2e-6)
    assert policy.info == INFO


def test_weights_survive_bit_for_bit(exported: Path) -> None:
    loaded, policy = load_network(exported)
    original = network().state_dict()
    assert loaded.state_dict().keys() == original.keys()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, original[name]), name
    assert loaded.arguments == network().arguments
    assert policy.info.provenance["seed"] == 3


def test_a_failed_export_leaves_the_old_file_alone(exported: Path) -> None:
    before = exported.read_bytes()
    broken = network()
    with torch.no_grad():
        broken.head.weight[0, 0] = float("nan")
    with pytest.raises(Sim2RealError, match="differs"):
        export_policy(broken, INFO, exported)
    assert exported.read_bytes() == before
    assert [path.name for path in exported.parent.iterdir()] == ["policy.onnx"]


def test_a_matching_robot_and_task_are_accepted(exported: Path) -> None:
    load_policy_file(exported).check(ROBOT, "push")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "koch"}, "trained for the robot 'so101', this is 'koch'"),
        ({"joints": ROBOT.joints[::-1]}, "commands the joints"),
        ({"policy_rate": 50}, "policy rate of 30 Hz, the robot 'so101' runs at 50 Hz"),
        ({"command_rate": 150}, "command rate of 100 Hz"),
    ],
)
def test_another_robot_is_refused(exported: Path, change: dict[str, object], message: str) -> None:
    other = dataclasses.replace(ROBOT, **change)
    with pytest.raises(UserError, match=message):
        load_policy_file(exported).check(other, "push")


def test_another_task_is_refused(exported: Path) -> None:
    with pytest.raises(UserError, match="trained for the task 'push', not for 'lift'"):
        load_policy_file(exported).check(ROBOT, "lift")


def test_a_lacking_feature_is_named(exported: Path) -> None:
    with pytest.raises(UserError, match="lacks 'object.cube.age'"):
        load_policy_file(exported).act({f.name: np.zeros(f.size) for f in FEATURES[:-1]})


def test_foreign_files_are_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_policy_file(tmp_path / "nothing.onnx")
    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_bytes(b"not a model")
    with pytest.raises(UserError, match="is not a policy file"):
        load_policy_file(rubbish)
    model = onnx.load(str(exported))
    kept = [entry for entry in model.metadata_props if entry.key != INFO_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    foreign = tmp_path / "foreign.onnx"
    onnx.save(model, str(foreign))
    with pytest.raises(UserError, match="not a policy of this project"):
        load_policy_file(foreign)


def test_a_file_without_weights_runs_but_cannot_be_trained(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(str(exported))
    kept = [entry for entry in model.metadata_props if entry.key != WEIGHTS_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    path = tmp_path / "bare.onnx"
    onnx.save(model, str(path))
    assert load_policy_file(path).horizon == 7
    with pytest.raises(UserError, match="not trained further"):
        load_network(path)


def test_metadata_that_contradict_the_network_are_refused(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(str(exported))
    for entry in model.metadata_props:
        if entry.key == INFO_KEY:
            entry.value = dataclasses.replace(INFO, horizon=9).to_json()
    path = tmp_path / "lie.onnx"
    onnx.save(model, str(path))
    with pytest.raises(UserError, match="contradicts itself"):
        load_policy_file(path)
