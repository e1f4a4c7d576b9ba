"""Recordings become demonstrations; fine-tuning moves a policy towards them and says what it did."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hardware.emulator.assembly import emulated_calibration
from pipelines.learning.comparing import paired, worse
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.export import export_policy, load_network
from pipelines.learning.finetune import finetune
from pipelines.learning.finetune_settings import FinetuneSettings
from pipelines.learning.networks.mlp import ChunkMLP, chain_of
from pipelines.learning.pretrain import PretrainSettings, pretrain
from pipelines.learning.recorded import estimate_lead, load_recorded, pairs, standing_out
from pipelines.learning.trainer import TrainerOptions
from sim2real.calibration import Calibration
from sim2real.episode import Episode
from sim2real.errors import UserError
from sim2real.lerobot.recording import EpisodeRecorder, write_episodes
from sim2real.lerobot.schema import FeatureSpec
from sim2real.observation import standard_features
from sim2real.parameters import Draw
from sim2real.policies.file import PolicyInfo, load_policy_file
from sim2real.robot import Robot
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

ROBOT = Robot.load("so101")
CPU = TrainerOptions(accelerator="cpu", devices="1")
FEATURES = standard_features(["joint_position", "joint_velocity", "joint_command", "goal"], ROBOT.n)


def made_up(length: int = 8, fps: float = 30.0) -> Episode:
    rows = np.arange(length, dtype=float)[:, None] * np.ones(ROBOT.n)
    return Episode(
        time=np.arange(length) / fps,
        state=0.01 * rows,
        action=0.02 * rows,
        executed=0.03 * rows,
        fps=fps,
        robot="so101",
        task="reach",
        features={"goal": np.tile([0.2, 0.0, 0.1], (length, 1))},
    )


def test_pairs_line_up_in_time() -> None:
    made, dropped = pairs(made_up(), FEATURES, horizon=3, rate=30, number=5)
    assert len(made) == 8 and dropped == 0 and set(made.episodes) == {5}
    position, velocity, command, goal = np.split(made.observations, [6, 12, 18], axis=1)
    np.testing.assert_allclose(position[:, 0], 0.01 * np.arange(8), atol=1e-7)
    np.testing.assert_allclose(velocity, 0.3, atol=1e-5)
    # What had been sent before: at first the arm's own position, then what the frame before sent.
    np.testing.assert_allclose(command[:, 0], [0.0, *(0.03 * np.arange(7))], atol=1e-7)
    np.testing.assert_allclose(goal, np.tile([0.2, 0.0, 0.1], (8, 1)), atol=1e-7)
    np.testing.assert_allclose(made.chunks[2, :, 0], [0.04, 0.06, 0.08], atol=1e-7)
    # Beyond the end the last action stays.
    np.testing.assert_allclose(made.chunks[6, :, 0], [0.12, 0.14, 0.14], atol=1e-7)


def test_actions_that_trail_are_found_and_taken_later() -> None:
    """The predictions are the recording's actions one and a half periods later, as a late and blended chunk
    would have asked for them."""
    episode = made_up(40)
    episode.action = np.sin(0.3 * np.arange(40))[:, None] * np.ones(ROBOT.n)

    def at(lead: float) -> list[Demonstrations]:
        return [pairs(episode, FEATURES, 3, 30, 0, lead)[0]]

    wanted = at(1.5)[0].chunks
    np.testing.assert_allclose(wanted[4, 0, 0], (np.sin(0.3 * 5) + np.sin(0.3 * 6)) / 2, atol=1e-6)
    assert estimate_lead(at, lambda observations: wanted.astype(float)) == 1.5
    assert estimate_lead(at, lambda observations: at(0.0)[0].chunks.astype(float)) == 0.0


def test_another_frame_rate_is_resampled() -> None:
    made, _ = pairs(made_up(21, fps=60.0), FEATURES, horizon=2, rate=30, number=0)
    assert len(made) == 11
    np.testing.assert_allclose(made.chunks[:, 0, 0], 0.04 * np.arange(11), atol=1e-6)


def test_frames_that_are_not_finite_are_left_out() -> None:
    episode = made_up()
    episode.features["goal"][:3] = np.nan
    made, dropped = pairs(episode, FEATURES, horizon=3, rate=30, number=0)
    assert (len(made), dropped) == (5, 3)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("parent") / "run"
    settings = PretrainSettings(
        task="reach", episodes=8, rounds=1, seed=1, epochs=6, batches=40, batch_size=128, width=64, evaluate=0
    )
    pretrain(settings, out, workers=0, options=CPU)
    return out / "policy.onnx"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five episodes of the expert on an arm that bends more and hangs lower, as `record` would write them; the
    last one did not succeed."""
    folder = tmp_path_factory.mktemp("recorded") / "set"
    task = load_task("reach")
    softer = {f"servo.{name}.kp": 0.6 * value for name, value in _stiffness().items()}
    with World(ROBOT, task, nominal=softer) as world:
        draws = [
            Draw(
                index=i,
                seed=i,
                values={"task.goal.angle": 0.3 * (i - 2), "task.goal.height": 0.08 + 0.02 * i},
            )
            for i in range(5)
        ]
        episodes = [rollout(world, task.expert(ROBOT), draw) for draw in draws]
    for episode in episodes:
        episode.features = {"goal": episode.features["goal"]}
        episode.success = True
    episodes[-1].success = False
    write_episodes(folder, ROBOT, Calibration.nominal(ROBOT), episodes)
    return folder


