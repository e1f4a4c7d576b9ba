"""`sim2real excite`: play on the arm what identification still needs, and record it.

The trajectory comes from `excitation.py`; playing and recording it are those of `sim2real record`: through the gate,
with watchdog, supervisor and recorder. What is written is a LeRobot data set that `sim2real identify` reads.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.robot import Robot
from sim2real.task import Scene, Task

if TYPE_CHECKING:
    from pipelines.deployment.request import Options
    from pipelines.identification.excitation import Excitation
    from sim2real.truth import Truth

Array = NDArray[np.float64]

TASK = "pipelines.identification.excite:ExciteTask"
TRAJECTORY = "trajectory.npy"
PLAN = "excitation.json"
MOST_SECONDS = 600.0


class ExciteTask(Task):
    """Nothing to achieve: the motion itself is what is recorded."""

    name = "excite"
    duration = 30.0
    description = "a motion that tells about the arm"
    stages = ("played",)
    features = ()

    def setup(self, values: Mapping[str, float], rng: np.random.Generator) -> Scene:
        return Scene(goal=np.zeros(3))

    def satisfied(self, truth: "Truth") -> bool:
        return True

    def estimate(self, observation: Any, robot: Robot) -> bool | None:
        return True

    def stage(self, truth: "Truth") -> str:
        return "played"


def plan(
    robot: Robot,
    *,
    twin: str | Path | None = None,
    joints: Sequence[str] | None = None,
    seconds: float = 30.0,
    speed: float = 1.0,
    seed: int = 0,
) -> "Excitation":
    """Design the trajectory. `joints` by name, default all; `twin` a file of `sim2real identify`.

    Raises UserError for joints that do not exist, times that make no sense, a twin of another robot.
    """
    from pipelines.identification.excitation import RESIDUAL, belief, design
    from pipelines.identification.identify import ArmModelFit

    if not 0 < seconds <= MOST_SECONDS:
        raise UserError(f"--seconds must be more than 0 and at most {MOST_SECONDS:g}, got {seconds:g}")
    unknown = [name for name in joints or () if name not in robot.joint_names]
    if unknown or (joints is not None and not joints):
        raise UserError(
            f"{robot.name} has no joint {', '.join(unknown) or '(none given)'}; its joints are "
            f"{', '.join(robot.joint_names)}"
        )
    chosen = [i for i, name in enumerate(robot.joint_names) if joints is None or name in joints]
    model = ArmModelFit.build(robot)
    found: dict[str, Any] = {} if twin is None else _twin(twin, robot)
    values, covariance = belief(model, found.get("parameters", {}), found.get("uncertainty", {}))
    residual = float(found.get("source", {}).get("mean_deg", RESIDUAL))
    return design(
        model,
        values,
        covariance,
        joints=chosen,
        seconds=seconds,
        residual=max(residual, 0.1),
        speed=speed,
        seed=seed,
    )


def _twin(path: str | Path, robot: Robot) -> dict[str, Any]:
    import tomllib

    from sim2real.parameters import load_twin

    load_twin(path)
    content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    if content.get("robot", robot.name) != robot.name:
        raise UserError(
            f"{path} is the twin of {content['robot']}, not of {robot.name}; choose it with --robot"
        )
    return content


def run(options: "Options", excitation: "Excitation") -> tuple[dict[str, Any], int]:
    """Play and record. Returns the result of the recording with the plan in it, and the exit status."""
    from pipelines.deployment.run import run as deploy

    with tempfile.TemporaryDirectory(prefix="sim2real-excite-") as scratch:
        file = Path(scratch) / TRAJECTORY
        np.save(file, excitation.goals)
        rate = Robot.load(options.robot).policy_rate
        # The last goal needs a moment to be reached.
        seconds = len(excitation.goals) / rate + 0.5
        # There is nothing to judge: what was played is a success.
        options = replace(options, policy=str(file), task=TASK, seconds=seconds, record=True, success="true")
        result, status = deploy(options)
        out = Path(options.out)
        if out.is_dir():
            shutil.copyfile(file, out / TRAJECTORY)
            (out / PLAN).write_text(json.dumps(described(excitation), indent=2) + "\n", encoding="utf-8")
    return result | {"excitation": described(excitation)}, status


def described(excitation: "Excitation") -> dict[str, Any]:
    """The plan as plain values: motions, and standard deviations (logarithms for scale parameters) by unknown."""
    return {
        "motions": list(excitation.kinds),
        "frames": len(excitation.goals),
        "deviation": {
            name: {"before": float(b), "expected": float(a)}
            for name, b, a in zip(excitation.names, excitation.before, excitation.after)
        },
    }


def said(excitation: "Excitation", rate: float) -> str:
    """The plan in a few lines, for people."""
    from collections import Counter

    counts = Counter(excitation.kinds)
    ratio = excitation.after / excitation.before
    order = np.argsort(ratio)
    best = ", ".join(f"{excitation.names[i]} to {ratio[i]:.0%}" for i in order[:5])
    hardly = [excitation.names[i] for i in order if ratio[i] > 0.8]
    lines = [
        f"{len(excitation.goals) / rate:.0f} s of motion: {', '.join(f'{n} × {kind}' for kind, n in counts.items())}",
        f"should narrow most: {best} of what is unsure now",
    ]
    if hardly:
        lines.append(f"will tell little about: {', '.join(hardly)}")
    return "\n".join(lines)
