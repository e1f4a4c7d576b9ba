"""What of a failed draw is to blame: `sim2real sweep --explain ROW`."""

import json
from pathlib import Path
from typing import Any

from pipelines.sweeps.plan import failed_draws, plan_of, recorded_draw, refuse_code
from randomization.progress import progress_bar
from sim2real.errors import UserError, listed
from sim2real.parameters import Draw


def explain_draw(
    directory: Path,
    index: int | None = None,
    progress: bool = True,
    *,
    trusted_task: str | None = None,
    trusted_policy: str | None = None,
) -> dict[str, Any]:
    """Strip failed draw `index` of the sweep in `directory`, or the first that failed, to the smallest change from
    nominal that still fails.

    Writes `explain-INDEX.json`, which the sweep's report shows from then on. Raises UserError for a draw that is
    missing or did not fail; `trusted_…` as in `refuse_code`.
    """
    from randomization.minimal import minimal_failure
    from sim2real.files import write_text

    plan = plan_of(directory, task=trusted_task)
    refuse_code(directory, "policy", plan.policy, trusted_policy)
    failed = failed_draws(directory)
    if index is None and not failed:
        raise UserError("every draw of this sweep succeeded, so there is nothing to explain")
    index = failed[0] if index is None else index
    draw, row = recorded_draw(directory, plan, index)
    if row["success"]:
        others = f"these failed: {listed(failed)}" if failed else "none of this sweep failed"
        raise UserError(f"draw {index} succeeded, so there is nothing to explain; {others}")
    bound = plan.bind()
    span = {name: bound.range(name) for name in bound.names if not name.startswith("task.")}
    nominal = {name: bound.parameters[name].nominal for name in span}
    # Least unusual first: those are likely innocent, so large groups of them go at once.
    order = sorted(
        nominal, key=lambda n: abs(draw.values[n] - nominal[n]) / ((span[n][1] - span[n][0]) or 1.0)
    )
    rollout = plan.factory()
    with progress_bar(None, "explain", "episode", shown=progress, leave=True) as bar:

        def fails(candidate: Draw) -> bool:
            bar.update()
            return not rollout(candidate)["success"]

        found = minimal_failure(fails, draw, {name: nominal[name] for name in order})
    units = {name: bound.parameters[name].unit for name in found.changes}
    answer = found.to_dict() | {"failure": row["failure"], "units": units}
    path = directory / f"explain-{index}.json"
    write_text(path, json.dumps(answer, indent=2) + "\n")
    return answer | {"path": str(path)}
