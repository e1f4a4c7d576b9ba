"""Automatic ranges in the simulated world: `sim2real ranges`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.reports import figures as draw
from pipelines.reports.page import Section
from pipelines.sweeps.plan import SweepPlan, provenance
from randomization.adaptive import Adaptation, maximize_entropy, widen_ranges
from randomization.distributions import Beta, LogBeta
from randomization.space import BoundSpace
from randomization.sweep import read_json, write_text
from randomization.workers import run_here, run_local
from sim2real.errors import Sim2RealError, UserError
from sim2real.parameters import Draw

_MARGIN = 0.1
"""ADR widens from this much above the wanted success rate and narrows from this much below."""


def find_ranges(
    plan: SweepPlan, patterns: Sequence[str], out: Path, *, method: str, success: float, workers: int
) -> dict[str, Any]:
    """Adapt the columns that match `patterns`; writes space.toml, ranges.json and config.json to `out`.

    Raises UserError when a pattern is no column of the plan's space, or there are too few draws for one iteration.
    """
    from tqdm import tqdm

    if not 0 < success < 1:
        raise UserError(f"--success must lie between 0 and 1, got {success}")
    bound = plan.bind()
    columns = sorted({j for pattern in patterns for j in bound.columns_matching(pattern)})
    interval = 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(total=plan.draws, unit="draw", desc="ranges", mininterval=interval, file=sys.stderr) as bar:

        def run(draws: Sequence[Draw]) -> list[bool]:
            engine = (
                run_here(plan.factory, draws) if workers == 0 else run_local(plan.factory, draws, workers)
            )
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
            batch = 12
            least = 2 * len(columns) * batch
            _check(plan.draws, least, len(columns))
            found = widen_ranges(
                bound, run, columns=columns, low=max(0.0, success - _MARGIN), high=min(1.0, success + _MARGIN),
                batch=batch, draws=plan.draws, seed=plan.seed,
            )  # fmt: skip
        else:
            batch = max(50, min(250, plan.draws // 8))
            _check(plan.draws, batch, len(columns))
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
    settings = {"task": plan.task, "robot": plan.robot}
    config = provenance("ranges") | {"seed": plan.seed, "policy": plan.policy, "settings": settings}
    write_text(out / "config.json", json.dumps(config, indent=2) + "\n")
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


def sections(directory: Path) -> list[Section]:
    """The report of a run of `sim2real ranges`."""
    answer = read_json(directory / "ranges.json")
    history, names = answer["history"], list(answer["ranges"])
    section = Section("Ranges that the policy can bear")
    section.text(
        f"Found with {answer['draws']} episodes by "
        + ("automatic domain randomization" if answer["method"] == "adr" else "maximum entropy (DORAEMON)")
        + f", to keep a success rate of {answer['wanted_success']:.0%}."
    )
    section.table(
        [
            {
                "parameter": name,
                "from": answer["ranges"][name][0],
                "to": answer["ranges"][name][1],
                "unit": answer["units"][name].removeprefix("1"),
                "outer limits": " … ".join(f"{v:.4g}" for v in answer["outer"][name]),
            }
            for name in names
        ]
    )
    task = read_json(directory / "config.json")["settings"]["task"]
    section.code(f"sim2real pretrain --task {task} --space {directory / 'space.toml'} --out runs/wider")
    progress = Section("How it went")
    draws = [row["draws"] for row in history]
    rate = [row["success"] for row in history]
    progress.figure(
        draw.lines(draws, [("success", rate)], x_label="episodes", y_label="success rate", height=2.0),
        "Success rate over episodes",
        "Success in each iteration"
        + (", in which parameters are held at the ends under test." if answer["method"] == "adr" else "."),
    )
    shown = names[:12]
    with draw.Canvas(
        9.4, 1.6 * -(-len(shown) // 2) + 0.3, -(-len(shown) // 2), 2, sharex=True, sharey=True
    ) as c:
        for ax, name in zip(c.axes, shown):
            ends = np.array([row["ranges"][name] for row in history])
            ax.fill_between(draws, ends[:, 0], ends[:, 1], color=draw.ACCENT, alpha=0.3, lw=0)
            ax.set_title(name)
            ax.set_ylim(0, 1)
            ax.set_ylabel("of outer range")
            ax.set_xlabel("episodes")
            ax.label_outer()
        for ax in c.axes[len(shown) :]:
            ax.set_visible(False)
    progress.figure(
        c.uri,
        "Ranges over episodes",
        "Each range as a part of its outer limits (for logarithmic ones in the logarithm)"
        + ("." if answer["method"] == "adr" else "; the central 90 % of the distribution."),
    )
    return [section, progress]
