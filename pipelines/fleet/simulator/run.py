"""One run of `fleet simulate`: the fleet as asked for, what its assumptions hide, and other sizes of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.costs.inputs import Inputs
from pipelines.fleet.simulator.model import BATCH, DAY, WAYS, Outcome, simulate
from pipelines.fleet.simulator.settings import FACTORS, Settings, in_practice, settings
from sim2real.errors import UserError

SIZES = (1, 10, 100, 1000)
"""Robots of the fleets that are set side by side."""

MOST_ROBOTS, MOST_DAYS, MOST_RUNS = 10_000, 3650, 1000
MOST_EVENTS = 2e7
LONG, SHORT = 30.0, 5.0
"""Days over which fleets are compared: large ones that wait for nobody show the same in fewer."""
BUSY = 0.8
"""How busy people may be on average, where their number is proposed: more, and queues grow long."""


def check(robots: int, days: float, runs: int, seed: int) -> None:
    """Raise UserError for a fleet that makes no sense, or that would take hours."""
    for name, value, most in (
        ("robots", robots, MOST_ROBOTS),
        ("days", days, MOST_DAYS),
        ("runs", runs, MOST_RUNS),
    ):
        if not 1 <= value <= most:
            raise UserError(f"--{name} must be 1 to {most}, got {value:g}")
    if seed < 0:
        raise UserError(f"--seed must not be negative, got {seed}")


def run(
    inputs: Inputs, *, robots: int, days: float, seed: int, runs: int = 1, pool: bool | None = None
) -> dict[str, Any]:
    """What `result.json` holds. pool: whether robots learn together; by default when there are two or more.

    Raises UserError as `check` does, and when SimPy is missing.
    """
    check(robots, days, runs, seed)
    pooled = robots > 1 if pool is None else pool
    values = _likely(inputs)
    base = settings(inputs, robots, days, pooled, values)
    _check_size(base, runs)
    outcome = simulate(base, seed)
    answer: dict[str, Any] = {"robots": robots, "days": days, "pooled": pooled, "seed": seed, "runs": runs}
    answer |= summary(base, outcome)
    answer |= {
        "spread": _spread(inputs, base, seed, runs) if runs > 1 else None,
        "hides": _hides(inputs, base, seed, outcome),
        "scale": _scale(inputs, base, seed, pool),
        "inputs": [one.to_dict() for one in inputs.by_name.values()],
        "notes": list(inputs.notes),
    }
    return answer


def summary(s: Settings, outcome: Outcome) -> dict[str, Any]:
    """The figures of one simulated fleet."""
    spent = outcome.spent
    scheduled = sum(spent.values()) - spent["off"]
    shares = {way: spent[way] / scheduled if scheduled else 0.0 for way in WAYS if way != "off"}
    people = s.operators * s.operator_hours * s.days
    computers = s.trainers * DAY * s.days
    return {
        "episodes": outcome.collected,
        "arrived": outcome.arrived,
        "effective_per_day": outcome.rate,
        "effective_per_robot_day": outcome.rate / s.robots,
        "utilisation": shares["collecting"],
        "shares": shares,
        "interventions_per_day": outcome.helps / s.days,
        "help_wait_min": _waits(outcome.help_waits, 60.0),
        "operator_utilisation": outcome.helped_hours / people if people else None,
        "breakdowns": outcome.breakdowns,
        "trainings": outcome.trainings,
        "trainer_wait_h": _waits(outcome.trainer_waits, 1.0),
        "trainer_utilisation": outcome.trained_hours / computers if computers else None,
        "updates": outcome.updates,
        "upload_mbit_s": outcome.arrived * s.episode_size / (s.days * DAY * 3600) / 1e6,
        "daily": outcome.daily,
    }


def _check_size(s: Settings, runs: int) -> None:
    """Raise UserError where the fleet would have too many events."""
    stops = 1 / s.cycle * (s.needs_help + 1 / s.train_every) + (2 / s.mtbf if s.mtbf else 0) + 2 / s.hours
    sends = 1 / s.cycle / BATCH + stops if s.episode_size else 0
    events = s.robots * s.days * s.hours * (6 * stops + 2 * sends) * runs
    if events > MOST_EVENTS:
        raise UserError(
            f"{s.robots} robots for {s.days:g} days and {runs} runs are some {events:.0e} events "
            f"(at most {MOST_EVENTS:.0e}): ask for fewer days, robots or runs"
        )


def _waits(waits: Sequence[float], factor: float) -> dict[str, float | None]:
    if not waits:
        return {"mean": None, "p50": None, "p95": None, "max": None}
    values = np.asarray(waits) * factor
    p50, p95 = np.quantile(values, (0.5, 0.95))
    return {"mean": float(values.mean()), "p50": float(p50), "p95": float(p95), "max": float(values.max())}


def _likely(inputs: Inputs) -> dict[str, float]:
    return {name: one.spread.likely for name, one in inputs.by_name.items()}


def _spread(inputs: Inputs, base: Settings, seed: int, runs: int) -> Mapping[str, Any]:
    """Percentiles over runs that each draw the inputs from their ranges, and events of their own."""
    columns = {
        name: one.spread.ppf(np.random.default_rng([seed, *name.encode()]).random(runs))
        for name, one in inputs.by_name.items()
    }
    rows = []
    for k in range(runs):
        values = {name: float(column[k]) for name, column in columns.items()}
        drawn = settings(inputs, base.robots, base.days, base.pooled, values)
        rows.append(summary(drawn, simulate(drawn, seed + k)))
    names = ("episodes", "effective_per_day", "utilisation", "interventions_per_day")
    found = {}
    for name in names:
        low, middle, high = np.quantile([row[name] for row in rows], (0.1, 0.5, 0.9))
        found[name] = {"p10": float(low), "p50": float(middle), "p90": float(high)}
    return found


def _hides(inputs: Inputs, base: Settings, seed: int, outcome: Outcome) -> list[dict[str, Any]]:
    """What each factor that the assumptions leave out would cost by itself, and all together."""
    fleets = [
        (factor or "all", about, in_practice(inputs, factor), base.pooled)
        for factor, about in [*FACTORS.items(), (None, "all of it")]
    ]
    if not base.pooled:
        fleets.insert(0, ("standing", "if robots went on collecting while they train", inputs, True))
    rows = []
    for factor, about, changed, pooled in fleets:
        if changed is inputs and pooled == base.pooled:
            continue  # it is in already
        rate = simulate(settings(changed, base.robots, base.days, pooled, _likely(changed)), seed).rate
        lost = 1 - rate / outcome.rate if outcome.rate else None
        rows.append({"factor": factor, "about": about, "effective_per_day": rate, "lost": lost})
    return rows


def _scale(inputs: Inputs, base: Settings, seed: int, pool: bool | None) -> list[dict[str, Any]]:
    """Fleets of several sizes: as assumed, in practice, and in practice with as many people as they need."""
    changed = in_practice(inputs)
    values, likely = _likely(inputs), _likely(changed)
    rows = []
    for robots in sorted({*SIZES, base.robots}):
        days = min(base.days, LONG)
        pooled = robots > 1 if pool is None else pool
        assumed = simulate(settings(inputs, robots, days, pooled, values), seed)
        real = settings(changed, robots, days, pooled, likely)
        found = simulate(real, seed)
        brief = real if robots <= 100 else replace(real, days=min(base.days, SHORT))
        people = people_needed(brief, seed)
        enough = simulate(replace(brief, operators=people), seed)
        rows.append(
            {
                "robots": robots,
                "days": days,
                "effective_per_day": assumed.rate,
                "in_practice": found.rate,
                "operators": real.operators,
                "operators_needed": people,
                "with_operators_needed": enough.rate,
                "help_wait_min": _waits(enough.help_waits, 60.0)["mean"],
                "upload_mbit_s": summary(brief, enough)["upload_mbit_s"],
            }
        )
    return rows


def people_needed(s: Settings, seed: int) -> int:
    """People who would be busy for `BUSY` of their hours at most, if robots never queued for them."""
    free = simulate(replace(s, operators=0), seed)
    return max(1, math.ceil(free.helped_hours / (s.operator_hours * s.days * BUSY)))
