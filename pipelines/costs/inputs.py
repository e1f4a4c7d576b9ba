"""Inputs of the cost model: declared in `inputs.toml`, changed by a scenario file, by `--set`, or by measurements."""

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.costs.spread import SHAPES, Pert, Posterior, Spread
from pipelines.costs.units import COUNTED, Quantity, quantity, unit
from sim2real.errors import UserError, nearest
from sim2real.text import printable

GROUPS = {
    "bought": "Bought hardware",
    "integration": "Putting it in place",
    "people": "People",
    "tasks": "Teaching tasks",
    "work": "The work",
    "running": "Running",
    "money": "Money and time",
    "instead": "What it replaces",
}
"""Groups of inputs in the order of reading, with their titles."""


@dataclass(frozen=True)
class Input:
    """One input: a distribution in `unit`, and where its figures come from."""

    name: str
    about: str
    group: str
    unit: str
    spread: Spread
    source: str
    date: str
    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    whole: bool = False

    def __post_init__(self) -> None:
        for value in (self.spread.low, self.spread.likely, self.spread.high):
            self._check(value)
        if not self.spread.low <= self.spread.likely <= self.spread.high:
            raise UserError(
                f"{self.name}: low, most likely, high must rise, got {self.spread.low:g}, {self.spread.likely:g}, "
                f"{self.spread.high:g}"
            )
        if self.whole and not self.fixed:
            raise UserError(
                f"{self.name} is one whole number, got {self.spread.low:g} to {self.spread.high:g}"
            )

    def _check(self, value: float) -> None:
        shown = self.text
        if not math.isfinite(value):
            raise UserError(f"{self.name}: {value} is no number ({self.about}, in {self.unit})")
        if value < self.at_least or value <= self.above:
            low = (
                f"more than {shown(self.above)}"
                if math.isfinite(self.above)
                else f"at least {shown(self.at_least)}"
            )
            raise UserError(f"{self.name} must be {low}, got {shown(value)} ({self.about})")
        if value > self.at_most:
            hint = (
                f"; for {value:g} % write {value:g}% or {value / 100:g}"
                if self.is_share and value > 1.5
                else ""
            )
            raise UserError(
                f"{self.name} must be at most {shown(self.at_most)}, got {shown(value)} ({self.about}){hint}"
            )
        if self.whole and value != int(value):
            raise UserError(f"{self.name} must be a whole number, got {value:g} ({self.about})")

    def text(self, value: float) -> str:
        """A value with its unit, shares in percent."""
        if self.is_share:
            return f"{100 * value:.4g} %{self.unit.removeprefix('share')}"
        return f"{value:.6g} {self.unit.removeprefix('1')}".strip()

    @property
    def fixed(self) -> bool:
        return not isinstance(self.spread, Posterior) and self.spread.low == self.spread.high

    @property
    def is_share(self) -> bool:
        return self.unit.startswith("share")

    def quantity(self, u: NDArray[np.float64]) -> Quantity:
        """The input at the probabilities `u`, as a quantity."""
        return quantity(self.spread.ppf(u), self.unit)

    def to_dict(self) -> dict[str, Any]:
        spread = self.spread
        given: dict[str, Any] = {"low": spread.low, "likely": spread.likely, "high": spread.high}
        if isinstance(spread, Posterior):
            given |= {"successes": spread.successes, "trials": spread.trials}
        return {
            "name": self.name, **given, "unit": self.unit, "shape": spread.shape, "source": self.source,
            "date": self.date, "group": self.group, "about": self.about,
        }  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """All inputs by name. Unchanged ones have the values of `inputs.toml`."""

    by_name: Mapping[str, Input]
    title: str = ""
    notes: tuple[str, ...] = field(default=())
    listed_by: str = "sim2real cost --inputs"

    def __getitem__(self, name: str) -> Input:
        if name not in self.by_name:
            near = nearest(name, self.by_name)
            raise UserError(f"there is no input '{printable(name)}'{near} (`{self.listed_by}` lists them)")
        return self.by_name[name]

    def given(self, name: str, value: Any, source: str) -> "Inputs":
        """With another value of one input: a number in its unit, "0.5 min", "1:2:4", [low, likely, high], or a table of
        `low`, `likely`, `high` (or `value`), `unit`, `shape`, `source`, `date`.

        Raises UserError for an unknown name, a value that makes no sense, or a unit of something else.
        """
        old = self[name]
        return self._with(_changed(old, value, source))

    def measured(self, name: str, spread: Spread, source: str, on: str) -> "Inputs":
        """With one input as it was measured, in its own unit."""
        return self._with(replace(self[name], spread=spread, source=source, date=on))

    def noting(self, *notes: str) -> "Inputs":
        return replace(self, notes=(*self.notes, *notes))

    def _with(self, changed: Input) -> "Inputs":
        return replace(self, by_name={**self.by_name, changed.name: changed})

    def varying(self) -> tuple[Input, ...]:
        """Those with a spread, in the order of declaration."""
        return tuple(one for one in self.by_name.values() if not one.fixed)

    def draws(self, count: int, seed: int) -> dict[str, Quantity]:
        """`count` draws of every input. An input's draws depend on the seed and its name alone."""
        found = {}
        for name, one in self.by_name.items():
            rng = np.random.default_rng([seed, *name.encode()])
            found[name] = one.quantity(rng.random(count))
        return found

    def medians(self) -> dict[str, float]:
        return {name: float(one.spread.ppf(np.array(0.5))) for name, one in self.by_name.items()}


@cache
def default_inputs() -> Inputs:
    """The inputs as declared."""
    text = (Path(__file__).parent / "inputs.toml").read_text(encoding="utf-8")
    return declared(tomllib.loads(text), "sim2real cost --inputs")


