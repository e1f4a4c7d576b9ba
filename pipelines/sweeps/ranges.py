"""Automatic ranges in the simulated world: `sim2real ranges`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.runs import claim, described
from pipelines.sweeps.plan import SweepPlan
from randomization.adaptive import Adaptation, check_adaptable, maximize_entropy, widen_ranges
from randomization.distributions import Beta, LogBeta
from randomization.progress import progress_bar
from randomization.space import BoundSpace
from randomization.workers import run_draws
from sim2real.errors import Sim2RealError, UserError
from sim2real.files import write_text
from sim2real.parameters import Draw

_MARGIN = 0.1
"""ADR widens from this much above the wanted success rate and narrows from this much below."""


def find_ranges(
    plan: SweepPlan, patterns: Sequence[str], out: Path, *, method: str, success: float, workers: int
) -> dict[str, Any]:
    """Adapt the columns that match `patterns`; writes space.toml, ranges.json and config.json to `out`.

    Raises UserError when a pattern is no column of the plan's space, or there are too few draws for one iteration.
    """
    if not 0 < success < 1:
        raise UserError(f"--success must lie between 0 and 1, got {success}")
    bound = plan.bind()
    columns = check_adaptable(
        bound, sorted({j for pattern in patterns for j in bound.columns_matching(pattern)})
    )
    batch = 12 if method == "adr" else max(50, min(250, plan.draws // 8))
    _check(plan.draws, 2 * len(columns) * batch if method == "adr" else batch, len(columns))
    settings = {"task": plan.task, "robot": plan.robot}
    asked = {"patterns": list(patterns), "method": method, "success": success, "draws": plan.draws}
    config = described("ranges", seed=plan.seed, settings=settings, identity=plan.identity(bound) | asked)
    claim(out, config | {"policy": plan.policy})
    with progress_bar(plan.draws, "ranges", "draw", leave=True) as bar:

        def run(draws: Sequence[Draw]) -> list[bool]:
            engine = run_draws(plan.factory, draws, workers)
            won = {}
            errors = []
            for outcome in engine:
                won[outcome.draw.index] = bool(outcome.row.get("success"))
                errors += [outcome] if outcome.error else []
                bar.update()
            if len(errors) == len(draws):
                raise Sim2RealError(f"no episode could be run: {errors[0].error}\n{errors[0].detail}")
            return [won[d.index] for d in draws]

        if method == "adr":
            found = widen_ranges(
                bound, run, columns=columns, low=max(0.0, success - _MARGIN), high=min(1.0, success + _MARGIN),
                batch=batch, draws=plan.draws, seed=plan.seed,
            )  # fmt: skip
        else:
            found = maximize_entropy(
                bound, run, columns=columns, success=success, batch=batch, draws=plan.draws, seed=plan.seed
            )
    return _write(found, plan, out, method, success)


def _check(draws: int, least: int, columns: int) -> None:
    if draws < least:
        raise UserError(f"{columns} parameters take at least {least} draws for one iteration, got {draws}")


def _write(found: Adaptation, plan: SweepPlan, out: Path, method: str, success: float) -> dict[str, Any]:
    bound, adapted = plan.bind(), found.space.bind(plan.bind().parameters)
    targets = {column.name: column.targets[0] for column in bound.columns if column.name in found.columns}
    out.mkdir(parents=True, exist_ok=True)
    path = out / "space.toml"
    found.space.save(
        path, about=f"ranges of {plan.task} for {plan.policy} at {success:.0%} success, by {method}"
    )
    answer = {
        "method": method,
        "wanted_success": success,
        "draws": found.history[-1]["draws"],
        "ranges": {name: _central(adapted, name) for name in targets},
        "outer": {name: list(bound.range(target)) for name, target in targets.items()},
        "units": {name: bound.parameters[target].unit for name, target in targets.items()},
        "history": found.history,
        "space": str(path),
    }
    write_text(out / "ranges.json", json.dumps(answer, indent=2) + "\n")
    return answer


def _central(bound: BoundSpace, name: str) -> list[float]:
    """Ends of a column's range in absolute values; of its central 90 % where it has tails."""
    if name not in bound.column_names:
        # Collapsed to a point.
        return list(bound.range(name))
    column = bound.columns[bound.column_names.index(name)]
    distribution = column.variation.distribution
    tails = isinstance(distribution, (Beta, LogBeta))
    ends = distribution.ppf([0.05, 0.95]) if tails else distribution.support
    nominal = bound.parameters[column.targets[0]].nominal
    return sorted(column.variation.apply(float(v), nominal) for v in ends)
