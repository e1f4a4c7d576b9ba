"""Decisions under uncertainty: what is better on average, and how often one would wish to have done the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.costs.cell import STRATEGIES, Values
from pipelines.costs.economics import (
    cost_per_task,
    more_demonstrations,
    net_present_value,
    with_robots,
    with_success,
)

Array = NDArray[np.float64]

MOST_BATCHES = 20
MOST_ROBOTS = 8


@dataclass(frozen=True)
class Decision:
    """A question, the answer that is better on average, and what speaks against it."""

    question: str
    choice: str
    regret: float
    """Probability that another choice would have been better."""
    expected_regret: float
    """USD that a perfect forecast would bring, on average: what further measuring is worth at most."""
    worth: Array
    """(N,) USD of net present value by which the choice beats its best other."""
    details: Mapping[str, Any]


def decide(x: Values, strategy: str, npv: Array) -> dict[str, Decision]:
    """All decisions by name."""
    return {
        "automate": _automate(x, strategy, npv),
        "add_robot": _add_robot(x, strategy, npv),
        "buy_or_rent": _between(
            "Buy the robot, or rent it?", {"buy": npv, "rent": net_present_value(x, strategy, rented=True)}
        ),
        "collect_more": _collect(x, strategy),
        "how_to_teach": _between(
            "How to teach a new task?", {way: -cost_per_task(x, way) for way in STRATEGIES}
        ),
    }


def _between(question: str, choices: Mapping[str, Array], **details: Any) -> Decision:
    """The choice with the largest mean worth."""
    best = max(choices, key=lambda name: float(np.mean(choices[name])))
    others = np.max([worth for name, worth in choices.items() if name != best], axis=0)
    ahead = choices[best] - others
    return Decision(
        question=question,
        choice=best,
        regret=float(np.mean(ahead < 0)),
        expected_regret=float(np.mean(np.maximum(-ahead, 0.0))),
        worth=ahead,
        details=details,
    )


def _automate(x: Values, strategy: str, npv: Array) -> Decision:
    choices = {"automate": npv, "do not automate": np.zeros_like(npv)}
    return _between("Automate?", choices, pays_from_success=_least_success(x, strategy))


def _least_success(x: Values, strategy: str, steps: int = 12) -> float | None:
    """The success from which the mean net present value is positive; None where not even 100 % suffices."""
    low, high = 0.0, 1.0
    if np.mean(net_present_value(with_success(x, 1.0), strategy)) < 0:
        return None
    for _ in range(steps):
        middle = (low + high) / 2
        if np.mean(net_present_value(with_success(x, middle), strategy)) >= 0:
            high = middle
        else:
            low = middle
    return high


def _add_robot(x: Values, strategy: str, npv: Array) -> Decision:
    now = int(x["robots"].value.flat[0])
    more = net_present_value(with_robots(x, now + 1), strategy)
    counts = range(1, MOST_ROBOTS + 1) if now < MOST_ROBOTS else (now, now + 1)
    means = {n: float(np.mean(net_present_value(with_robots(x, n), strategy))) for n in counts}
    return _between(
        f"Robot number {now + 1}?",
        {"add one": more, f"stay with {now}": npv},
        mean_npv_by_robots=means,
        best_number=max(means, key=lambda n: means[n]),
    )


def _collect(x: Values, strategy: str) -> Decision:
    worths = {k: more_demonstrations(x, strategy, k) for k in range(1, MOST_BATCHES + 1)}
    means = [0.0, *(float(np.mean(worth)) for worth in worths.values())]
    batch = float(np.mean(x["batch"].value))
    best = int(np.argmax(means))
    choices = {"collect more": worths[1], "stop collecting": np.zeros_like(worths[1])}
    return _between(
        f"Another {batch:.0f} demonstrations per task?",
        choices,
        mean_worth_by_batches=means,
        stop_after_demonstrations=best * batch,
        stop_is_beyond=best == MOST_BATCHES,
    )
