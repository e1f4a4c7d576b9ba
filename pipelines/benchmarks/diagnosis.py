"""Why a trial failed: the first stage that it did not reach, and what its record shows of the cause.

A cause is named only where the record shows it; everything else is `unknown`. The rules are looked at in the order
of CAUSES: what comes first makes what follows likely (an arm that acts late also misses the cube).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sim2real.observation import Observation, object_keys
from sim2real.task import Task
from sim2real.truth import Truth

Array = NDArray[np.float64]

UNKNOWN = "unknown"

LATE = 0.1
"""Share of the chunks that arrived after all of their actions were due."""
CLIPPED = 0.4
"""Share of the command ticks in which the gate held the arm back."""
HELD_BACK = (
    "not_finite",
    "discontinuity",
    "position",
    "velocity",
    "stopping",
    "workspace",
    "self_collision",
    "torque",
)
"""Interventions of the gate that keep the arm from where it was told to go; a limited acceleration alone delays it."""
OLD = 0.4
"""s since an object was last seen; where that is so for LONG of the time before it was touched, it was lost."""
LONG = 0.5
MISPLACED = 0.012
"""m between where a lying object is and where it is believed, in the middle of the time before it was touched."""
TURNED = np.deg2rad(20.0)
RAISED = 0.01
"""m over where it rested: an object so high was in the hand, or thrown."""
NEAR = 0.06
"""m between tool and object: the hand was at it, or beside it."""
STUCK = 0.1
"""rad by which an arm joint that stands still is behind its command for STUCK_FOR s: something is in the way."""
STANDS = 0.1
"""rad/s: slower than this a joint stands still."""
STUCK_FOR = 0.7
UNDER_WAY = 1.0
"""s before the end in which a trial that ran out of time was still getting further."""
CLOSER = 0.005
"""m by which tool or object came closer to where it should be in that time; or the tool went twice as far straight."""

GRASP_STAGES = frozenset({"raised", "held", "carried", "lifted"})
"""Stages of tasks in which an object is taken into the hand."""

CAUSES = (
    "motion: late", "motion: clipped", "motion: collided", "perception: lost", "perception: wrong place",
    "grasp: slipped", "goal: undone", "grasp: missed", "goal: wrong object", "goal: wrong place", "time",
    UNKNOWN,
)  # fmt: skip


@dataclass
class Trace:
    """What a trial leaves to judge it by, one row a policy step."""

    task: Task
    arm: tuple[int, ...]
    time: list[float] = field(default_factory=list)
    satisfied: list[bool] = field(default_factory=list)
    stage: list[int] = field(default_factory=list)
    tool: list[Array] = field(default_factory=list)
    lag: list[float] = field(default_factory=list)
    """rad: of the arm's joints that stand still, the one furthest behind its command."""
    gripper: list[float] = field(default_factory=list)
    moved: dict[str, list[Array]] = field(default_factory=dict)
    """(3,) m: where the objects that move are."""
    grasped: dict[str, list[bool]] = field(default_factory=dict)
    believed: list[Array] = field(default_factory=list)
    age: list[float] = field(default_factory=list)
    turned: list[float] = field(default_factory=list)
    """rad between the believed and the true yaw of the object, up to its symmetry."""
    goal: list[Array] = field(default_factory=list)

    @property
    def object(self) -> str:
        """The object that the task is about: the first that moves; "" where none does."""
        return next((spec.name for spec in self.task.objects if spec.moves), "")

    @property
    def grasps(self) -> bool:
        """Whether the task is done with the object in the hand."""
        return not GRASP_STAGES.isdisjoint(self.task.stages)

    def add(self, truth: Truth, observation: Observation, gripper: int | None) -> None:
        """One policy step: what is, and what the policy was told."""
        from sim2real.simulation.sensing import object_yaw

        self.time.append(truth.time)
        self.satisfied.append(self.task.satisfied(truth))
        self.stage.append(self.task.stages.index(self.task.stage(truth)) if self.task.stages else 0)
        self.tool.append(truth.tool_position)
        behind = np.abs(truth.joint_command - truth.joint_position) * (np.abs(truth.joint_velocity) < STANDS)
        self.lag.append(float(behind[list(self.arm)].max(initial=0.0)))
        self.gripper.append(0.0 if gripper is None else float(truth.joint_command[gripper]))
        self.goal.append(truth.goal)
        for name, state in truth.objects.items():
            if state.spec.moves:
                self.moved.setdefault(name, []).append(state.position)
                self.grasped.setdefault(name, []).append(state.grasped)
        name = self.object
        if not name or name not in truth.objects:
            return
        where, turn, when = object_keys(name)[:3]
        self.believed.append(observation[where])
        self.age.append(float(observation[when][0]))
        target = truth.objects[name]
        k = target.spec.symmetry
        wrong = np.arctan2(observation[turn][1], observation[turn][0]) - k * object_yaw(target)
        self.turned.append(float(np.abs(np.angle(np.exp(1j * wrong)))) / k if k else 0.0)


def diagnose(trace: Trace, info: Mapping[str, object]) -> str:
    """The cause of a failed trial, one of CAUSES. `info`: what the rollout says of gate and chunks."""
    for cause, rule in _RULES:
        if rule(trace, info):
            return cause
    return UNKNOWN


def _late(trace: Trace, info: Mapping[str, object]) -> bool:
    return _number(info, "latency_missed") > LATE * max(len(trace.time), 1)


