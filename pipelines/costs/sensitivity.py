"""Which inputs decide: tornado (one at a time) and Sobol indices (all at once, shares of the variance)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.costs.inputs import Inputs
from pipelines.costs.units import Quantity, quantity

Array = NDArray[np.float64]
Model = Callable[[Mapping[str, Quantity]], tuple[Array, ...]]

SOBOL_POINTS = 1024
"""Base points; (inputs + 2) times as many evaluations. Indices are then good to some hundredths."""


@dataclass(frozen=True)
class Swing:
    """What an output is when one input alone has its 10th or 90th percentile, all others their medians."""

    name: str
    low: float
    high: float
    at_low: float
    at_high: float

    @property
    def swing(self) -> float:
        return abs(self.at_high - self.at_low)


@dataclass(frozen=True)
class Index:
    """Share of the variance that an input explains alone (`first`), and with all its interactions (`total`)."""

    name: str
    first: float
    total: float


def tornado(inputs: Inputs, model: Model) -> tuple[list[Swing], ...]:
    """One list per output of the model, the largest swing first."""
    varying, medians = inputs.varying(), inputs.medians()
    columns = {name: np.full(max(2 * len(varying), 1), value) for name, value in medians.items()}
    ends = [one.spread.ppf(np.array([0.1, 0.9])) for one in varying]
    for k, (one, pair) in enumerate(zip(varying, ends)):
        columns[one.name][2 * k : 2 * k + 2] = pair
    outputs = model({name: quantity(column, inputs[name].unit) for name, column in columns.items()})
    found = []
    for output in outputs:
        swings = [
            Swing(one.name, float(pair[0]), float(pair[1]), float(output[2 * k]), float(output[2 * k + 1]))
            for k, (one, pair) in enumerate(zip(varying, ends))
        ]
        found.append(sorted(swings, key=lambda one: one.swing, reverse=True))
    return tuple(found)


def sobol(inputs: Inputs, model: Model, seed: int) -> tuple[list[Index], ...]:
    """One list per output of the model, the largest total index first; empty where nothing varies."""
    from scipy.stats import sobol_indices

    varying, medians = inputs.varying(), inputs.medians()
    fixed = {
        name: quantity(value, inputs[name].unit)
        for name, value in medians.items()
        if name not in {one.name for one in varying}
    }

    def outputs(x: Array) -> Array:
        given = {one.name: quantity(column, one.unit) for one, column in zip(varying, x)}
        return np.stack(model({**fixed, **given}))

    if len(varying) < 2:
        return tuple(
            [Index(one.name, 1.0, 1.0) for one in varying] for _ in model({**fixed, **inputs.draws(1, seed)})
        )
    found = sobol_indices(
        func=outputs, n=SOBOL_POINTS, dists=[one.spread for one in varying], rng=np.random.default_rng(seed)
    )
    lists = []
    for first, whole in zip(np.atleast_2d(found.first_order), np.atleast_2d(found.total_order)):
        indices = [Index(one.name, float(f), float(t)) for one, f, t in zip(varying, first, whole)]
        lists.append(sorted(indices, key=lambda one: one.total, reverse=True))
    return tuple(lists)
