"""How well sensitivity analysis finds what is known: Ishigami's indices and planted causes.

    python benchmarks/sensitivity.py

Prints, for Ishigami's function (a = 7, b = 0.1), the largest error of the first-order and total indices over ten
seeds, from pick-freeze designs of 4,096 base samples and from plain draws; and for sweeps in which one parameter
of 200 decides success, how often it comes out first, and how many innocent ones are called significant.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from randomization.designs import load_design, saltelli_draws
from randomization.sensitivity import first_order, pick_freeze
from randomization.surrogate import fit_surrogate

NAMES = ["x1", "x2", "x3"]
V1, V2, V13 = (1 + 0.1 * np.pi**4 / 5) ** 2 / 2, 49 / 8, 0.01 * np.pi**8 * (1 / 18 - 1 / 50)
V = V1 + V2 + V13
FIRST = dict(zip(NAMES, (V1 / V, V2 / V, 0.0)))
TOTAL = dict(zip(NAMES, ((V1 + V13) / V, V2 / V, V13 / V)))
SEEDS = range(10)


def ishigami(u: np.ndarray) -> np.ndarray:
    x = np.pi * (2 * u - 1)
    return np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])


def pick_freeze_errors() -> tuple[float, float]:
    first = total = 0.0
    for seed in SEEDS:
        points = load_design("saltelli").points(saltelli_draws(4096, 3), 3, seed)
        for found in pick_freeze(ishigami(points), NAMES, resamples=2):
            first = max(first, abs(found.first - FIRST[found.name]))
            total = max(total, abs(found.total - TOTAL[found.name]))
    return first, total


def plain_errors(design: str, draws: int) -> tuple[float, float]:
    first = total = 0.0
    for seed in SEEDS:
        points = load_design(design).points(draws, 3, seed)
        y = ishigami(points)
        first = max(
            first, *(abs(e.index - FIRST[e.name]) for e in first_order(points, y, NAMES, resamples=2))
        )
        totals = fit_surrogate(points, y, NAMES, resamples=2).totals
        total = max(total, *(abs(t.total - TOTAL[t.name]) for t in totals))
    return first, total


def planted(draws: int, parameters: int, seeds: int) -> tuple[int, int, float]:
    """One parameter lowers success from 95 to 60 % in the upper 30 % of its range."""
    first = alarms = 0
    begin = time.perf_counter()
    names = [str(i) for i in range(parameters)]
    for seed in range(seeds):
        points = load_design("sobol").points(draws, parameters, seed)
        cause = (37 * seed) % parameters
        chance = np.where(points[:, cause] > 0.7, 0.6, 0.95)
        success = np.random.default_rng(seed).random(draws) < chance
        effects = first_order(points, success, names)
        first += effects[0].name == str(cause)
        alarms += sum(e.significant and e.name != str(cause) for e in effects)
    return first, alarms, (time.perf_counter() - begin) / seeds


def main() -> None:
    first, total = pick_freeze_errors()
    print(f"Ishigami, saltelli, 4096 base samples: largest error first {first:.4f}, total {total:.4f}")
    for design in ("sobol", "lhs", "independent"):
        for draws in (1024, 4096):
            first, total = plain_errors(design, draws)
            print(f"Ishigami, {design}, {draws} draws: largest error first {first:.4f}, total {total:.4f}")
    for draws in (256, 512, 1024):
        right, alarms, seconds = planted(draws, 200, 20)
        print(
            f"planted cause among 200, {draws} draws: first in {right} of 20 seeds, {alarms} false alarms in all, "
            f"{seconds:.2f} s each"
        )


if __name__ == "__main__":
    main()
