"""The network: its geometry is the arm's, its normalizer does what it says."""

import numpy as np
import pytest
import torch

from pipelines.learning.networks.mlp import ChunkMLP, chain_of
from pipelines.learning.networks.registry import build_network, network_arguments
from sim2real.errors import UserError
from sim2real.model.kinematics import tool_pose
from sim2real.observation import standard_features
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
FEATURES = [
    (f.name, f.size)
    for f in standard_features(
        ["joint_position", "joint_command", "goal", "object.cube.position", "object.cube.yaw"], ROBOT.n
    )
]


def network(**changes: object) -> ChunkMLP:
    torch.manual_seed(0)
    chain = chain_of(ROBOT)
    made = ChunkMLP(FEATURES, ROBOT.n, 5, **{"width": 64, "depth": 2, "chain": chain.joints, **changes})
    if made.arguments["chain"]:
        made.encoder.set_chain(chain)
    return made


def test_tool_frame_agrees_with_the_kinematics() -> None:
    joints = np.random.default_rng(0).uniform(ROBOT.lower, ROBOT.upper, size=(20, ROBOT.n))
    positions, rotations, _ = network().encoder.tool_frame(torch.as_tensor(joints, dtype=torch.float32))
    for q, position, rotation in zip(joints, positions.numpy(), rotations.numpy()):
        expected_position, expected_rotation = tool_pose(ROBOT.model, q)
        np.testing.assert_allclose(position, expected_position, atol=1e-6)
        np.testing.assert_allclose(rotation, expected_rotation, atol=1e-5)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_cube_looks_the_same_every_quarter_turn(quarter: int) -> None:
    """Turning the tool by 90° about the vertical leaves the relative yaw as it is; turning it by 22.5° does not."""
    from pipelines.learning.networks.mlp import _relative_yaw

    def relative(angle: float) -> np.ndarray:
        axis = torch.tensor([[np.cos(angle), np.sin(angle), 0.0]], dtype=torch.float64)
        yaw = torch.tensor([[np.cos(4 * 0.3), np.sin(4 * 0.3)]], dtype=torch.float64)
        return _relative_yaw(yaw, axis).numpy()[0]

    np.testing.assert_allclose(relative(0.3), [1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(relative(0.3 + quarter * np.pi / 2), [1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(relative(0.3 - np.pi / 8), [0.0, 1.0], atol=1e-12)


def test_normalizers_centre_and_scale_and_have_a_floor() -> None:
    made = network()
    observations = torch.randn(500, 20) * 0.4
    observations[:, 19] = 0.7
    chunks = made.reference(observations) + torch.randn(500, 5, ROBOT.n) * 0.2 + 0.1
    made.fit_normalizers(observations, chunks)
    encoded = made.encode(observations)
    assert encoded[:, :19].mean(dim=0).abs().max() < 1e-5
    assert (encoded[:, :19].std(dim=0) - 1).abs().max() < 1e-2
    assert encoded[:, 19].abs().max() < 1e-3
    target = made.normalize_chunk(observations, chunks)
    assert target.mean(dim=0).abs().max() < 1e-5
    assert abs(float(target.std()) - 1) < 0.05


def test_predictions_are_relative_to_the_last_command() -> None:
    """With the trainable part silenced and centred normalizers, the chunk repeats the last command."""
    made = network()
    with torch.no_grad():
        made.head.weight.zero_()
        made.head.bias.zero_()
    observation = torch.randn(3, 20)
    chunk = made(observation)
    command = observation[:, 6:12]
    assert torch.equal(chunk, command[:, None, :].expand(3, 5, ROBOT.n))


def test_works_without_kinematics_and_with_unknown_features() -> None:
    made = ChunkMLP([("joint_position", 2), ("my_sensor", 4)], 2, 3, width=8, depth=1)
    assert made(torch.zeros(4, 6)).shape == (4, 3, 2)


def test_overfits_one_batch() -> None:
    made = network(width=128)
    generator = torch.Generator().manual_seed(0)
    observations = 0.5 * torch.randn(32, 20, generator=generator)
    chunks = made.reference(observations) + 0.2 * torch.randn(32, 5, ROBOT.n, generator=generator)
    made.fit_normalizers(observations, chunks)
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    encoded, target = made.encode(observations), made.normalize_chunk(observations, chunks)
    for _ in range(400):
        optimizer.zero_grad()
        loss = torch.nn.functional.smooth_l1_loss(made.decode(encoded), target)
        loss.backward()
        optimizer.step()
    assert (made(observations) - chunks).abs().max().item() < 0.02


def test_kinds_are_found_by_name_and_files_without_one_are_of_the_first() -> None:
    robot = Robot.load("so101")
    features = [("joint_position", robot.n), ("joint_command", robot.n), ("goal", 3)]
    arguments = network_arguments("mlp", features, robot, 4, {"width": 8, "depth": 1})
    assert arguments["kind"] == "mlp"
    network = build_network(arguments)
    assert isinstance(network, ChunkMLP) and network.arguments == arguments
    older = {name: value for name, value in arguments.items() if name != "kind"}
    assert isinstance(build_network(older), ChunkMLP)
    with pytest.raises(UserError, match="no kind of network 'mpl'; did you mean 'mlp'"):
        network_arguments("mpl", features, robot, 4, {})
    with pytest.raises(UserError, match="no heads"):
        network_arguments("mlp", features, robot, 4, {"heads": 2})
