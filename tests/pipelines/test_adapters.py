"""Adapters train next to a network's weights, and vanish into them when it is exported."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.learning.adapters import LowRank, add_adapters, merged
from pipelines.learning.cloning import ChunkCloning
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.export import export_policy, load_network
from pipelines.learning.finetune_settings import FinetuneSettings
from pipelines.learning.mixing import chosen_mix
from pipelines.learning.networks.mlp import ChunkMLP, chain_of
from pipelines.learning.relabelling import KnownZeros, relabelled
from pipelines.learning.stopping import KeepBest
from sim2real.errors import UserError
from sim2real.observation import flatten
from sim2real.policies.file import PolicyInfo, load_policy_file
from sim2real.robot import Robot
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

ROBOT = Robot.load("so101")
TASK = load_task("lift")


def network(width: int = 32, depth: int = 2) -> ChunkMLP:
    torch.manual_seed(3)
    made = ChunkMLP(
        [(f.name, f.size) for f in TASK.features], ROBOT.n, 5, width, depth, chain_of(ROBOT).joints
    )
    made.set_robot(ROBOT)
    return made


def trained(plain: ChunkMLP) -> ChunkMLP:
    """The network with adapters that have learned something."""
    add_adapters(plain, 3)
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, LowRank):
                module.up.normal_()
    return plain


def test_fresh_adapters_change_nothing_and_are_few() -> None:
    plain, other = network(256, 3), network(256, 3)
    whole = sum(value.numel() for value in plain.parameters())
    few = add_adapters(plain, 4)
    x = torch.randn(7, plain.encoder.input_size)
    torch.testing.assert_close(plain(x), other(x), rtol=0, atol=0)
    assert 0 < few < 0.1 * whole
    assert all("parametrizations" in name for name, value in plain.named_parameters() if value.requires_grad)


def test_merged_adapters_give_the_same_chunks_in_the_parents_layers(tmp_path: Path) -> None:
    adapted = trained(network())
    whole = merged(adapted)
    x = torch.randn(9, adapted.encoder.input_size)
    assert (adapted(x) - network()(x)).abs().max() > 0.01
    torch.testing.assert_close(whole(x), adapted(x), rtol=1e-5, atol=1e-5)
    assert set(whole.state_dict()) == set(network().state_dict())
    info = PolicyInfo(
        task="lift", robot="so101", joints=ROBOT.joint_names, features=TASK.features, horizon=5, policy_rate=30,
        command_rate=100,
    )  # fmt: skip
    assert export_policy(whole, info, tmp_path / "p.onnx") < 1e-5
    again, file = load_network(tmp_path / "p.onnx")
    torch.testing.assert_close(again(x), adapted(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(file.act_on(x.numpy()), adapted(x).detach().numpy(), atol=1e-5)
    assert load_policy_file(tmp_path / "p.onnx").info.horizon == 5


def test_what_is_trained_thaws_when_it_is_due() -> None:
    model = ChunkCloning(network().arguments, total_steps=10)
    model.train_only("all", thaw=0.5)
    trunk = next(model.network.trunk.parameters())
    assert len(model.configure_optimizers()["optimizer"].param_groups[0]["params"]) == len(
        list(model.network.parameters())
    )
    model.progress = lambda step: 0.4
    model.trainer = type("Trainer", (), {"global_step": 0})()  # type: ignore[assignment]
    model.on_train_epoch_start()
    assert not trunk.requires_grad and model.network.head.weight.requires_grad
    model.progress = lambda step: 0.5
    model.on_train_epoch_start()
    assert trunk.requires_grad


def test_the_better_share_of_two_planted_cases_is_chosen() -> None:
    """Held-out episodes are like the recorded ones; what is mixed in contradicts them, or teaches them as well."""
    rng = np.random.default_rng(0)

    def made(episodes: range, offset: float, frames: int = 40) -> Demonstrations:
        count = len(episodes) * frames
        x = rng.normal(0, 0.3, (count, network().encoder.input_size)).astype(np.float32)
        chunk = np.repeat(x[:, None, 6:12], 5, axis=1) + np.float32(offset)
        return Demonstrations(x, chunk, np.repeat(np.array(episodes), frames))

    settings = FinetuneSettings(policy="p", data="d", train="head", learning_rate=5e-3, batch_size=64)
    recorded, held_out = made(range(2), 0.2, frames=6), made(range(4, 6), 0.2)
    against = chosen_mix(network(), [recorded, made(range(9, 20), -0.2)], [1.0], held_out, settings)
    assert against["chosen"] == 0.75 and len(against["tried"]) == 3
    alike = chosen_mix(network(), [recorded, made(range(9, 20), 0.2)], [1.0], held_out, settings)
    assert alike["chosen"] < 0.75


def test_training_ends_when_held_out_episodes_say_so_and_the_best_is_kept() -> None:
    best, module = KeepBest(patience=2, rounds_end=3), torch.nn.Linear(1, 1)

    class Trainer:
        should_stop = False
        current_epoch = 0

        def __init__(self) -> None:
            self.callback_metrics: dict[str, torch.Tensor] = {}

    trainer = Trainer()
    for epoch, error in enumerate([3.0, 1.0, 2.0, 2.0, 1.5]):
        trainer.current_epoch, trainer.callback_metrics = epoch, {"val_error_deg": torch.tensor(error)}
        with torch.no_grad():
            module.weight.fill_(error)
        best.on_validation_end(trainer, module)  # type: ignore[arg-type]
        # Not while data are still to join.
        assert trainer.should_stop == (epoch >= 4)
    best.restore(module)  # type: ignore[arg-type]
    assert float(module.weight) == 1.0
    assert best.told() == {"held_out": True, "best_epoch": 1, "stopped_early": True}


def test_an_expert_that_knows_the_zeros_is_one_on_an_arm_without_any() -> None:
    expert = TASK.expert(ROBOT)
    zeros = np.array([0.05, -0.1, 0.08, 0.0, 0.02, -0.14])
    with World(ROBOT, TASK) as world:
        seen = world.observe()
    shifted = dict(seen)
    for key in ("joint_position", "joint_command"):
        shifted[key] = seen[key] + zeros
    known = KnownZeros(expert, zeros, ROBOT.lower - 1, ROBOT.upper + 1)
    np.testing.assert_allclose(known.act(shifted) - zeros, expert.act(seen), atol=1e-9)
    tight = KnownZeros(expert, zeros, ROBOT.lower, ROBOT.upper).act(shifted)
    assert (tight >= ROBOT.lower).all() and (tight <= ROBOT.upper).all()
    vector = flatten(seen, TASK.features)[None]
    pairs = Demonstrations(vector, np.zeros((1, 5, 6), np.float32), np.array([7]))
    made = relabelled(pairs, TASK.features, expert)
    np.testing.assert_allclose(made.chunks[0], expert.act(seen)[:5], atol=1e-5)
    with pytest.raises(UserError, match="looks 10 steps ahead, the policy 40"):
        relabelled(
            Demonstrations(vector, np.zeros((1, 40, 6), np.float32), np.array([7])), TASK.features, expert
        )
