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


def test_where_a_camera_stands_is_part_of_what_is_seen(tmp_path: Path) -> None:
    """In collecting, in a rollout, on an arm alike: by the camera's description."""
    from sim2real.observation import Feature
    from sim2real.policies.seeing import Sight as Cut

    features = (*FEATURES, Feature("camera.front", 3))
    recipe = CollectEpisode(
        "so101", "lift", Disturbance(), labels="objects", features=features, sight=Sight((TABLE,), 1, 0.05)
    )
    draw = Draw(seed=5, values={"camera.azimuth": 0.3, "camera.x": 0.002})
    rows = recipe()(draw)["observations"]
    with World(ROBOT, load_task("lift")) as world:
        world.reset(draw)
        stands = world.cameras.described("front").position
        assert not np.allclose(stands, world.camera().position, atol=1e-4)
        np.testing.assert_allclose(rows[:, 12:15], np.tile(stands, (len(rows), 1)), atol=1e-6)
        seen = []

        class Looker:
            horizon, pictures = 5, (TABLE,)

            def reset(self, seed: int) -> None: ...

            def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
                seen.append(observation["camera.front"])
                return np.tile(ROBOT.home, (5, 1))

        rollout(world, Looker(), draw, max_seconds=0.1)
    np.testing.assert_array_equal(seen[0], stands)

    class Still:
        camera = ROBOT.cameras["front"]

        def latest(self) -> tuple[float, np.ndarray]:
            return 0.0, np.zeros((480, 640, 3), np.uint8)

    entries = Cut((TABLE,), {"front": Still()}).entries()
    np.testing.assert_array_equal(entries["camera.front"], Still.camera.position)


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
    assert [f.name for f in policy.info.features] == [
        "joint_position",
        "joint_command",
        "goal",
        "camera.front",
    ]
    space = json.loads((out / "config.json").read_text())["identity"]["space"]
    assert any(column["name"] == "light.azimuth" for column in space["columns"])