def _stiffness() -> dict[str, float]:
    with World(ROBOT) as world:
        return {name: world.parameters[f"servo.{name}.kp"].nominal for name in ROBOT.joint_names}


def test_only_successful_episodes_are_used_unless_told(parent: Path, recording: Path) -> None:
    info = load_policy_file(parent).info
    made, summary = load_recorded(recording, info, ROBOT)
    assert summary["episodes"] == 4 and summary["episodes_in_set"] == 5
    assert set(made.episodes) == {0, 1, 2, 3}
    _, summary = load_recorded(recording, info, ROBOT, every_episode=True)
    assert summary["episodes"] == 5


def test_a_recording_of_another_task_is_refused(parent: Path, recording: Path) -> None:
    info = load_policy_file(parent).info
    load_recorded(recording, info, ROBOT, task="reach")
    with pytest.raises(
        UserError, match="holds episodes of reach, which would teach a policy of lift another"
    ):
        load_recorded(recording, info, ROBOT, task="lift")


def test_of_several_tasks_only_the_policys_own_is_used(parent: Path, tmp_path: Path) -> None:
    episodes = [made_up() for _ in range(3)]
    episodes[1].task = "lift"
    write_episodes(tmp_path / "set", ROBOT, Calibration.nominal(ROBOT), episodes)
    info = load_policy_file(parent).info
    made, summary = load_recorded(tmp_path / "set", info, ROBOT, task="reach")
    assert set(made.episodes) == {0, 2} and summary["episodes_in_set"] == 3
    assert set(load_recorded(tmp_path / "set", info, ROBOT)[0].episodes) == {0, 1, 2}


def test_a_lacking_feature_is_named(recording: Path, tmp_path: Path) -> None:
    features = load_task("lift").features
    with pytest.raises(UserError) as error:
        load_recorded(recording, _info(features), ROBOT)
    text = str(error.value)
    assert "observes object.cube.position, object.cube.yaw, object.cube.age, which the data set" in text
    for wanted in ("object.cube.position.x, object.cube.position.y", "object.cube.yaw.sin, object.cube.age;"):
        assert wanted in text
    assert "it has the components goal.x, goal.y, goal.z" in text