def _clipped(trace: Trace, info: Mapping[str, object]) -> bool:
    counts = info.get("interventions")
    if not isinstance(counts, Mapping):
        return False
    return max(_number(counts, name) for name in HELD_BACK) > CLIPPED * max(_number(counts, "ticks"), 1)


def _collided(trace: Trace, info: Mapping[str, object]) -> bool:
    behind = np.array(trace.lag) > STUCK
    return _longest(behind, trace.time) >= STUCK_FOR


def _before_touch(trace: Trace) -> slice:
    """The steps until the object first moved by more than the detector's error."""
    positions = np.array(trace.moved[trace.object]) if trace.object in trace.moved else np.zeros((0, 3))
    away = np.linalg.norm(positions - positions[:1], axis=1) > 0.01
    return slice(0, int(np.argmax(away)) if away.any() else len(positions))


def _lost(trace: Trace, info: Mapping[str, object]) -> bool:
    if not trace.age:
        return False
    age = np.array(trace.age)[_before_touch(trace)]
    return bool(len(age)) and float((age > OLD).mean()) > LONG


def _misplaced(trace: Trace, info: Mapping[str, object]) -> bool:
    if not trace.believed:
        return False
    part = _before_touch(trace)
    off = np.linalg.norm((np.array(trace.believed) - np.array(trace.moved[trace.object]))[part, :2], axis=1)
    turned = np.array(trace.turned)[part]
    return bool(len(off)) and bool(np.median(off) > MISPLACED or np.median(turned) > TURNED)


def _undone(trace: Trace, info: Mapping[str, object]) -> bool:
    return any(trace.satisfied)


def _slipped(trace: Trace, info: Mapping[str, object]) -> bool:
    """Whether the object was lifted in the hand, and is no longer."""
    if trace.object not in trace.moved or not trace.grasps:
        return False
    height = np.array(trace.moved[trace.object])[:, 2]
    held = np.array(trace.grasped[trace.object]) & (height > height[0] + RAISED)
    return bool(held.any()) and height[-1] < height[0] + RAISED / 2


def _missed(trace: Trace, info: Mapping[str, object]) -> bool:
    """Whether the hand closed at the object, which was never raised."""
    if trace.object not in trace.moved or not trace.grasps:
        return False
    positions = np.array(trace.moved[trace.object])
    if positions[:, 2].max() > positions[0, 2] + RAISED:
        return False
    near = np.linalg.norm(positions - np.array(trace.tool), axis=1) < NEAR
    angle = np.array(trace.gripper)
    shut = angle < angle.min() + 0.25 * max(float(np.ptp(angle)), 1e-9)
    return bool((near & shut).any()) and float(np.ptp(angle)) > 0.3


def _wrong_object(trace: Trace, info: Mapping[str, object]) -> bool:
    """Whether another object was carried or pushed away while the right one lay still."""
    if trace.object not in trace.moved:
        return False
    way = {name: float(np.linalg.norm(p[-1] - p[0])) for name, p in trace.moved.items()}
    others = [w for name, w in way.items() if name != trace.object]
    return bool(others) and max(others) > 0.03 and way[trace.object] < 0.01


def _wrong_place(trace: Trace, info: Mapping[str, object]) -> bool:
    """Whether the object was brought away and lies still where it does not belong."""
    if trace.object not in trace.moved:
        return False
    positions = np.array(trace.moved[trace.object])
    last = np.array(trace.time) > trace.time[-1] - UNDER_WAY
    still = float(np.ptp(positions[last], axis=0).max()) < 0.003
    return still and float(np.linalg.norm(positions[-1] - positions[0])) > 0.03


def _out_of_time(trace: Trace, info: Mapping[str, object]) -> bool:
    """Whether the trial was still getting further at its end: a later stage, an object or the tool on its way."""
    last = np.array(trace.time) > trace.time[-1] - UNDER_WAY
    if trace.stage and max(np.array(trace.stage)[last]) > max(np.array(trace.stage)[~last], default=0):
        return True
    target = np.array(trace.moved[trace.object]) if trace.object in trace.moved else np.array(trace.goal)
    goal = np.array(trace.goal)
    tool = np.array(trace.tool)
    rows = [np.linalg.norm(tool - target, axis=1)]
    if trace.object in trace.moved:
        rows.append(np.linalg.norm(target - goal, axis=1))
    if any(row[last][0] - row[last][-1] > CLOSER for row in rows):
        return True
    way = float(np.linalg.norm(np.diff(tool[last], axis=0), axis=1).sum())
    straight = float(np.linalg.norm(tool[last][-1] - tool[last][0]))
    return straight > max(2 * CLOSER, 0.8 * way)


_RULES: tuple[tuple[str, Callable[[Trace, Mapping[str, object]], bool]], ...] = (
    ("motion: late", _late),
    ("motion: clipped", _clipped),
    ("motion: collided", _collided),
    ("perception: lost", _lost),
    ("perception: wrong place", _misplaced),
    ("grasp: slipped", _slipped),
    ("goal: undone", _undone),
    ("grasp: missed", _missed),
    ("goal: wrong object", _wrong_object),
    ("goal: wrong place", _wrong_place),
    ("time", _out_of_time),
)


def _number(of: Mapping[str, object], name: str) -> float:
    value = of.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0


def _longest(condition: NDArray[np.bool_], time: list[float]) -> float:
    """s of the longest stretch in which the condition holds."""
    longest, since = 0.0, None
    for holds, now in zip(condition, time):
        since = (now if since is None else since) if holds else None
        longest = max(longest, now - since) if since is not None else longest
    return longest