# On recordings


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes in which a camera shows by its brightness where the arm goes next."""
    from sim2real.calibration import Calibration
    from sim2real.camera import CameraModel
    from sim2real.lerobot.recording import EpisodeRecorder

    root = tmp_path_factory.mktemp("seen") / "set"
    camera = CameraModel.looking_at((0.5, 0, 0.5), (0.2, 0, 0), width=64, height=48)
    rng = np.random.default_rng(0)
    with EpisodeRecorder(root, ROBOT, Calibration.nominal(ROBOT), cameras={"top": camera}) as recorder:
        for _ in range(3):
            state = np.array(ROBOT.home)
            for i in range(20):
                way = rng.choice((-1, 1))
                after = state + 0.02 * way
                picture = np.full((48, 64, 3), 128 + 60 * way, np.uint8)
                recorder.add(time=i / 30, state=state, action=after, executed=after, images={"top": picture})
                state = after
            recorder.save("wave", None)
    return root


def whole_picture(camera: str) -> PictureInput:
    return PictureInput(camera, 24, 32, "frame")


def test_rows_and_pictures_of_a_recording_belong_together(recording: Path) -> None:
    from pipelines.learning.recorded_pictures import load_seen

    seen = load_seen(
        recording, info((whole_picture("wrist"),)), ROBOT, mapping=["observation.images.top=wrist"]
    )
    data = seen.demonstrations
    assert seen.numbers == (0, 1, 2) and len(data) == 60 and data.observations.shape == (60, 36)
    bright = data.pictures["image.wrist"].mean(axis=(1, 2, 3)) > 128
    goes = data.chunks[:, 0, 0] > data.observations[:, 0]
    assert np.array_equal(bright, goes) and 5 < bright.sum() < 55
    # Newest first; what came before the episode is its first row.
    assert np.array_equal(data.observations[1:20, 12:24], data.observations[:19, :12])
    assert np.array_equal(data.observations[0, :12], data.observations[0, 24:])
    assert any(
        "observation.images.top (64 x 48) → wrist: cut in the middle to 32 x 24" in line
        for line in seen.lines
    )


def test_mappings_that_cannot_be_are_refused(recording: Path) -> None:
    from pipelines.learning.recorded_pictures import load_seen

    for camera, mapping, message in (
        ("wrist", (), "its pictures are observation.images.top. Say which .* --map FEATURE=wrist"),
        ("wrist", ("observation.images.front=wrist",), "its pictures are observation.images.top"),
        ("wrist", ("top=wirst",), "no camera 'wirst'; did you mean 'wrist'"),
        ("wrist", ("top",), "a mapping is FEATURE=CAMERA"),
    ):
        with pytest.raises(UserError, match=message):
            load_seen(recording, info((whole_picture(camera),)), ROBOT, mapping=mapping)
    from_above = info((PictureInput("wrist", 32, 48),))
    with pytest.raises(UserError, match="nothing says where the camera"):
        load_seen(recording, from_above, ROBOT, mapping=["top=wrist"])
    with_goal = replace(
        info((whole_picture("top"),)), features=(*FEATURES, *standard_features(["goal"], ROBOT.n))
    )
    with pytest.raises(UserError, match="observes goal besides joints and pictures"):
        load_seen(recording, with_goal, ROBOT)


def test_finetuning_on_a_recording_with_pictures(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.cli import main

    wanted = (whole_picture("wrist"),)
    export_policy(network(wanted), info(wanted), tmp_path / "parent.onnx")
    words = ["finetune", "--policy", str(tmp_path / "parent.onnx"), "--data", str(recording), "--steps", "40"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 2
    assert "--map FEATURE=wrist" in capsys.readouterr().err and not (tmp_path / "a").exists()
    words += ["--map", "observation.images.top=wrist", "--learning-rate", "3e-3"]
    assert main([*words, "--simulated", "5", "--out", str(tmp_path / "a")]) == 2
    assert "--simulated" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "b")]) == 0
    told = capsys.readouterr().err
    assert "observation.images.top (64 x 48) → wrist" in told and "from scratch" in told
    metrics = json.loads((tmp_path / "b" / "metrics.json").read_text())
    assert [row["episodes"] for row in metrics["learning_curve"]] == [1, 2]
    assert metrics["held_out_deg"]["after"] < metrics["held_out_deg"]["before"]
    tuned = load_policy_file(tmp_path / "b" / "policy.onnx")
    assert tuned.pictures == wanted and tuned.info.provenance["recorded"]["pictures"] == {
        "wrist": "observation.images.top"
    }
    assert "from nothing" in (tmp_path / "b" / "report.html").read_text()
    # The same run is found finished.
    assert main([*words, "--out", str(tmp_path / "b")]) == 0


# On an arm


def test_frames_come_from_the_cameras_process_to_the_policy(policy_file: Path) -> None:
    """Through shared memory into the inference process, newest first; a camera that is not there is refused."""
    import time

    from hardware.cameras.shared import HEALTHY, SLOTS, TEXT, CameraReader, numbers_for
    from hardware.cameras.worker import CameraWriter
    from hardware.runtime.sources.inference import InferenceProcess, example_observation, observed_features
    from sim2real.policies.remote import Surroundings
    from sim2real.spawning import context

    camera = ROBOT.cameras["front"]
    numbers, text = context.RawArray("d", numbers_for(())), context.RawArray("B", TEXT)
    slots = context.RawArray("B", SLOTS * (8 + camera.width * camera.height * 3))
    reader = CameraReader(camera, (), numbers, text, slots)
    reader._numbers[HEALTHY] = -np.inf
    writer, rng = CameraWriter(reader), np.random.default_rng(0)
    picture = rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
    writer.picture(picture, time.monotonic())
    shown = Surroundings(cameras={"front": reader})
    source = InferenceProcess(str(policy_file), "lift", "so101", surroundings=shown)
    blind = InferenceProcess(str(policy_file), "lift", "so101")
    try:
        source.wait_ready()
        observation = example_observation(ROBOT, observed_features(load_task("lift"), ROBOT))
        answers = []
        for image in (picture, 255 - picture):
            writer.picture(image, time.monotonic())
            source.reset(0)
            source.send(time.monotonic(), observation)
            end = time.monotonic() + 60
            while (answer := source.poll()) is None and time.monotonic() < end:
                time.sleep(0.002)
            answers.append(answer.chunk.positions)
        from sim2real.pictures import PictureTaker

        policy, taker = load_policy_file(policy_file), PictureTaker(TABLE, camera)
        for image, got in zip((picture, 255 - picture), answers):
            policy.reset(0)
            np.testing.assert_allclose(got, policy.act(observation | {TABLE.entry: taker(image)}), atol=1e-9)
        assert not np.allclose(*answers)
        with pytest.raises(UserError, match="sees through the camera 'front'; there is none"):
            blind.wait_ready()
    finally:
        source.close()
        blind.close()


@pytest.mark.slow
@pytest.mark.realtime
def test_deploying_a_policy_that_sees(policy_file: Path, tmp_path: Path) -> None:
    """Refused before anything is opened without its camera; with it, it drives the emulated arm."""
    import subprocess
    import sys

    from hardware.emulator.launch import start_emulator
    from sim2real.camera_file import write_camera

    def deploy(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipelines", "deploy", "--policy", str(policy_file), *words]
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)

    with start_emulator("so101", task="lift", seed=1) as arm:
        reach = ("--port", arm.port, "--calibration", arm.calibration, "--seconds", "2", "--json")
        # Without its camera, with one of another name, with one that lies on the table.
        lying = replace(ROBOT.cameras["front"], source=arm.sources["front"])
        pose = lying.camera_to_base.copy()
        pose[2, 3] = 0.01
        write_camera(tmp_path / "lying.toml", replace(lying, camera_to_base=pose))
        write_camera(tmp_path / "side.toml", replace(lying, name="side"))
        for cameras, message in (
            ((), "wants to see the camera front"),
            (("--cameras", str(tmp_path / "side.toml")), "wants to see the camera front"),
            (("--cameras", str(tmp_path / "lying.toml")), "0.01 m over the table"),
        ):
            refused = deploy(*reach, *cameras, "--out", str(tmp_path / "refused"))
            assert refused.returncode == 2 and message in refused.stderr, refused.stderr
            assert not (tmp_path / "refused").exists()
        done = deploy(*reach, "--cameras", arm.cameras_file, "--out", str(tmp_path / "run"))
    result = json.loads(done.stdout)
    assert done.returncode == 0 and result["faults"] == [] and result["final_state"] == "limp", done.stderr
    assert result["chunks"] > 5 and result["rejected"] == 0


def test_photographs_that_cannot_be_used_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    from pipelines.cli import main
    from pipelines.learning.backgrounds import read_photographs

    good, wide, bad = tmp_path / "good.jpg", tmp_path / "wide.png", tmp_path / "bad.jpg"
    cv2.imwrite(str(good), np.full((1200, 1600, 3), (0, 0, 200), np.uint8))
    cv2.imwrite(str(wide), np.zeros((100, 300, 3), np.uint8))
    bad.write_bytes(b"no picture")
    (image,) = read_photographs([str(good)])
    assert image.shape == (600, 800, 3) and image[0, 0, 0] > 180 > 60 > image[0, 0, 2]
    words = ["pretrain", "--task", "lift", "--out", str(tmp_path / "run"), "--background"]
    for extra, file, message in (
        ([], good, "--background: only policies that see"),
        (["--observe", "pixels"], tmp_path / "none.jpg", "No such file"),
        (["--observe", "pixels"], bad, "cannot be decoded"),
    ):
        assert main([*words, str(file), *extra]) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "run").exists()
    from sim2real.camera import save_cameras

    save_cameras({"front": ROBOT.cameras["front"]}, tmp_path / "cameras.toml")
    assert main([*words, str(wide), "--observe", "pixels", "--cameras", str(tmp_path / "cameras.toml")]) == 2
    assert "wide.png" in capsys.readouterr().err
