"""The suites `metaworld-mt10` and `metaworld-mt50`: tasks, goals and experts, as the package `metaworld` has them.

Source: T. Yu and others, "Meta-World: a benchmark and evaluation for multi-task and meta reinforcement learning",
2019; R. McLean and others, "Meta-World+", 2025 (package metaworld 3). The package is imported inside functions.
"""

import warnings
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.observation import Feature

SIZES = {"metaworld-mt10": "MT10_V3", "metaworld-mt50": "MT50_V3"}
"""Suites, and what the package calls their lists of tasks."""

GOALS = 50
"""Goals of every task: where its objects lie and where they shall be."""
SEEDS = {"seen": 42, "new": 43}
"""Splits: the goals of the demonstrations, by which Meta-World judges, and as many others that nobody was shown."""

ROBOT = "metaworld-sawyer"
ACTIONS = ("x", "y", "z", "gripper")
"""What an action moves, each in −1…1: the hand by up to 1 cm, and the fingers' effort."""
RATE = 80
"""Hz of Meta-World's actions."""
STEPS = 500
"""Of an episode, at most."""

_PARTS = {
    "hand": slice(0, 3), "fingers": slice(3, 4), "first.position": slice(4, 7), "first.rotation": slice(7, 11),
    "second.position": slice(11, 14), "second.rotation": slice(14, 18), "goal": slice(36, 39),
}  # fmt: skip
"""Of Meta-World's 39 numbers those of the present and the goal; 18…35 are the same of one step before."""


def is_metaworld(suite: str) -> bool:
    """Whether a suite's name is one of these."""
    return suite in SIZES


@lru_cache
def _package() -> Any:
    """The package. Raises UserError where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import metaworld
            import metaworld.policies
        except ImportError as error:
            raise UserError(
                f"suites of Meta-World need its package, which cannot be imported here ({error}): "
                "pip install 'sim2real-transfer[metaworld]', without the constraints file, whose mujoco is newer"
            ) from None
    return metaworld


def version() -> str:
    """Of the package. Raises UserError where it is not installed."""
    from importlib.metadata import version

    _package()
    return version("metaworld")


def task_names(suite: str) -> tuple[str, ...]:
    """The tasks of a suite, in Meta-World's order: `reach-v3` and so on."""
    return tuple(getattr(_package().env_dict, SIZES[suite]))


def features(suite: str) -> tuple[Feature, ...]:
    """What a policy of this suite observes: the state, and which of the tasks it is (one number each, 0 or 1)."""
    parts = (Feature(name, part.stop - part.start) for name, part in _PARTS.items())
    return (*parts, Feature("task", len(task_names(suite))))


def vector(state: NDArray[np.float64], task: int, tasks: int) -> NDArray[np.float32]:
    """`features` of Meta-World's state (39,) in the k-th of so many tasks."""
    which = np.zeros(tasks)
    which[task] = 1.0
    return np.concatenate([*(state[part] for part in _PARTS.values()), which]).astype(np.float32)


class Table:
    """One task of Meta-World with its goals; `split` says which. Resetting to a goal is deterministic."""

    def __init__(self, task: str, split: str) -> None:
        self.task = task
        self._env = _package().env_dict.ALL_V3_ENVIRONMENTS[task]()
        self._goals = _goals(task, SEEDS[split])

    def reset(self, goal: int) -> NDArray[np.float64]:
        """Begin an episode at one of the 50 goals; returns the state (39,).

        The package's "goal observable" environments repeat one goal for ever; tasks set one by one do not.
        """
        self._env.set_task(self._goals[goal])
        return np.asarray(self._env.reset()[0])

    def step(self, action: NDArray[np.float64]) -> tuple[NDArray[np.float64], dict[str, float]]:
        """Act, clipped to −1…1; returns state and what Meta-World says of the step."""
        state, _, _, _, info = self._env.step(np.clip(action, -1.0, 1.0).astype(np.float32))
        return np.asarray(state), {name: float(value) for name, value in info.items()}

    def expert(self) -> Any:
        """Meta-World's own expert of this task: `get_action(state)`."""
        return _package().policies.ENV_POLICY_MAP[self.task]()


@cache
def _goals(task: str, seed: int) -> tuple[Any, ...]:
    return tuple(_package().MT1(task, seed=seed).train_tasks)
