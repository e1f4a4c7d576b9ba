import os
from pathlib import Path

import numpy as np
import pytest

from sim2real.calibration import Calibration
from sim2real.episode import Episode
from sim2real.robot import Robot

NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
RANGES = [(704, 3392), (876, 3221), (948, 3148), (931, 3165), (0, 4095), (1322, 2774)]


@pytest.fixture(scope="session")
def robot() -> Robot:
    return Robot.load("so101")


@pytest.fixture(scope="session")
def calibration(robot: Robot) -> Calibration:
    return Calibration.create(
        {
            name: {"id": i + 1, "drive_mode": 0, "homing_offset": 0, "range_min": low, "range_max": high}
            for i, (name, (low, high)) in enumerate(zip(NAMES, RANGES))
        },
        robot,
    )


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with logs of real arms."""
    if not os.environ.get("SIM2REAL_REAL_DATA"):
        pytest.skip("SIM2REAL_REAL_DATA is not set: no logs of real arms to read")
    return Path(os.environ["SIM2REAL_REAL_DATA"])


def make_episode(
    robot: Robot, length: int = 30, *, seed: int = 0, success: bool | None = True, task: str = "reach"
) -> Episode:
    """A smooth motion within the limits that an arm follows three frames late."""
    rng = np.random.default_rng(seed)
    time = np.arange(length) / 30
    phase = rng.uniform(0, 2 * np.pi, robot.n)
    middle, half = (robot.lower + robot.upper) / 2, (robot.upper - robot.lower) / 2

    def at(moment: np.ndarray) -> np.ndarray:
        return middle + 0.6 * half * np.sin(2.0 * moment[:, None] + phase)

    return Episode(
        time=time + np.linspace(0, 0.004, length),
        state=at(time - 0.1),
        action=at(time),
        executed=at(time) * 0.999,
        fps=30.0,
        robot=robot.name,
        task=task,
        features={
            "goal": rng.uniform(0, 0.3, (length, 3)),
            "object.cube.age": rng.uniform(0, 2, (length, 1)),
        },
        success=success,
    )
