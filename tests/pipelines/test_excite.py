"""The motion that tells most: how it is chosen, and what identification makes of it."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hardware.emulator.deviations import default_twin
from pipelines import cli
from pipelines.identification.excitation import (
    CandidateMotion,
    Excitation,
    belief,
    candidates,
    design,
    information_of,
)
from pipelines.identification.excite import ExciteTask, plan
from pipelines.identification.identify import ArmModelFit, Identified, identify_arm
from pipelines.identification.logs import load_arm_log
from randomization.identification import prior_covariance
from sim2real.calibration import Calibration
from sim2real.episode import Episode
from sim2real.errors import UserError
from sim2real.gate.gate import Gate
from sim2real.lerobot import LeRobotDataset, write_episodes
from sim2real.parameters import Draw
from sim2real.policies.load import load_policy
from sim2real.policies.protocol import Policy, ReplayPolicy
from sim2real.robot import Robot
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.task import Task
from sim2real.tasks.registry import load_task

pytestmark = pytest.mark.realtime

ROBOT = Robot.load("so101")


@pytest.fixture(scope="module")
def motions() -> list[CandidateMotion]:
    return candidates(ROBOT, range(ROBOT.n), np.random.default_rng(1))


def test_motions_keep_the_gates_limits_and_touch_nothing(motions: list[CandidateMotion]) -> None:
    assert {m.kind for m in motions} == {"slow waves", "quick waves", "poses", "ramps"}
    gate = Gate(ROBOT)
    ticks = round(ROBOT.command_rate / ROBOT.policy_rate)
    for motion in motions:
        np.testing.assert_allclose(motion.goals[-1], ROBOT.home, atol=1e-9)
        assert min(gate.clearance(q) for q in motion.goals) > 0.02
        assert min(gate.self_clearance(q) for q in motion.goals) > 0.005
        gate.reset(ROBOT.home)
        before = ROBOT.home
        for goal in motion.goals:
            for k in range(ticks):
                gate.step(before + (k + 1) / ticks * (goal - before))
            before = goal
        # What the gate still does is to round the corners between linear pieces.
        for kind in ("not_finite", "discontinuity", "position", "velocity", "workspace", "self_collision"):
            assert gate.counts[kind] == 0, (motion.kind, kind)


def test_it_moves_only_the_joints_it_may(motions: list[CandidateMotion]) -> None:
    some = candidates(ROBOT, [2, 3], np.random.default_rng(1))
    still = [0, 1, 4, 5]
    assert all(np.ptp(m.goals[:, still], axis=0).max() < 1e-12 for m in some)
    assert all(np.ptp(m.goals[:, 2]) > 0.02 for m in some)


@pytest.fixture(scope="module")
def excitation() -> Excitation:
    return plan(ROBOT, seconds=16.0)


def test_the_choice_tells_more_than_a_single_kind_on_average(
    excitation: Excitation, motions: list[CandidateMotion]
) -> None:
    """Against as much motion of each kind, by the determinant of what is known afterwards."""
    assert len(excitation.goals) <= 16 * ROBOT.policy_rate
    assert (excitation.after <= excitation.before + 1e-12).all()
    assert np.median(excitation.after / excitation.before) < 0.8
    model = ArmModelFit.build(ROBOT)
    values, covariance = belief(model, {}, {})
    others = [np.concatenate([m.goals for m in motions if m.kind == kind][:3])[: len(excitation.goals)] for kind in
              ("slow waves", "quick waves", "poses", "ramps")]  # fmt: skip
    *rivals, chosen = [
        np.linalg.slogdet(np.linalg.inv(covariance) + g)[1]
        for g in information_of(model, values, [*others, excitation.goals])
    ]
    assert chosen > np.mean(rivals) + 3.0


def test_what_is_known_already_is_not_asked_again() -> None:
    """With everything known but one joint's delay and friction, the motion narrows just these."""
    model = ArmModelFit.build(ROBOT)
    table = model.table(np.array([u.start for u in model.unknowns]))
    sure = {name: 1e-6 for name in table}
    open_ = ("servo.wrist_flex.coulomb", "servo.wrist_flex.command_delay")
    for name in open_:
        del sure[name]
    values, covariance = belief(model, table, sure)
    chosen = design(model, values, covariance, joints=range(ROBOT.n), seconds=8.0)
    ratio = dict(zip(chosen.names, chosen.after / chosen.before))
    assert all(ratio[name] < 0.5 for name in open_)
    assert np.ptp(chosen.goals[:, 3]) > 0.1
    assert np.diag(prior_covariance(model.unknowns))[0] > covariance[0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seconds": 0.0}, "--seconds must be more than 0"),
        ({"seconds": 0.5}, "too short for any motion"),
        ({"joints": ["elbow"]}, "has no joint elbow; its joints are shoulder_pan"),
        ({"joints": []}, "has no joint"),
        ({"twin": "nowhere.toml"}, "nowhere.toml"),
    ],
)
def test_mistakes_are_named(changes: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(UserError, match=message):
        plan(ROBOT, **changes)


def test_the_command_asks_for_a_port_that_exists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert cli.main(["excite", "--port", "/dev/ttyNOT", "--seconds", "8", "--out", str(out)]) == 2
    assert "no serial port /dev/ttyNOT" in capsys.readouterr().err and not out.exists()


def test_a_trajectory_is_a_policy(tmp_path: Path) -> None:
    goals = np.tile(ROBOT.home, (20, 1)) + np.arange(20)[:, None] * 0.01
    np.save(tmp_path / "t.npy", goals)
    policy = load_policy(str(tmp_path / "t.npy"), ExciteTask(), ROBOT)
    np.testing.assert_array_equal(policy.act({})[0], goals[0])
    np.testing.assert_array_equal(policy.act({})[0], goals[1])
    np.save(tmp_path / "t.npy", goals[:, :4])
    with pytest.raises(UserError, match=r"shape \(20, 4\); so101 needs \(T, 6\)"):
        load_policy(str(tmp_path / "t.npy"), ExciteTask(), ROBOT)
    with pytest.raises(UserError, match="cannot read the trajectory"):
        load_policy(str(tmp_path / "none.npy"), ExciteTask(), ROBOT)


def recorded(root: Path, task: Task, policies: list[Policy], seconds: float) -> list[Episode]:
    """Episodes of the emulated arm's physics, with nothing that it could touch."""
    with World(ROBOT, task) as world:
        truth = default_twin(world.parameters) | {"world.table_height": -1.0}
    with World(ROBOT, task, nominal=truth) as world:
        episodes = [
            rollout(world, policy, Draw(i, i, {}), max_seconds=seconds, linger=math.inf)
            for i, policy in enumerate(policies)
        ]
    write_episodes(root, ROBOT, Calibration.nominal(ROBOT), episodes)
    return episodes


def distance(found: Identified) -> dict[str, float]:
    """How far identified servo values are from the emulated arm's, in prior standard deviations, by field."""
    with World(ROBOT) as world:
        declared = dict(world.parameters)
    truth = {name: p.nominal for name, p in declared.items()} | default_twin(declared)
    off: dict[str, list[float]] = {}
    for unknown, value in zip(found.fit.unknowns, found.fit.values):
        joint, field = unknown.name.split(".")[1:] if unknown.name.count(".") == 2 else ("", "")
        if joint in ROBOT.joint_names[:5]:
            at = unknown.encode(float(np.clip(truth[unknown.name], unknown.low, unknown.high)))
            off.setdefault(field, []).append(abs(unknown.encode(float(value)) - at) / unknown.prior)
    return {field: float(np.mean(values)) for field, values in off.items()}


@pytest.mark.slow
def test_excited_recordings_identify_better_than_ordinary_ones(
    excitation: Excitation, tmp_path: Path
) -> None:
    seconds = len(excitation.goals) / ROBOT.policy_rate
    recorded(tmp_path / "excited", ExciteTask(), [ReplayPolicy(excitation.goals)], seconds)
    reach = load_task("reach")
    count = int(np.ceil(seconds / 2.0))
    recorded(tmp_path / "ordinary", reach, [reach.expert(ROBOT)] * count, 2.0)
    found = {
        name: identify_arm(load_arm_log(tmp_path / name, ROBOT), ROBOT, name)
        for name in ("excited", "ordinary")
    }
    errors = {name: distance(one) for name, one in found.items()}
    better = sum(errors["excited"][field] < errors["ordinary"][field] for field in errors["excited"])
    assert np.mean(list(errors["excited"].values())) < 0.85 * np.mean(list(errors["ordinary"].values()))
    assert better >= 7, errors
    unsure = {name: one.fit.prior_share.mean() for name, one in found.items()}
    assert unsure["excited"] < 0.75 * unsure["ordinary"]


@pytest.mark.slow
def test_on_an_emulated_arm_over_its_wire(tmp_path: Path) -> None:
    out = tmp_path / "set"
    words = [
        "excite",
        "--port",
        "emulated",
        "--seconds",
        "8",
        "--joints",
        "elbow_flex,wrist_flex",
        "--out",
        str(out),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *words, "--json"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["successes"] == 1 and result["faults"] == [] and result["final_state"] == "limp"
    goals = np.load(out / "trajectory.npy")
    assert result["excitation"]["frames"] == len(goals)
    episode = LeRobotDataset.open(out).episode(0, ROBOT)
    assert abs(len(episode) - len(goals)) < 25
    # The gate let the motion through: what was sent covers what was planned.
    np.testing.assert_allclose(np.ptp(episode.executed, axis=0)[2:4], np.ptp(goals, axis=0)[2:4], atol=0.03)
    assert load_arm_log(out, ROBOT).recording.ramp