def declared(table: Mapping[str, dict[str, Any]], listed_by: str) -> Inputs:
    """Inputs from a table of declarations, a row each, as in `inputs.toml`."""
    found = {}
    for name, row in table.items():
        low, likely, high = row["values"]
        spread = SHAPES[row.get("shape", "pert")](low, likely, high)
        rest = {key: value for key, value in row.items() if key not in ("values", "shape")}
        found[name] = Input(name=name, spread=spread, **rest)
    return Inputs(found, listed_by=listed_by)


def read_scenario(path: str | Path, inputs: Inputs) -> Inputs:
    """The inputs with those that a scenario file gives: TOML with `title` and a table `[inputs]`.

    Raises UserError for a file that cannot be read, unknown names and values that make no sense.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the scenario {path}: {error}") from None
    for key in table:
        if key not in ("title", "inputs"):
            where = "; inputs stand in the table [inputs]" if key in inputs.by_name else ""
            raise UserError(
                f"{path}: unknown key '{printable(key)}'{where or nearest(key, ('title', 'inputs'))}"
            )
    title, given = table.get("title", ""), table.get("inputs", {})
    if not isinstance(title, str) or not isinstance(given, dict):
        raise UserError(f"{path}: title is a text and [inputs] a table, see `{inputs.listed_by}`")
    for name, value in given.items():
        try:
            inputs = inputs.given(name, value, source=f"{path.name}")
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    return replace(inputs, title=title)


def with_given(inputs: Inputs, scenario: str | Path | Mapping[str, Any] | None) -> Inputs:
    """The inputs with those of a scenario: a file, or values by name."""
    if isinstance(scenario, Mapping):
        for name, value in scenario.items():
            inputs = inputs.given(name, value, "given")
        return inputs
    return inputs if scenario is None else read_scenario(scenario, inputs)


def check_together(inputs: Inputs) -> Inputs:
    """The inputs; UserError where inputs that are each possible are not so together."""
    hours = inputs["shifts"].spread.high * inputs["shift_hours"].spread.high
    if hours > 24:
        raise UserError(
            f"shifts and shift_hours make up to {hours:g} hours a day; a day has 24: lower one of them"
        )
    return inputs


def parse_setting(text: str) -> tuple[str, str]:
    """Name and value of `--set NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise UserError(
            f"--set takes NAME=VALUE, for example cycle_time=12 or success=0.8:0.9:0.95, got '{text}'"
        )
    return name.strip(), value.strip()


_TABLE = ("low", "likely", "high", "value", "unit", "shape", "source", "date")


def _changed(old: Input, value: Any, source: str) -> Input:
    table: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {"value": value}
    for key in table:
        if key not in _TABLE:
            raise UserError(f"{old.name}: unknown key '{printable(key)}'{nearest(str(key), _TABLE)}")
    if "value" in table:
        if {"low", "likely", "high"} & table.keys():
            raise UserError(f"{old.name}: give either value, or low, likely and high")
        three = _three(old, table["value"])
    else:
        missing = [key for key in ("low", "likely", "high") if key not in table]
        if missing:
            raise UserError(
                f"{old.name}: {', '.join(missing)} is missing beside {', '.join(table) or 'nothing'}"
            )
        three = [table[key] for key in ("low", "likely", "high")]
    low, likely, high = (_number(old, one, table.get("unit")) for one in three)
    shape = str(table.get("shape", old.spread.shape))
    if shape not in SHAPES and not (shape == "posterior" and "shape" not in table):
        raise UserError(
            f"{old.name}: unknown shape '{printable(shape)}'{nearest(shape, SHAPES)}: {', '.join(SHAPES)}"
        )
    spread = SHAPES.get(shape, Pert)(low, likely, high)
    when = str(table.get("date", date.today().isoformat()))
    return replace(old, spread=spread, source=printable(table.get("source", source)), date=printable(when))


def _three(old: Input, value: Any) -> Iterable[Any]:
    if isinstance(value, str) and ":" in value:
        value = value.split(":")
        _, last = _split(old, value[-1])
        value = [
            one if _split(old, one)[1] else f"{one} {last}" for one in value
        ]  # a unit at the end is that of all
    if isinstance(value, (list, tuple)):
        if len(value) != 3:
            raise UserError(f"{old.name}: give one value or three (low, most likely, high), got {len(value)}")
        return value
    return (value, value, value)


def _number(old: Input, value: Any, given_unit: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise UserError(f"{old.name}: a number is needed, got {printable(value)!r}")
    if isinstance(value, str):
        number, own = _split(old, value)
        given_unit = own or given_unit
    else:
        number = float(value)
    if given_unit is None:
        return number
    if given_unit == "%" and old.is_share:
        return number / 100
    factor, powers = unit(str(given_unit))
    wanted_factor, wanted = unit(old.unit)
    if powers != wanted and powers != tuple((b, p) for b, p in wanted if b not in COUNTED):
        raise UserError(
            f"{old.name} is measured in {old.unit}, which '{printable(given_unit)}' is not ({old.about})"
        )
    return number * factor / wanted_factor


def _split(old: Input, text: str) -> tuple[float, str]:
    """A number and the unit after it, if any."""
    found = re.fullmatch(r"\s*([-+]?(?:nan|inf|[\d.]+(?:e[-+]?\d+)?))\s*([^\d\s.].*)?", text, re.I)
    try:
        if found is None:
            raise ValueError
        return float(found[1]), (found[2] or "").strip()
    except ValueError:
        raise UserError(
            f"{old.name}: '{printable(text)}' is no number; write for example {old.spread.likely:g} ({old.unit})"
        ) from None
