"""What a simulated fleet is made of: the inputs, and the plain numbers that the events need."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.costs.inputs import Inputs, declared
from pipelines.costs.spread import Pert
from pipelines.costs.units import quantity

GROUPS = {
    "collecting": "Collecting",
    "help": "Failures and people",
    "breakdowns": "Breakdowns",
    "training": "Training",
    "network": "Network",
}
"""Groups of inputs with their titles."""

FACTORS = {
    "help": "failures that wait for a person, who goes home at night",
    "breakdowns": "robots that break",
    "training": "one computer for all trainings",
    "network": "data that take time to arrive",
    "collecting": "episodes that teach nothing",
}
"""What the brief's assumptions leave out, by the group of inputs that brings it in."""


@cache
def _table() -> dict[str, dict[str, Any]]:
    text = (Path(__file__).parent / "inputs.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def default_inputs() -> Inputs:
    """The assumptions of the project brief."""
    kept = ("practice", "practice_source")
    rows = {
        name: {key: value for key, value in row.items() if key not in kept} for name, row in _table().items()
    }
    return declared(rows, "sim2real fleet simulate --inputs")


def in_practice(inputs: Inputs, factor: str | None = None) -> Inputs:
    """With what the brief leaves out: one factor of `FACTORS`, or all; inputs that were changed stay as they are."""
    original = default_inputs()
    for name, row in _table().items():
        if "practice" in row and factor in (None, row["group"]) and inputs[name] == original[name]:
            value = float(row["practice"])
            inputs = inputs.measured(name, Pert(value, value, value), row["practice_source"], row["date"])
    return inputs


def practice_of(name: str) -> float | None:
    """What an input is in practice, where the brief leaves it out."""
    value = _table()[name].get("practice")
    return None if value is None else float(value)


@dataclass(frozen=True)
class Settings:
    """A fleet in numbers; times in hours, data in bits. A count of people or computers that is 0 stands for enough."""

    robots: int
    days: float
    pooled: bool
    cycle: float
    """Of one episode, the pauses between episodes included."""
    hours: float
    """Of a day, in which robots work."""
    unusable: float
    needs_help: float
    """Probability that a person must come after an episode."""
    help_time: float
    operators: int
    operator_hours: float
    mtbf: float
    mttr: float
    spare_time: float
    technicians: int
    train_every: float
    training_time: float
    trainers: int
    update_time: float
    """Of one robot and update."""
    episode_size: float
    link: float
    hub_link: float

    def with_robots(self, robots: int, days: float, pooled: bool) -> "Settings":
        return replace(self, robots=robots, days=days, pooled=pooled)


def settings(inputs: Inputs, robots: int, days: float, pooled: bool, values: Mapping[str, float]) -> Settings:
    """Plain numbers of `values`, one for each input in its own unit."""

    def hours(name: str, count: str = "") -> float:
        return float(quantity(values[name], inputs[name].unit).to("h" + count))

    return Settings(
        robots=robots,
        days=days,
        pooled=pooled,
        cycle=values["hours"] / values["episodes_per_day"],
        hours=values["hours"],
        unusable=values["unusable"],
        needs_help=(1.0 - values["success"]) * values["help_share"],
        help_time=hours("help_time", "/failure"),
        operators=int(values["operators"]),
        operator_hours=values["operator_hours"],
        mtbf=values["mtbf"],
        mttr=values["mttr"],
        spare_time=values["spare_time"],
        technicians=int(values["technicians"]),
        train_every=values["train_every"],
        training_time=hours("training_time"),
        trainers=int(values["trainers"]),
        update_time=values["update_loss"] * hours("training_time"),
        episode_size=float(quantity(values["episode_size"], "MB").to("bit")),
        link=float(quantity(values["link"], "Mbit/s").to("bit/h")),
        hub_link=float(quantity(values["hub_link"], "Mbit/s").to("bit/h")),
    )
