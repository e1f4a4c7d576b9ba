"""Measuring a policy in simulation: success on draws that it was not trained on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.sweeps.plan import SweepPlan
from pipelines.sweeps.several import Several, numbered
from randomization.progress import progress_bar
from randomization.sweep import HOPELESS, hopeless
from randomization.workers import POLICY_FAULT, Factory, Outcome, run_draws
from sim2real.parameters import Draw
from sim2real.statistics import wilson_interval


def evaluate(plan: SweepPlan, *, workers: int, progress: bool = True) -> dict[str, Any]:
    """Run the plan's policy on its draws and count.

    Returns `draws`, `successes`, `success_rate`, `wilson_95` (low, high), `stages` (how many episodes ended in
    each), `mean_seconds` of the successful episodes, `errors` (episodes that could not be finished, counted as
    failures) with their `error_messages`, `policy_faults` (what the policy did instead of giving actions, and in how
    many episodes) and `failures` (indices of the failed draws). The result does not depend on `workers`;
    0 runs in this process. Raises UserError for a policy or space that does not fit.
    """
    return summary(_outcomes(plan.factory, plan.make_draws(plan.bind())[0], workers, progress))


def evaluate_several(
    plans: Mapping[str, SweepPlan], *, workers: int, block: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """`evaluate` on several tasks by name, with as many draws of each; `block` draws of one in a row.

    "per_task" says successes and draws of each; "failures" are numbered as by `several.numbered`.
    """
    factory = Several(tuple(plans), tuple(plan.factory for plan in plans.values()))
    draws = numbered({name: plan.make_draws(plan.bind())[0] for name, plan in plans.items()}, block=block)
    outcomes = _outcomes(factory, draws, workers, progress)
    counts: dict[str, list[int]] = {name: [0, 0] for name in plans}
    for outcome in outcomes:
        count = counts[list(plans)[outcome.draw.index % len(plans)]]
        count[0] += bool(outcome.row.get("success"))
        count[1] += 1
    return summary(outcomes) | {"per_task": counts}


def _outcomes(factory: Factory, draws: Sequence[Draw], workers: int, progress: bool) -> list[Outcome]:
    """Of all draws, in their order. Raises Sim2RealError where the first ones all end in errors."""
    engine = run_draws(factory, draws, workers)
    outcomes: list[Outcome] = []
    with progress_bar(len(draws), "evaluate", "episode", shown=progress) as bar:
        successes = 0
        for outcome in engine:
            outcomes.append(outcome)
            successes += bool(outcome.row.get("success"))
            if (
                outcome.error
                and len(outcomes) >= min(HOPELESS, len(draws))
                and all(o.error for o in outcomes)
            ):
                raise hopeless(len(outcomes), outcome)
            bar.set_postfix_str(f"success {successes / len(outcomes):.1%}", refresh=False)
            bar.update()
    return sorted(outcomes, key=lambda outcome: outcome.draw.index)


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """The counts that `evaluate` returns, from outcomes in the order of their draws."""
    won = [outcome for outcome in outcomes if outcome.row.get("success")]
    faults = Counter(str(fault) for outcome in outcomes if (fault := outcome.row.get(POLICY_FAULT)))
    seconds = [float(outcome.row["seconds"]) for outcome in won]
    low, high = wilson_interval(len(won), len(outcomes))
    return {
        "draws": len(outcomes),
        "successes": len(won),
        "success_rate": len(won) / len(outcomes),
        "wilson_95": [low, high],
        "stages": dict(Counter(str(o.row.get("stage", "error")) for o in outcomes).most_common()),
        "mean_seconds": float(np.mean(seconds)) if seconds else None,
        "errors": sum(bool(outcome.error) for outcome in outcomes),
        "error_messages": dict(Counter(o.error for o in outcomes if o.error).most_common()),
        "policy_faults": dict(faults.most_common()),
        "failures": [outcome.draw.index for outcome in outcomes if not outcome.row.get("success")],
    }


def faults_text(faults: Mapping[str, int]) -> list[str]:
    """Lines on what a policy did wrong; none when it did nothing."""
    lines = [f"  {count:5} {fault}" for fault, count in list(faults.items())[:5]]
    return ["episodes in which the policy was at fault:", *lines] if lines else []