def test_finetuning_adapts_to_the_recording_and_keeps_the_trunk(
    parent: Path, recording: Path, tmp_path: Path
) -> None:
    settings = FinetuneSettings(
        policy=str(parent),
        data=str(recording),
        space="default",
        train="head",
        labels="recorded",
        simulated=4,
        epochs=6,
        batches=30,
        batch_size=128,
        learning_rate=2e-3,
        held_out=0.25,
        evaluate=2,
    )
    result = finetune(settings, tmp_path / "tuned", workers=0, options=CPU)
    held_out = result["held_out_deg"]
    assert held_out["after"] < 0.8 * held_out["before"]
    assert result["mix"]["chosen"] in {row["mix"] for row in result["mix"]["tried"]}
    assert result["recorded"]["labels"] == "recorded" and not result["forgotten"]
    assert result["simulation"]["before"]["draws"] == result["simulation"]["after"]["draws"] == 2
    assert result["recorded"]["episodes"] == 4 and result["simulated"]["episodes"] == 4
    metrics = json.loads((tmp_path / "tuned" / "metrics.json").read_text())
    assert metrics["held_out_deg"] == held_out and len(metrics["curve"]) == 6

    old, tuned = load_network(parent)[0].state_dict(), load_network(tmp_path / "tuned" / "policy.onnx")[0]
    changed = {name for name, value in tuned.state_dict().items() if not torch.equal(value, old[name])}
    assert changed == {"head.weight", "head.bias"}
    provenance = load_policy_file(tmp_path / "tuned" / "policy.onnx").info.provenance
    assert provenance["parent"]["sha256"] == load_policy_file(parent).sha256
    assert provenance["recorded"]["data"] == str(recording)


def test_a_policy_for_another_robot_is_refused_before_anything_is_written(
    recording: Path, tmp_path: Path
) -> None:
    features = load_task("reach").features
    chain = chain_of(ROBOT)
    network = ChunkMLP([(f.name, f.size) for f in features], ROBOT.n, 4, 8, 1, chain.joints)
    export_policy(network, _info(features, robot="koch", horizon=4), tmp_path / "policy.onnx")
    settings = FinetuneSettings(policy=str(tmp_path / "policy.onnx"), data=str(recording))
    with pytest.raises(UserError, match="trained for the robot 'koch', this is 'so101'"):
        finetune(settings, tmp_path / "tuned", workers=0, options=CPU)
    assert not (tmp_path / "tuned").exists()


def test_forgetting_is_told_from_chance() -> None:
    before = {"draws": 50, "failures": [1, 2], "success_rate": 0.96}
    chance = paired(before, {"draws": 50, "failures": [2, 3, 4], "success_rate": 0.94})
    assert (chance["only_before"], chance["only_after"], chance["difference"]) == (2, 1, -0.02)
    assert not worse(chance) and chance["p"] == 1.0
    lost = paired(before, {"draws": 50, "failures": list(range(12)), "success_rate": 0.76})
    assert worse(lost) and lost["interval_95"][1] < 0 and lost["p"] < 0.01


def _info(features: tuple, robot: str = "so101", horizon: int = 10) -> PolicyInfo:
    return PolicyInfo(
        task="reach",
        robot=robot,
        joints=ROBOT.joint_names,
        features=features,
        horizon=horizon,
        policy_rate=30,
        command_rate=100,
    )


def test_an_episode_that_is_not_like_the_others_is_named(
    parent: Path, recording: Path, tmp_path: Path
) -> None:
    errors = {0: 1.0, 1: 1.1, 2: 0.9, 3: 1.05, 4: 4.0, 5: 1.2}
    assert standing_out(errors) == [4]
    assert standing_out({**errors, 4: 1.3}) == [] and standing_out({0: 1.0, 1: 9.0}) == []
    info = load_policy_file(parent)
    _, summary = load_recorded(recording, info.info, ROBOT, predict=info.act_on)
    assert set(summary["episode_error_deg"]) == {"0", "1", "2", "3"} and summary["look_wrong"] == []


