"""Policies that see: their network, its file, how it is trained, and where it is run."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.learning.collect import CollectEpisode, Disturbance, Sight
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.export import export_policy, load_network
from pipelines.learning.networks.cnn import PixelCNN
from pipelines.learning.networks.registry import build_network, network_arguments
from pipelines.learning.pixels import PixelSettings, parse_picture
from sim2real.errors import UserError
from sim2real.observation import standard_features
from sim2real.parameters import Draw
from sim2real.pictures import PictureInput
from sim2real.policies.file import PolicyInfo, load_policy_file
from sim2real.robot import Robot
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

ROBOT = Robot.load("so101")
FEATURES = standard_features(("joint_position", "joint_command"), ROBOT.n)
TABLE, WRIST = PictureInput("front", 32, 48), PictureInput("wrist", 24, 32, "frame")
PICTURES = (TABLE, WRIST)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """More of them are slower for networks of this size, and wait for each other where others compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(pictures: tuple[PictureInput, ...] = PICTURES) -> PixelCNN:
    torch.manual_seed(0)
    made = build_network(
        network_arguments(
            "cnn",
            [(f.name, f.size) for f in FEATURES],
            ROBOT,
            5,
            {
                "pictures": [picture.table() for picture in pictures],
                "objects": [{"name": "cube", "rest": 0.0125}],
                "history": 3,
                "width": 32,
                "depth": 2,
                "channels": 8,
            },
        )
    )
    made.set_robot(ROBOT)
    made.fit_to(demonstrations(pictures))
    return made


