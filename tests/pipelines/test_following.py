"""Commands that cannot be those of the states: in other units, steps, mirrored."""

from pathlib import Path

import numpy as np
import pytest

from pipelines import cli
from pipelines.identification.dataset_check import check
from pipelines.identification.following import follow, mismatch
from pipelines.identification.logs import load_arm_log
from sim2real.calibration import Calibration
from sim2real.episode import Episode
from sim2real.errors import UserError
from sim2real.lerobot import write_episodes
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
SPANS = ROBOT.upper - ROBOT.lower


def motion(seed: int = 0, frames: int = 250, late: float = 0.12) -> tuple[np.ndarray, np.ndarray]:
    """Commands and the states that follow them late, (T, n) rad."""
    rng = np.random.default_rng(seed)
    phase, speed = rng.uniform(0, 6, ROBOT.n), rng.uniform(1.2, 3.0, ROBOT.n)
    time = np.arange(frames)[:, None] / 30

    def at(moment: np.ndarray) -> np.ndarray:
        return ROBOT.home + 0.35 * np.sin(speed * moment + phase) + 0.15 * np.sin(2.3 * speed * moment)

    return at(time), at(time - late) + rng.normal(0, 0.001, (frames, ROBOT.n))


EPISODES = [motion(seed) for seed in range(3)]


def problem(change) -> str | None:  # type: ignore[no-untyped-def]
    commands, states = zip(*[(change(c, s), s) for c, s in EPISODES])
    return mismatch(follow(commands, states, 30.0), ROBOT, SPANS)


def test_a_servo_goes_as_far_as_it_is_told() -> None:
    found = follow(*zip(*EPISODES), 30.0)
    np.testing.assert_allclose(found.gain, 1.0, atol=0.01)
    np.testing.assert_allclose(found.lag, 0.12, atol=0.02)
    assert problem(lambda c, s: c) is None
    # It sags, it cuts corners, and the gripper holds something.
    assert problem(lambda c, s: c * [1, 1.08, 1.1, 1.1, 1, 1.4] + 0.05) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c, s: np.deg2rad(c), "actions were in radians and states in degrees"),
        (lambda c, s: np.rad2deg(c), "actions were in degrees and states in radians"),
        (lambda c, s: c * 200 / np.rad2deg(SPANS), "actions were in per cent and states in degrees"),
        (lambda c, s: c * np.rad2deg(SPANS) / 200, "actions were in degrees and states in per cent"),
        (lambda c, s: c / 100, "actions were in −1…1 and states in per cent"),
        (lambda c, s: c * [1, 1, 1, 1, 1, 0.01], "(gripper 9"),
        (lambda c, s: c * 2.0, "another measure than their commands (shoulder_pan 0.5"),
        (lambda c, s: -c, "opposite directions"),
        (lambda c, s: c * [1, 1, -1, 1, 1, 1], "(elbow_flex -"),
        (lambda c, s: np.diff(c, axis=0, append=c[-1:]), "steps relative"),
        (lambda c, s: c - s, "steps relative"),
    ],
)
def test_commands_that_cannot_be_those_of_the_states(change, words: str) -> None:  # type: ignore[no-untyped-def]
    found = problem(change)
    assert found is not None and words in found


def test_arms_at_rest_and_joints_that_are_held_are_no_wrong_units() -> None:
    commands = [c for c, _ in EPISODES]
    still = np.tile(ROBOT.home, (100, 1))
    for states in (
        [s * [1, 1, 1, 0, 1, 1] for _, s in EPISODES],
        [np.minimum(s, [9, 9, 9, 1.3, 9, 9]) for _, s in EPISODES],
    ):
        assert mismatch(follow(commands, states, 30.0), ROBOT, SPANS) is None
    assert mismatch(follow([still], [still + 1e-4], 30.0), ROBOT, SPANS) is None
    assert mismatch(follow([still[:5]], [still[:5]], 30.0), ROBOT, SPANS) is None


def test_every_reader_refuses_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A leader in radians beside a follower in degrees."""
    calibration = Calibration.nominal(ROBOT)
    episodes = [
        Episode(time=np.arange(len(s)) / 30, state=s, action=np.deg2rad(c), executed=np.deg2rad(c), fps=30.0)
        for c, s in EPISODES
    ]
    dataset = write_episodes(tmp_path, ROBOT, calibration, episodes)
    with pytest.raises(UserError, match=r"in .* states move by another measure .*convert the actions"):
        load_arm_log(tmp_path, ROBOT)
    assert cli.main(["replay", "--data", str(tmp_path)]) == 2
    assert "actions were in radians and states in degrees" in capsys.readouterr().err
    report = check(dataset, ROBOT, tasks=("reach",))
    assert report["joints"]["elbow_flex"]["gain"] == pytest.approx(57.3, rel=0.02)
    assert not any(report["uses"][use]["possible"] for use in ("replay", "identify"))
    assert "actions that belong" in report["uses"]["finetune"]["reach"]["missing"][-1]
