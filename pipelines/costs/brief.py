"""Figures of the project brief, computed again with their units."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.costs.units import Quantity, quantity, unit


@dataclass(frozen=True)
class Figure:
    """A statement, the figure that was given with it, and how it is computed."""

    name: str
    statement: str
    given: float
    given_unit: str
    compute: Callable[[], Quantity]
    unit: str

    @property
    def computed(self) -> float:
        return float(self.compute().to(self.unit))

    @property
    def agrees(self) -> bool:
        """Within the digits in which such figures are given."""
        given = self.given * unit(self.given_unit)[0] / unit(self.unit)[0]
        return abs(self.computed - given) <= 0.015 * abs(self.computed)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "statement": self.statement, "given": self.given, "given_unit": self.given_unit,
            "computed": self.computed, "unit": self.unit, "agrees": self.agrees,
        }  # fmt: skip


def _cost_per_item() -> Quantity:
    return quantity(91_000, "USD") / (quantity(50, "item/workday") * quantity(250, "workday"))


def _bandwidth() -> Quantity:
    return quantity(100, "robot") * quantity(10, "GB/robot/week")


def _half_a_point() -> Quantity:
    return quantity(0.5, "%") * quantity(2500, "item")


def _lone_robot() -> Quantity:
    return quantity(100, "episode") / (quantity(1, "day") + quantity(2, "day"))


def _pooled_robots() -> Quantity:
    lost = quantity(5, "%")
    return quantity(10, "robot") * quantity(100, "episode/robot/day") * (1 - lost)


FIGURES = (
    Figure(
        "cost_per_item", "91,000 dollars over 50 items a day on 250 days",
        73.0, "USD/item", _cost_per_item, "USD/item",
    ),
    Figure(
        "fleet_bandwidth", "100 robots that send 10 GB a week each, spread evenly",
        1.3, "Gbit/s", _bandwidth, "Mbit/s",
    ),
    Figure("half_a_point", "half a point of success on 2,500 items", 1250.0, "item", _half_a_point, "item"),
    Figure(
        "lone_robot", "a robot that collects 100 grasps in a day and trains two days after every 100",
        33.0, "episode/day", _lone_robot, "episode/day",
    ),
    Figure(
        "pooled_robots", "ten robots at 100 grasps a day that pool their data and lose 5 % to updates",
        950.0, "episode/day", _pooled_robots, "episode/day",
    ),
)  # fmt: skip
