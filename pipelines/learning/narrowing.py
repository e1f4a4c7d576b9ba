"""From recordings to the space that a policy is adapted in: what the arm was found to be, and how sure that is.

`identify` tells servos, delays and masses from how the joints follow their commands. A gripper's zero does not show
there: it follows as well wherever it is counted from. It shows in what it holds: the jaw stands at the object's width,
and where the recorded one stands otherwise than the simulated one does with that object, its zero is off by as much.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.holding import held_angles
from pipelines.identification.identify import Identified, identify_arm
from pipelines.identification.logs import ArmLog, load_arm_log
from pipelines.identification.results import ranges_of, space_table
from pipelines.sweeps.simulated import make_plan
from sim2real.model.batched import ArmRecording
from sim2real.policies.load import load_policy
from sim2real.robot import Robot
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

Array = NDArray[np.float64]

FRAMES = 1200
"""Frames that are fitted: half of what `identify` fits, in half the time."""
CLEAR = 2.0
"""Standard deviations from the nominal value from which on a parameter counts as moved."""
REFERENCE = 8
"""Simulated episodes that tell at which angle the jaw stands while it holds the object."""
LEAST_ZERO = np.deg2rad(2.0)
"""A gripper's zero that is off by less is not told from objects of another size."""
ZERO_SPREAD = np.deg2rad(1.5)
"""Half the range of a gripper's zero that was found, at least."""


@dataclass(frozen=True)
class Narrowed:
    """A space around the arm that a recording shows.

    `space` as `Space.from_dict` takes it; `zeros` (n,) rad, how far the arm's encoders' zeros are clearly off; `moved`
    what was found to differ from the nominal arm, rows with "parameter", "nominal", "found", "low", "high".
    """

    space: Mapping[str, Any]
    zeros: Array
    moved: tuple[Mapping[str, Any], ...]
    remarks: tuple[str, ...]
    told: Mapping[str, Any] = field(default_factory=dict)
    """What `metrics.json` says of it besides."""


def narrow(
    data: str, robot: Robot, task: str, policy: str, *, say: Callable[[str], None], **reading: Any
) -> Narrowed:
    """The space of the arm in a data set of `task`, recorded with about the policy in the file `policy`.

    `reading` is what `open_readings` takes. Raises UserError for recordings that tell nothing of servos, naming why.
    """
    began = time.monotonic()
    log = load_arm_log(data, robot, **reading)
    found = identify_arm(log, robot, data, say, frames=FRAMES)
    ranges = ranges_of(found)
    moved = list(_moved(found, ranges))
    remarks: list[str] = []
    zero = gripper_zero(robot, task, policy, found)
    if zero is not None:
        name, (shift, spread, count) = gripper_offset(robot), zero
        ranges[name] = (shift - spread, shift + spread, "uniform")
        moved.append(_row(name, 0.0, shift, ranges[name]))
        remarks.append(
            f"the gripper holds the object at an angle {np.degrees(shift):+.1f}° from where the simulated one does "
            f"(in {count} episodes): its zero is taken to be off by that"
        )
    # A gripper's goals end where its encoder's range does, so its zero cannot be made up for; experts stand it.
    clear = {str(row["parameter"]): float(row["found"]) for row in moved}
    zeros = np.array([clear.get(f"servo.{joint}.offset", 0.0) for joint in robot.joint_names])
    if robot.gripper is not None:
        zeros[robot.gripper] = 0.0
    told = {
        "mean_before_deg": float(found.before[robot.arm].mean()),
        "mean_deg": float(found.after[robot.arm].mean()),
        "gripper_deg": None if robot.gripper is None else float(found.after[robot.gripper]),
        "frames": found.fitted,
        "seconds": round(time.monotonic() - began, 1),
    }
    return Narrowed(space_table(ranges), zeros, tuple(moved), tuple(remarks), told)


def _moved(found: Identified, ranges: Mapping[str, tuple[float, float, str]]) -> list[dict[str, Any]]:
    """The unknowns whose values differ from the nominal arm's by more than their uncertainty, clearest first."""
    rows = []
    for i, unknown in enumerate(found.fit.unknowns):
        prior = unknown.start if unknown.mean is None else unknown.mean
        away = abs(unknown.encode(float(found.fit.values[i])) - unknown.encode(prior))
        clear = float(away / max(found.fit.deviation[i], 1e-12))
        if clear > CLEAR:
            row = _row(unknown.name, prior, float(found.fit.values[i]), ranges[unknown.name])
            rows.append((clear, row))
    return [row for _, row in sorted(rows, key=lambda pair: -pair[0])]


def _row(name: str, nominal: float, value: float, bounds: tuple[float, float, str]) -> dict[str, Any]:
    return {"parameter": name, "nominal": nominal, "found": value, "low": bounds[0], "high": bounds[1]}


def gripper_offset(robot: Robot) -> str:
    """The parameter that says how far the zero of `robot`'s gripper is off."""
    return f"servo.{robot.joint_names[int(robot.gripper or 0)]}.offset"


def gripper_zero(robot: Robot, task: str, policy: str, found: Identified) -> tuple[float, float, int] | None:
    """(shift, half its range, episodes) rad of the gripper's zero, where what it holds tells one; see the module."""
    if robot.gripper is None:
        return None
    recorded = held_angles(found.log, robot)
    if not len(recorded):
        return None
    simulated = _simulated_hold(robot, task, policy, found.model.table(found.fit.values))
    if not len(simulated):
        return None
    shift = float(np.median(recorded) - np.median(simulated))
    if abs(shift) < LEAST_ZERO:
        return None
    spread = max(ZERO_SPREAD, float(2 * (recorded.std() + simulated.std()) / np.sqrt(len(recorded))))
    return shift, spread, len(recorded)


def _simulated_hold(robot: Robot, task: str, policy: str, nominal: Mapping[str, float]) -> Array:
    """(k,) rad: `held_angles` of the arm that was found, simulated with the gripper's zero as it should be."""
    made = load_task(task, robot.n)
    plan = make_plan(
        task=task,
        robot=robot.source or robot.name,
        policy=policy,
        draws=REFERENCE,
        seed=17,
        space={"base": "task"},
    )
    driver = load_policy(policy, made, robot)
    episodes = []
    with World(robot, made, nominal=dict(nominal)) as world:
        for draw in plan.make_draws(plan.bind())[0]:
            episodes.append(rollout(world, driver, draw, linger=1.0))
    long = [episode for episode in episodes if len(episode) >= 2]
    recording = ArmRecording(
        np.concatenate([e.executed for e in long]),
        np.concatenate([e.state for e in long]),
        np.concatenate([[0], np.cumsum([len(e) for e in long])]),
        float(robot.policy_rate),
    )
    log = ArmLog(
        recording,
        robot.lower,
        robot.upper,
        np.ones(recording.state.shape, dtype=np.bool_),
        "radians",
        "",
        (),
        (),
    )
    return held_angles(log, robot)
