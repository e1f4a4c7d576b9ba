"""`transfer`: what policies are worth on arms that are not the simulation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.sweeps.inputs import RobotLike, TaskLike, robot_name, task_name
from pipelines.transfers.run import Clock


@dataclass(frozen=True, repr=False)
class Transfer:
    """What a transfer run found. `result` is all of transfer.json as plain values."""

    out: Path
    result: Mapping[str, Any] = field(repr=False)
    task: str
    realities: tuple[str, ...]
    methods: tuple[str, ...]
    success: Mapping[str, float | None]
    """By method the mean success over the realities, each counting the same; None where nothing counted."""
    gap_closed: float | None
    """(fine-tuned − zero-shot) / (oracle − zero-shot); None without all three, or without a gap."""
    pearson: float | None
    """Correlation of success in simulation and on the realities over the policies; None for fewer than three."""
    rank_violation: float | None
    """Mean maximum rank violation over the policies."""

    def __repr__(self) -> str:
        rates = ", ".join(f"{m} {'–' if r is None else f'{r:.1%}'}" for m, r in self.success.items())
        return f"Transfer({self.task} on {len(self.realities)} realities: {rates})"

    def __str__(self) -> str:
        return "\n".join(table_lines(self.result))


def transfer(
    task: TaskLike,
    robot: RobotLike = "so101",
    *,
    out: str | Path,
    objects: Sequence[str] = (),
    realities: str | Sequence[str] = "all",
    methods: str | Sequence[str] = ("default",),
    episodes: int = 50,
    seed: int = 0,
    policies: Mapping[str, str | Path] | None = None,
    training: Mapping[str, Any] | None = None,
    tuning: Mapping[str, Any] | None = None,
    max_minutes: float | None = None,
    recorded: int = 20,
    clock: Clock = "stepped",
    workers: int | None = None,
    progress: bool = True,
) -> Transfer:
    """Run `episodes` of each method's policy on each reality, paired, and compare; resumable in the directory `out`.

    objects: other objects than the task has, as `--object` says them. realities: names, paths of .toml files, or "all".
    methods: names, or "all". policies: by method a policy file, or
    "expert", instead of training one. training: fields of `PretrainSettings` for those that are trained here;
    max_minutes: what each such training must fit into; tuning: fields of `FinetuneSettings`. recorded: episodes
    recorded on each reality for `identified` and `finetuned`. clock: "stepped", as fast as it goes, or "real" time with
    a deployment's processes, from the main thread. Raises UserError for names that do not exist, policies made for
    others, an engine that is not installed, and an `out` that holds something else.
    """
    from pipelines.reports.report import try_report
    from pipelines.sweeps.simulated import worker_count
    from pipelines.transfers.methods import Methods
    from pipelines.transfers.reality import load_realities
    from pipelines.transfers.run import Asked, method_names, run_transfer
    from sim2real.tasks.registry import with_flags

    asked = Asked(
        task=with_flags(task_name(task), objects),
        robot=robot_name(robot),
        realities=load_realities(realities if isinstance(realities, str) else ",".join(map(str, realities))),
        methods=method_names(methods if isinstance(methods, str) else ",".join(methods)),
        episodes=episodes,
        seed=seed,
        policies={name: str(policy) for name, policy in (policies or {}).items()},
        clock=clock,
    )
    count = worker_count(workers)
    made = Methods(asked, Path(out), count, dict(training or {}), max_minutes, recorded, dict(tuning or {}))
    result = run_transfer(
        asked, Path(out), made.policy, simulated=made.simulated, workers=count, progress=progress
    )
    try_report(out)
    return Transfer(
        out=Path(out),
        result=result,
        task=asked.task,
        realities=tuple(result["realities"]),
        methods=asked.methods,
        success={method: found["mean_over_realities"] for method, found in result["methods"].items()},
        gap_closed=None if result["gap_closed"] is None else result["gap_closed"]["value"],
        pearson=result["ranking"]["policies"]["pearson"],
        rank_violation=result["ranking"]["policies"]["rank_violation"],
    )


def table_lines(result: Mapping[str, Any]) -> list[str]:
    """The result as text: a line for each reality, a column for each method."""
    methods = list(result["methods"])
    width = max([len("mean over realities"), *map(len, result["realities"])])
    lines = [" " * width + "".join(f"  {method:>16}" for method in methods)]
    for reality, found in result["realities"].items():
        cells = [_cell(found[m]) if m in found else "" for m in methods]
        lines.append(f"{reality:{width}}" + "".join(f"  {cell:>16}" for cell in cells))
    means = [result["methods"][m]["mean_over_realities"] for m in methods]
    shown = ["–" if mean is None else f"{mean:.1%}" for mean in means]
    lines.append(f"{'mean over realities':{width}}" + "".join(f"  {text:>16}" for text in shown))
    for pair in result["comparisons"]:
        low, high = pair["newcombe_95"]
        lines.append(
            f"{pair['after']} against {pair['before']}: {pair['difference']:+.1%} [{low:+.1%}, {high:+.1%}], "
            f"p = {pair['mcnemar_p']:.2g}, {pair['pairs']} pairs"
        )
    gap = result["gap_closed"]
    if gap is not None:
        value = "there is none" if gap["value"] is None else f"{gap['value']:.0%}"
        lines.append(f"gap closed by fine-tuning: {value}")
    lost = sum(found["not_counted"] for found in result["methods"].values())
    if lost:
        lines.append(f"{lost} episodes do not count: their reality fell behind real time")
    lines.append(result["caveat"])
    return lines


def _cell(found: Mapping[str, Any]) -> str:
    if found["success_rate"] is None:
        return "–"
    low, high = found["wilson_95"]
    return f"{found['successes']}/{found['episodes']} [{low:.0%}, {high:.0%}]"
