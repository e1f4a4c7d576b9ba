"""The cell: what its robots make in a year, what that costs by parts, and what it saves. Units are carried throughout.

Every quantity is of one value or of N draws. Formulas in words: docs/cost.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.costs.units import Quantity, least, quantity, total

STRATEGIES = ("demonstrations", "pretraining", "fleet")
"""Ways to teach a task: demonstrations alone, fewer on top of a pretrained policy, or the robots' own episodes."""

ONE_ITEM = quantity(1.0, "item/attempt")
ONE_FAILURE = quantity(1.0, "failure/attempt")
ONE_ROBOT = quantity(1.0, "robot")
ALL = quantity(1.0)
NO_MONEY = quantity(0.0, "USD")

Values = Mapping[str, Quantity]


@dataclass(frozen=True)
class Work:
    """What the cell does, per time."""

    open_time: Quantity
    """Working hours a year, as a part of the year."""
    capacity: Quantity
    """Successful items that all robots could make, per time."""
    attempts: Quantity
    failures: Quantity
    items: Quantity
    """Successful, no more than wanted."""
    busy: Quantity
    """Robots at work on average over the year, counted in robots."""
    helped: Quantity
    """People at work on average over the year because of failures and tending."""
    utilisation: Quantity
    robots_per_operator: Quantity


def success_rate(x: Values) -> Quantity:
    """Success in daily work: the benchmark's, less what is lost on the way."""
    found = x["success"] - x["success_loss"]
    return Quantity(np.maximum(found.value, 0.0))


def work(x: Values) -> Work:
    """Throughput of the cell. A robot stands while it waits for help and while it is broken."""
    success = success_rate(x)
    open_time = x["shifts"] * x["shift_hours"] * x["workdays"]
    available = x["mtbf"] / (x["mtbf"] + x["mttr"])
    need_help = (ALL - success) * x["help_share"] * ONE_FAILURE
    attempt_time = x["cycle_time"] + need_help * (x["help_time"] + x["help_wait"])
    per_robot = open_time * available / attempt_time / ONE_ROBOT
    capacity = per_robot * x["robots"] * success * ONE_ITEM
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = x["demand"] / (success * ONE_ITEM)
    attempts = least(
        per_robot * x["robots"], Quantity(np.nan_to_num(wanted.value, nan=np.inf), wanted.powers)
    )
    failures = attempts * (ALL - success) * ONE_FAILURE
    busy = attempts * attempt_time * ONE_ROBOT
    helped = failures * x["help_share"] * x["help_time"] + busy * x["tending"] / ONE_ROBOT
    attention = need_help * x["help_time"] / attempt_time + x["tending"]
    with np.errstate(divide="ignore"):
        robots_per_operator = x["operator_load"] / attention * ONE_ROBOT
    return Work(
        open_time=open_time,
        capacity=capacity,
        attempts=attempts,
        failures=failures,
        items=attempts * success * ONE_ITEM,
        busy=busy,
        helped=helped,
        utilisation=busy / (open_time * x["robots"]),
        robots_per_operator=robots_per_operator,
    )


def teaching(x: Values, strategy: str) -> dict[str, Quantity]:
    """The parts of teaching one task, in USD per task. Raises KeyError for an unknown strategy."""
    engineering = x["task_hours"] * x["engineer"]
    computing = x["training_hours"] * x["compute"]
    share = x["pretraining"] / x["pretraining_tasks"]
    fewer = x["demos"] / x["demos_factor"]
    own_episodes = fewer * x["fleet_equivalent"] * x["fleet_attention"] * x["wage"]
    nothing = engineering * 0.0
    data, shared = {
        "demonstrations": (x["demos"] * x["demo_time"] * x["wage"], nothing),
        "pretraining": (fewer * x["demo_time"] * x["wage"], share),
        "fleet": (own_episodes, share),
    }[strategy]
    return {"data": data, "pretraining": shared, "computing": computing, "engineering": engineering}


def teaching_time(x: Values, strategy: str) -> Quantity:
    """How long the data of one task take: a person's working time, or the robots' days, all of them together."""
    if strategy == "fleet":
        episodes = x["demos"] / x["demos_factor"] * x["fleet_equivalent"]
        return episodes / (x["fleet_episodes"] * x["robots"])
    return (x["demos"] if strategy == "demonstrations" else x["demos"] / x["demos_factor"]) * x["demo_time"]


@dataclass(frozen=True)
class Costs:
    """What the cell costs by parts: paid at the start, per time, and given back at the end (negative)."""

    once: Mapping[str, Quantity]
    yearly: Mapping[str, Quantity]
    end: Mapping[str, Quantity]


def costs(x: Values, did: Work, strategy: str, *, rented: bool = False) -> Costs:
    """Costs by part. A rented robot has no price, residual value, maintenance or repairs, but a rent."""
    robots = x["robots"]
    bought = {
        part: x[part] * robots
        for part in ("arm", "end_effector", "sensors", "computer", "fixtures", "safety")
    }
    hardware = total(bought)
    further = (robots - ONE_ROBOT) * x["integration_repeat"]
    once = {} if rented else dict(bought)
    once |= {
        "integration": x["integration_hours"] * x["engineer"] * (ALL + further),
        "installation": x["installation"] * robots,
        "teaching": total(teaching(x, strategy)) * x["tasks"],
    }
    running = did.busy / x["mtbf"]
    yearly = {
        "help": did.helped / x["operator_load"] * x["wage"],
        "scrap": did.failures / ONE_FAILURE * ONE_ITEM * x["scrap"] * x["material"],
        "energy": did.busy * x["power"] * x["energy"],
        "teaching": total(teaching(x, strategy)) * x["new_tasks"],
        "software": x["software"] * robots,
        "cloud": x["cloud"] * robots,
        "support": x["support"] * x["engineer"],
    }
    if rented:
        yearly["rent"] = x["rent"] * robots
        return Costs(once, yearly, {})
    yearly |= {"maintenance": hardware * x["maintenance"], "repair": running / ONE_ROBOT * x["repair"]}
    return Costs(once, yearly, {"residual": hardware * x["residual_value"] * -1.0})


VARIABLE = ("help", "scrap", "energy", "repair")
"""Yearly parts that grow with the items made; the others are paid in any case."""


def saving_per_item(x: Values) -> Quantity:
    """What one successful item is worth: the manual work and scrap that it saves, and what it brings besides."""
    return x["manual_time"] * x["wage"] + x["manual_scrap"] * x["material"] + x["revenue"]
