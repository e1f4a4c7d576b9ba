"""What a policy gives up where it is to be fast: the trials of a benchmark again, with one setting changed.

| setting | values | what is changed |
|---|---|---|
| `chunk` | 1, ¼, ½ of the chunk | how many of its actions are executed, where no newer chunk is there |
| `rate` | ½, ⅓ of the policy's | how often the policy is asked; in between the chunk plays on |
| `latency` | 50, 100, 200 ms | how late a chunk arrives, instead of what the draw says |
| `arm` | 0.5, 0.75 | the gate's limits of velocity and acceleration, `deploy --speed` |

Smaller networks and files with 8-bit weights are policies of their own: given with `--against` they are points here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.benchmarks.outcomes import by_task, seconds_to_success
from pipelines.benchmarks.simulated import SimulatedTrials, Trial
from pipelines.benchmarks.statistics import mean_rate
from randomization.workers import Factory
from sim2real.observation import Observation
from sim2real.parameters import Draw
from sim2real.policies.protocol import Policy

if TYPE_CHECKING:
    import pyarrow as pa

LATENCIES = (0.05, 0.1, 0.2)
CHUNKS = (0.25, 0.5)
EVERY = (2, 3)
ARMS = (0.5, 0.75)

LATENCY, JITTER = "policy.latency", "policy.jitter"


class Hurried:
    """A policy that is asked every `every` steps only, and of whose chunks `keep` actions are executed."""

    def __init__(self, policy: Policy, every: int = 1, keep: int | None = None) -> None:
        self._inner, self._every = policy, every
        self.horizon = policy.horizon if keep is None else keep
        self.pictures = getattr(policy, "pictures", ())
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self._inner.reset(seed)
        self._step, self._chunk = 0, np.zeros((0, 0))

    def act(self, observation: Observation) -> np.ndarray:
        """(horizon, n) rad; between two answers what is left of the last chunk, its last action repeated."""
        since = self._step % self._every
        self._step += 1
        if since == 0:
            self._chunk = np.asarray(self._inner.act(observation), dtype=np.float64)[: self.horizon]
            return self._chunk
        rest = self._chunk[since:] if since < len(self._chunk) else self._chunk[-1:]
        return np.concatenate([rest, np.repeat(rest[-1:], self.horizon - len(rest), axis=0)])


@dataclass(frozen=True)
class ChangedTrial(Trial):
    """A picklable recipe of trials with a policy in a hurry, or an arm that is not."""

    every: int = 1
    share: float = 1.0
    arm: float = 1.0

    def __call__(self) -> Callable[[Draw], dict[str, Any]]:
        from sim2real.gate.gate import Gate

        world, policy = self.recipe.open()
        if self.arm != 1.0:
            world.gate = Gate(world.robot, speed=self.arm)
        keep = 1 if self.share == 0.0 else max(1, round(self.share * policy.horizon))
        return self.trials(world, Hurried(policy, self.every, keep))


@dataclass(frozen=True)
class Changed:
    """Trials with one setting changed. Satisfies `protocol.Trials`."""

    whole: SimulatedTrials
    every: int = 1
    share: float = 1.0
    """Of a chunk's actions; 0 is a single one."""
    latency: float | None = None
    arm: float = 1.0

    @property
    def policy(self) -> str:
        return self.whole.policy

    def identity(self) -> dict[str, Any]:
        changed = {"every": self.every, "share": self.share, "latency": self.latency, "arm": self.arm}
        return {"of": self.whole.fingerprint, "changed": changed}

    def draws(self, count: int) -> list[Draw]:
        draws = self.whole.draws(count)
        if self.latency is None:
            return draws
        return [replace(d, values={**d.values, LATENCY: self.latency, JITTER: 0.0}) for d in draws]

    def recipe(self) -> Factory:
        return ChangedTrial(self.whole.plan.factory, self.every, self.share, self.arm)


@dataclass(frozen=True)
class Setting:
    """A changed setting: which, and its value, `latency` s and shares else."""

    name: str
    value: float
    change: Mapping[str, float]

    @property
    def key(self) -> str:
        """The name of its directory."""
        return f"{self.name}-{self.value:g}"


SETTINGS: Sequence[Setting] = (
    Setting("chunk", 0.0, {"share": 0.0}),
    *(Setting("chunk", share, {"share": share}) for share in CHUNKS),
    *(Setting("rate", round(1 / every, 3), {"every": every}) for every in EVERY),
    *(Setting("latency", latency, {"latency": latency}) for latency in LATENCIES),
    *(Setting("arm", share, {"arm": share}) for share in ARMS),
)


def changed(tasks: Mapping[str, SimulatedTrials]) -> dict[str, dict[str, Changed]]:
    """Per setting the trials of every task with it."""
    return {
        setting.key: {task: Changed(tried, **setting.change) for task, tried in tasks.items()}  # type: ignore[arg-type]
        for setting in SETTINGS
    }


def speed_against_quality(
    whole: Mapping[str, "pa.Table"],
    settings: Mapping[str, Mapping[str, "pa.Table"]],
    others: Mapping[str, Mapping[str, "pa.Table"]],
) -> list[dict[str, Any]]:
    """A row per setting, as JSON types; `others`: further policies by name. `pareto`: no row is better in both."""
    rows = [_row("as it is", None, whole)]
    rows += [_row(s.name, s.value, settings[s.key]) for s in SETTINGS if s.key in settings]
    rows += [_row(f"policy {name}", None, tables) for name, tables in others.items()]
    front = pareto([row["success_rate"] for row in rows], [row["seconds_to_success"] for row in rows])
    return [row | {"pareto": on} for row, on in zip(rows, front)]


def pareto(success: Sequence[float], seconds: Sequence[float | None]) -> list[bool]:
    """Which points no other one beats: as successful and as fast, and better in one of both. None: never succeeded."""
    time = [np.inf if second is None else second for second in seconds]
    return [
        second is not None
        and not any(
            success[j] >= success[i] and time[j] <= time[i] and (success[j] > success[i] or time[j] < time[i])
            for j in range(len(time))
        )
        for i, second in enumerate(seconds)
    ]


def _row(name: str, value: float | None, tables: Mapping[str, "pa.Table"]) -> dict[str, Any]:
    rate = mean_rate(*by_task(tables))
    return {
        "setting": name,
        "value": value,
        "trials": sum(table.num_rows for table in tables.values()),
        "success_rate": rate.value,
        "interval_95": [rate.low, rate.high],
        "seconds_to_success": seconds_to_success(tables),
    }
