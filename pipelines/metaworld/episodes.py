"""Episodes in Meta-World: trials of a policy, and demonstrations of its experts. No torch in here."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.metaworld.suite import ACTIONS, RATE, ROBOT, STEPS, Table, features, task_names, vector
from sim2real.errors import UserError
from sim2real.parameters import Draw
from sim2real.policies.file import load_policy_file

Act = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""State (39,) to action (4,)."""

BUILT_IN = ("expert", "zero", "random")
STREAM = 0x3E7A
LINGER = 10
"""Steps of a demonstration after it has succeeded."""


def check_policy(policy: str, suite: str) -> None:
    """Raise UserError unless `policy` is built in, or the file of a policy for this suite."""
    if policy in BUILT_IN:
        return
    info = load_policy_file(policy).info
    if (info.robot, info.task) != (ROBOT, suite):
        raise UserError(
            f"{policy} was trained for '{info.task}' with the robot '{info.robot}', not for the suite '{suite}'; "
            f"`sim2real pretrain --suite {suite}` trains one"
        )
    wanted = [(f.name, f.size) for f in features(suite)]
    if [(f.name, f.size) for f in info.features] != wanted:
        raise UserError(f"{policy} observes other numbers than '{suite}' has in this version; train it again")


@dataclass(frozen=True)
class MetaworldTrial:
    """A picklable recipe of trials of one task; the draw's value `goal` says which of its 50 goals.

    A trial succeeds as soon as Meta-World says so, within 500 steps.
    """

    suite: str
    task: str
    split: str
    policy: str

    def __call__(self) -> Callable[[Draw], dict[str, Any]]:
        table, act = Table(self.task, self.split), _driver(self.policy, self.suite, self.task)

        def run(draw: Draw) -> dict[str, Any]:
            decide = act(table, draw.seed)
            state = table.reset(int(draw.values["goal"]))
            stage, success, step = "reaching", False, 0
            while not success and step < STEPS:
                state, info = table.step(decide(state))
                step += 1
                success = info["success"] > 0
                stage = "done" if success else _further(stage, info)
            return {
                "success": success,
                "stage": stage,
                "failure": "" if success else f"ended in {stage}",
                "cause": "" if success else "unknown",
                "seconds": step / RATE,
            }

        return run


@dataclass(frozen=True)
class Demonstration:
    """A picklable recipe of demonstrations of one task: rows as `pipelines/learning/collect.py` takes them.

    `noise`: standard deviation of what is added to executed actions in half of the episodes, in stretches; labels
    are what the expert would do, clipped to −1…1.
    """

    suite: str
    task: str
    split: str
    noise: float

    def __call__(self) -> Callable[[Draw], dict[str, Any]]:
        table, names = Table(self.task, self.split), task_names(self.suite)
        which = names.index(self.task)

        def run(draw: Draw) -> dict[str, Any]:
            expert = _expert(table)
            rng = np.random.default_rng((STREAM, draw.seed))
            state = table.reset(int(draw.values["goal"]))
            disturbed, offset = rng.random() < 0.5, np.zeros(len(ACTIONS))
            seen, labels, success, left = [], [], False, LINGER
            for _ in range(STEPS):
                label = expert(state)
                seen.append(vector(state, which, len(names)))
                labels.append(label)
                # Stretches of about a quarter of a second, every other one without noise.
                if rng.random() < 4 / RATE:
                    on = disturbed and rng.random() < 0.5
                    offset = self.noise * rng.standard_normal(len(ACTIONS)) * on
                state, info = table.step(label + offset)
                success = success or info["success"] > 0
                left -= success
                if left < 0:
                    break
            return {
                "observations": np.stack(seen),
                "chunks": np.stack(labels)[:, None, :].astype(np.float32),
                "pictures": {},
                "truths": None,
                "success": success,
                "stage": "done" if success else "failed",
                "seconds": len(seen) / RATE,
            }

        return run


def _expert(table: Table) -> Act:
    expert = table.expert()

    def act(state: NDArray[np.float64]) -> NDArray[np.float64]:
        with warnings.catch_warnings():
            # That actions beyond 1 are clipped.
            warnings.simplefilter("ignore")
            return np.clip(np.asarray(expert.get_action(state), dtype=np.float64), -1.0, 1.0)

    return act


def _driver(policy: str, suite: str, task: str) -> Callable[[Table, int], Act]:
    """What decides actions in an episode: of a table and the episode's seed."""
    if policy == "expert":
        return lambda table, seed: _expert(table)
    if policy == "zero":
        return lambda table, seed: lambda state: np.zeros(len(ACTIONS))
    if policy == "random":

        def begin(table: Table, seed: int) -> Act:
            rng = np.random.default_rng((STREAM, 1, seed))
            return lambda state: rng.uniform(-1.0, 1.0, len(ACTIONS))

        return begin
    check_policy(policy, suite)
    file, names = load_policy_file(policy), task_names(suite)
    which = names.index(task)
    return lambda table, seed: lambda state: file.act_on(vector(state, which, len(names))[None])[0, 0]


def _further(stage: str, info: dict[str, float]) -> str:
    """The furthest stage of an episode: reaching for the object, grasping it, bringing it where it belongs."""
    if info["grasp_success"] > 0:
        return "bringing"
    if info["near_object"] > 0 and stage == "reaching":
        return "grasping"
    return stage