def demonstrations(pictures: tuple[PictureInput, ...] = PICTURES, count: int = 24) -> Demonstrations:
    rng = np.random.default_rng(0)
    return Demonstrations(
        rng.normal(0, 0.3, (count, 36)).astype(np.float32),
        rng.normal(0, 0.3, (count, 5, ROBOT.n)).astype(np.float32),
        np.repeat(np.arange(count // 4), 4),
        {p.entry: rng.integers(0, 256, (count, *p.shape), dtype=np.uint8) for p in pictures},
        rng.normal(0, 0.1, (count, 6)).astype(np.float32),
    )


def info(pictures: tuple[PictureInput, ...] = PICTURES) -> PolicyInfo:
    return PolicyInfo(
        "lift", ROBOT.name, ROBOT.joint_names, FEATURES, 5, ROBOT.policy_rate, ROBOT.command_rate,
        pictures=pictures, history=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pixels") / "policy.onnx"
    export_policy(network((TABLE,)), info((TABLE,)), path)
    return path


def test_file_gives_the_chunks_of_the_network(tmp_path: Path) -> None:
    made = network()
    assert export_policy(made, info(), tmp_path / "policy.onnx") < 1e-4
    policy = load_policy_file(tmp_path / "policy.onnx")
    assert policy.info == info() and policy.pictures == PICTURES
    data = demonstrations()
    with torch.no_grad():
        chunk, cube = made.eval()(*made.tensors(data)[:3])
    np.testing.assert_allclose(policy.act_on(data.observations, data.pictures), chunk, atol=1e-4)
    np.testing.assert_allclose(
        policy.estimates(data.observations, data.pictures)["object.cube"], cube, atol=1e-4
    )
    again, _ = load_network(tmp_path / "policy.onnx")
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in again.state_dict().items())


def test_history_is_the_last_observations(policy_file: Path) -> None:
    policy = load_policy_file(policy_file)
    rng = np.random.default_rng(1)
    steps = [
        {"joint_position": rng.normal(size=6), "joint_command": rng.normal(size=6)}
        | {TABLE.entry: rng.integers(0, 256, TABLE.shape, dtype=np.uint8)}
        for _ in range(4)
    ]
    vectors = [np.concatenate([s["joint_position"], s["joint_command"]]).astype(np.float32) for s in steps]
    for t, step in enumerate(steps):
        past = np.concatenate([vectors[max(t - k, 0)] for k in range(3)])[None]
        np.testing.assert_array_equal(
            policy.act(step), policy.act_on(past, {TABLE.entry: step[TABLE.entry][None]})[0]
        )
    policy.reset(0)
    assert not np.array_equal(policy.act(steps[3]), policy.act(steps[0])) and len(policy._past) == 2


def test_an_observation_without_its_picture_is_refused(policy_file: Path) -> None:
    policy = load_policy_file(policy_file)
    joints = {"joint_position": np.zeros(6), "joint_command": np.zeros(6)}
    with pytest.raises(UserError, match=r"lacks 'image\.front', a picture"):
        policy.act(joints)
    with pytest.raises(UserError, match=r"the policy sees \(32, 48, 3\)"):
        policy.act(joints | {TABLE.entry: np.zeros((48, 32, 3), np.uint8)})


def test_it_learns_what_it_is_shown() -> None:
    """A picture tells where a spot is: on few samples the network knows it by heart, and sees the spot."""
    made = network((TABLE,))
    data = demonstrations((TABLE,), 16)
    rng = np.random.default_rng(2)
    pictures = np.full((16, *TABLE.shape), 120, np.uint8)
    truths = np.zeros((16, 6), np.float32)
    for picture, truth in zip(pictures, truths):
        row, column = rng.integers(3, 28), rng.integers(3, 44)
        picture[row - 2 : row + 3, column - 2 : column + 3] = (200, 30, 30)
        truth[:] = [*TABLE.places()[row, column], 0.0125, 1.0, 0.0, 1.0]
    data = replace(data, pictures={TABLE.entry: pictures}, truths=truths)
    made.fit_to(data)
    batch = made.tensors(data)
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    made.train()
    losses = []
    for _ in range(250):
        loss, _, extra = made.losses(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.35 * losses[0] and float(extra["seen_mm"]) < 8


def test_unknown_truth_teaches_no_object() -> None:
    made = network((TABLE,))
    data = replace(demonstrations((TABLE,)), truths=None)
    loss, _, extra = made.losses(made.tensors(data))
    loss.backward()
    assert torch.isfinite(loss) and not extra
    assert all(head.out.weight.grad is None for head in made.heads)


def test_demonstrations_keep_their_pictures(tmp_path: Path) -> None:
    data = demonstrations()
    data.save(tmp_path / "d.npz")
    again = Demonstrations.load(tmp_path / "d.npz")
    assert again.pictures.keys() == data.pictures.keys()
    assert all(np.array_equal(again.pictures[name], data.pictures[name]) for name in data.pictures)
    training, held_out = again.split(0.3, 0)
    assert len(training.pictures[TABLE.entry]) == len(training) and len(held_out.truths) == len(held_out)
    joined = Demonstrations.joined([training, held_out])
    assert sorted(map(bytes, joined.pictures[WRIST.entry])) == sorted(map(bytes, data.pictures[WRIST.entry]))


def test_a_policy_that_sees_runs_in_the_simulation(policy_file: Path) -> None:
    with World(ROBOT, load_task("lift")) as world:
        first = rollout(world, load_policy_file(policy_file), Draw(seed=3), max_seconds=0.3)
        again = rollout(world, load_policy_file(policy_file), Draw(seed=3), max_seconds=0.3)
    assert len(first) == 9 and np.array_equal(first.action, again.action)
    assert not any(name.startswith("image.") for name in first.features)
    blind = replace(ROBOT, camera_tables={"side": ROBOT.camera_tables["front"]})
    with World(blind, load_task("lift")) as world, pytest.raises(UserError, match="no camera 'front'"):
        rollout(world, load_policy_file(policy_file), Draw(seed=3), max_seconds=0.3)


def test_collecting_keeps_pictures_and_truth(policy_file: Path) -> None:
    recipe = CollectEpisode(
        "so101", "lift", Disturbance(student=0.5), student=str(policy_file), labels="objects",
        features=FEATURES, sight=Sight((TABLE,), 3, 0.3),
    )  # fmt: skip
    run = recipe()
    row, again = run(Draw(seed=5)), run(Draw(seed=5))
    count = len(row["observations"])
    assert row["observations"].shape == (count, 36) and row["truths"].shape == (count, 6)
    assert row["pictures"][TABLE.entry].shape == (count, *TABLE.shape)
    assert 0.15 < count / (row["seconds"] * ROBOT.policy_rate) < 0.45
    assert all(np.array_equal(row[name], again[name]) for name in ("observations", "chunks", "truths"))
    assert np.array_equal(row["pictures"][TABLE.entry], again["pictures"][TABLE.entry])
    # The cube stands where it is said to, and is seen there.
    assert 0.15 < np.hypot(*row["truths"][0, :2]) < 0.29 and row["truths"][:, 5].mean() > 0.5


def test_spellings_of_pictures() -> None:
    assert parse_picture("front=table") == PictureInput("front", 64, 96)
    assert parse_picture("wrist") == PictureInput("wrist", 72, 96, "frame")
    assert parse_picture("side=frame:64x48") == PictureInput("side", 48, 64, "frame")
    for text in ("front=", "front=bird", "front=table:9x9x9", "front=table:4x4"):
        with pytest.raises(UserError, match="picture|pixels"):
            parse_picture(text)
    with pytest.raises(UserError, match="one picture of each camera"):
        PixelSettings("lift", pictures=("front=table", "front=frame"))


@pytest.mark.slow
def test_pretraining_on_pixels_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.cli import main

    out = tmp_path / "run"
    tiny = "--episodes 4 --rounds 2 --epochs 2 --batches 2 --batch-size 8 --evaluate 1 --workers 0 --width 16"
    small = "--picture front=table:48x32 --channels 8 --keep 0.2 --history 2"
    command = ["pretrain", "--task", "reach", *tiny.split(), *small.split(), "--out", str(out)]
    assert main(command) == 2  # pictures without --observe pixels
    assert "--observe pixels" in capsys.readouterr().err and not out.exists()
    assert main([*command, "--observe", "pixels", "--picture", "elsewhere"]) == 2
    assert "elsewhere" in capsys.readouterr().err and not out.exists()
    assert main([*command, "--observe", "pixels"]) == 0
    policy = load_policy_file(out / "policy.onnx")
    assert policy.pictures == (PictureInput("front", 32, 48),) and policy.info.history == 2
    assert [f.name for f in policy.info.features] == ["joint_position", "joint_command", "goal"]
    space = json.loads((out / "config.json").read_text())["identity"]["space"]
    assert any(column["name"] == "light.azimuth" for column in space["columns"])