@pytest.mark.slow
def test_without_a_space_the_recorded_arm_is_identified_and_the_expert_shows_that_it_can(
    parent: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.learning.narrowing.FRAMES", 200)
    settings = FinetuneSettings(
        policy=str(parent), data=str(recording), simulated=4, rounds=2, epochs=3, batches=10, batch_size=64,
        held_out=0.25, evaluate=2, mix=0.5,
    )  # fmt: skip
    told: list[str] = []
    result = finetune(settings, tmp_path / "tuned", workers=0, options=CPU, say=told.append)
    # It was recorded with softer servos than the nominal ones.
    stiffness = [row for row in result["identified"]["moved"] if row["parameter"].endswith(".kp")]
    assert result["identified"]["found"] and stiffness
    assert all(row["found"] < row["nominal"] for row in stiffness)
    assert result["teacher"]["success_rate"] >= 0.6 and len(result["simulated"]["rounds"]) == 3
    assert result["forgetting"]["before"]["draws"] == 2 and "difference" in result["simulation"]
    assert not (tmp_path / "tuned" / "student.onnx").exists()


@pytest.mark.slow
def test_more_episodes_are_measured_against_a_beginning_from_scratch(
    parent: Path, recording: Path, tmp_path: Path
) -> None:
    settings = FinetuneSettings(
        policy=str(parent), data=str(recording), space="default", simulated=4, rounds=1, epochs=3, batches=20,
        batch_size=64, held_out=0.25, evaluate=2, curve=(0, 2, 50), mix=0.5, labels="recorded",
    )  # fmt: skip
    told: list[str] = []
    result = finetune(settings, tmp_path / "tuned", workers=0, options=CPU, say=told.append)
    rows = result["episodes_curve"]
    assert [row["episodes"] for row in rows] == [0, 2, 3] and rows[0]["scratch"] is None
    assert rows[2]["tuned"]["held_out_deg"] < rows[0]["tuned"]["held_out_deg"]
    assert rows[2]["scratch"]["held_out_deg"] < rows[1]["scratch"]["held_out_deg"]
    assert result["mix"] == {"chosen": 0.5, "by": "settings"}
    # What is to be known of the data is told before anything is trained.
    first = next(i for i, line in enumerate(told) if line.startswith("learning from 4 of 5"))
    assert first < next(i for i, line in enumerate(told) if line.startswith("recorded episodes:"))


def test_of_a_corrected_policy_only_what_the_person_did_is_learned(tmp_path: Path) -> None:
    """Frames in which the policy acted, or nobody, teach nothing; chunks that begin with the person go on beyond."""
    joints = FeatureSpec("float32", (ROBOT.n,), tuple(f"{name}.pos" for name in ROBOT.joint_names))
    calibration = emulated_calibration(ROBOT)
    recorder = EpisodeRecorder(
        tmp_path / "set", ROBOT, calibration, environment={"goal": 3},
        extra={"intervention": FeatureSpec("int64", (1,)), "policy.action": joints},
    )  # fmt: skip
    acted = np.repeat([0, 2, 1, 0], [10, 3, 6, 10])
    for number in range(2):
        for t, who in enumerate(acted):
            recorder.add(
                time=t / 30, state=ROBOT.home, action=ROBOT.home + 0.01 * t, executed=ROBOT.home + 0.01 * t,
                environment={"goal": [0.2, 0.0, 0.1]},
                extra={"intervention": who if number == 0 else 0, "policy.action": np.full(ROBOT.n, np.nan)},
            )  # fmt: skip
        recorder.save("reach", True)
    recorder.close()
    info = _info(load_task("reach").features, horizon=5)
    made, summary = load_recorded(tmp_path / "set", info, ROBOT)
    assert summary["corrections"] is True and len(made) == 6 and set(made.episodes) == {0}
    assert summary["lead_periods"] == 0.0
    assert any("only the 6 frames in which they acted" in remark for remark in summary["remarks"])
    turned = made.chunks[:, :, 0] - ROBOT.home[0]
    np.testing.assert_allclose(turned, 0.01 * (13 + np.arange(6)[:, None] + np.arange(5)), atol=2e-3)
    # Where nobody took over, a recording is what it always was.
    _, summary = load_recorded(tmp_path / "set", info, ROBOT, episodes="1:2")
    assert summary["corrections"] is False and summary["pairs"] == len(acted)
