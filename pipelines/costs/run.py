"""One run of the cost model: inputs in, a dictionary of results out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.costs.brief import FIGURES
from pipelines.costs.cell import STRATEGIES, Values, success_rate, teaching_time
from pipelines.costs.decisions import decide
from pipelines.costs.economics import (
    Economics,
    cost_per_task,
    economics,
    net_present_value,
    point_of_success,
    with_success,
    worth_and_cost,
)
from pipelines.costs.inputs import Inputs
from pipelines.costs.sensitivity import sobol, tornado
from pipelines.costs.units import quantity
from sim2real.errors import UserError

Array = NDArray[np.float64]

MOST_DRAWS = 200_000
LEAST_DRAWS = 100

METRICS = {
    "tco": ("USD", "total cost of ownership: all that the cell costs over its life, less its residual value"),
    "cost_per_item": ("USD/item", "total cost of ownership per successful item"),
    "levelised_cost_per_item": ("USD/item", "both discounted to today"),
    "cost_per_task": ("USD/task", "teaching one new task"),
    "payback_years": ("year", "until the saved work has paid everything back, undiscounted; null: never"),
    "npv": ("USD", "net present value: what the saved work brings, less all costs, discounted to today"),
    "irr": ("share/year", "internal rate of return; null: the money does not come back at any rate"),
    "break_even_items": (
        "item",
        "items over the life at which what they save pays for everything; null: never",
    ),
    "break_even_items_per_year": (
        "item/year",
        "items a year at which the net present value is zero; null: never",
    ),
    "items_per_year": ("item/year", "successful items, no more than wanted"),
    "capacity_per_year": ("item/year", "successful items that the robots could make"),
    "utilisation": ("share", "of the working hours in which the robots work or wait for help"),
    "robots_per_operator": ("robot", "robots that one person can look after"),
    "saving_per_item": (
        "USD/item",
        "manual work and scrap that a successful item saves, and what it brings besides",
    ),
    "point_of_success": ("USD", "net present value of one more point of success"),
    "success": ("share", "success in daily work"),
}
"""Unit and meaning of every figure."""


def run(
    inputs: Inputs, *, draws: int, seed: int, strategy: str = "pretraining"
) -> tuple[dict[str, Any], dict[str, Array]]:
    """What `result.json` holds (infinite figures are None), and the columns of `draws.parquet`.

    Raises UserError as `check` does.
    """
    check(draws, seed, strategy)
    x = inputs.draws(draws, seed)
    found = economics(x, strategy)
    decisions = decide(x, strategy, found.npv)
    values = metrics(x, found, strategy)

    def model(given: Values) -> tuple[Array, ...]:
        return worth_and_cost(given, strategy)

    swings, indices = tornado(inputs, model), sobol(inputs, model, seed)
    answer: dict[str, Any] = {"title": inputs.title, "draws": draws, "seed": seed, "teach": strategy}
    answer |= {name: _spread(values[name], *METRICS[name]) for name in METRICS}
    answer |= {
        "probability_npv_positive": float(np.mean(found.npv > 0)),
        "parts": {part: _spread(amounts.sum(axis=1), "USD") for part, amounts in found.parts.items()},
        "years": _years(found),
        "data_collection": {way: _teaching(x, way) for way in STRATEGIES},
        "decisions": {
            name: {
                "question": one.question,
                "choice": one.choice,
                "probability_of_regret": one.regret,
                "expected_regret": one.expected_regret,
                "worth": _spread(one.worth, "USD"),
                **one.details,
            }
            for name, one in decisions.items()
        },
        "tornado": {
            name: [
                {
                    "input": one.name, "low": one.low, "high": one.high, "at_low": one.at_low, "at_high": one.at_high,
                    "swing": one.swing,
                }
                for one in swings[k]
            ]
            for k, name in enumerate(("npv", "tco"))
        },
        "sobol": {
            name: [{"input": one.name, "first": one.first, "total": one.total} for one in indices[k]]
            for k, name in enumerate(("npv", "tco"))
        },
        "curves": _curves(x, found, strategy),
        "inputs": [one.to_dict() for one in inputs.by_name.values()],
        "notes": list(inputs.notes),
        "brief": [one.to_dict() for one in FIGURES],
    }  # fmt: skip
    given = {
        f"input.{one.name}": x[one.name].value / quantity(1.0, one.unit).value for one in inputs.varying()
    }
    return answer, {**given, **values}


def check(draws: int, seed: int, strategy: str) -> None:
    """Raise UserError for too few or too many draws, a negative seed, an unknown strategy."""
    if not LEAST_DRAWS <= draws <= MOST_DRAWS:
        raise UserError(f"--draws must be {LEAST_DRAWS} to {MOST_DRAWS}, got {draws}")
    if seed < 0:
        raise UserError(f"--seed must not be negative, got {seed}")
    if strategy not in STRATEGIES:
        raise UserError(f"--teach is one of {', '.join(STRATEGIES)}, got '{strategy}'")


def metrics(x: Values, found: Economics, strategy: str) -> dict[str, Array]:
    """(N,) values of every figure of `METRICS`, in its unit."""
    did = found.did
    return {
        "tco": found.tco,
        "cost_per_item": found.cost_per_item,
        "levelised_cost_per_item": found.levelised,
        "cost_per_task": cost_per_task(x, strategy),
        "payback_years": found.payback,
        "npv": found.npv,
        "irr": found.irr,
        "break_even_items": found.break_even,
        "break_even_items_per_year": found.break_even_yearly,
        "items_per_year": did.items.to("item/year"),
        "capacity_per_year": did.capacity.to("item/year"),
        "utilisation": did.utilisation.to("share"),
        "robots_per_operator": did.robots_per_operator.to("robot"),
        "saving_per_item": found.saving,
        "point_of_success": point_of_success(x, strategy),
        "success": success_rate(x).to("share"),
    }


def _spread(values: Array, unit: str, about: str = "") -> dict[str, Any]:
    """Percentiles, mean and the share of draws without a figure. Infinite percentiles are None."""
    finite = np.isfinite(values)
    low, middle, high = np.quantile(np.nan_to_num(values, nan=np.inf, posinf=np.inf, neginf=-np.inf), (0.1, 0.5, 0.9),
                                    method="inverted_cdf")  # fmt: skip
    answer: dict[str, Any] = {
        "p10": _plain(low), "p50": _plain(middle), "p90": _plain(high),
        "mean": float(values.mean()) if finite.all() else None, "unit": unit,
    }  # fmt: skip
    if not finite.all():
        answer["none"] = float(np.mean(~finite))
    if about:
        answer["about"] = about
    return answer


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _years(found: Economics) -> list[dict[str, Any]]:
    """A row per year: cost with its spread, and the mean of each part. Means of parts and years sum up, percentiles
    do not."""
    by_year = np.sum(list(found.parts.values()), axis=0)
    return [
        {"year": year}
        | _spread(by_year[:, year], "USD")
        | {"parts": {part: float(amounts[:, year].mean()) for part, amounts in found.parts.items()}}
        for year in range(by_year.shape[1])
    ]


def _teaching(x: Values, way: str) -> dict[str, Any]:
    time = teaching_time(x, way)
    return {
        "cost_per_task": _spread(cost_per_task(x, way), "USD/task"),
        "time_per_task": _spread(time.to("day/task"), "day/task", "days of all robots")
        if way == "fleet"
        else _spread(time.to("h/task"), "h/task", "hours of a person"),
    }


def _curves(x: Values, found: Economics, strategy: str) -> dict[str, Any]:
    """What the report draws."""
    cash = np.cumsum(found.flows, axis=1)
    counts, edges = np.histogram(found.npv, bins=60, range=_most(found.npv))
    rates = np.linspace(0.5, 1.0, 26)
    worth = [net_present_value(with_success(x, rate), strategy) for rate in rates]
    return {
        "cash": {"year": list(range(cash.shape[1]))} | _band(cash.T),
        "npv": {"edges": edges.tolist(), "counts": counts.tolist()},
        "success": {"success": rates.tolist()} | _band(worth),
    }


def _most(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, (0.005, 0.995))
    return (float(low), float(high)) if high > low else (float(low) - 1.0, float(low) + 1.0)


def _band(rows: Sequence[Array] | Array) -> dict[str, list[float]]:
    low, middle, high = np.quantile(np.asarray(rows), (0.1, 0.5, 0.9), axis=1)
    return {"p10": low.tolist(), "p50": middle.tolist(), "p90": high.tolist()}
