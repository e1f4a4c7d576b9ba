"""`sweep`: a task under many draws of the simulation's parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.api.words import rate_text
from pipelines.sweeps.evaluate import faults_text
from pipelines.sweeps.inputs import CamerasLike, PolicyLike, RobotLike, SpaceLike, TaskLike, TwinLike
from pipelines.sweeps.plan import SweepPlan
from sim2real.errors import UserError, listed

if TYPE_CHECKING:
    import pyarrow as pa

Sees = Literal["sensors", "truth"]


@dataclass(frozen=True, repr=False)
class SweepResult:
    """What a sweep found. `summary` is the content of summary.json; `out` the run directory."""

    out: Path
    summary: Mapping[str, Any] = field(repr=False)
    task: str
    policy: str
    draws: int
    successes: int
    success_rate: float
    interval: tuple[float, float]
    """95 % Wilson interval of the success rate."""
    failed: tuple[int, ...] = field(repr=False)
    """Indices of the draws that failed."""
    report: Path = field(repr=False)

    @property
    def table(self) -> "pa.Table":
        """A row per draw: outcome, seconds, stage, and the value of every parameter that varied."""
        from randomization.sweep import SweepStore

        return SweepStore(self.out).read()

    @property
    def policy_faults(self) -> Mapping[str, int]:
        """What the policy did instead of giving actions, and in how many draws."""
        return dict(self.summary.get("policy_faults", {}))

    @property
    def sensitivity(self) -> Sequence[Mapping[str, Any]]:
        """The parameters that decide, strongest first."""
        return tuple(self.summary["sensitivity"])

    def __repr__(self) -> str:
        rate = rate_text(self.successes, self.draws, self.interval)
        return f"SweepResult({self.task} by {self.policy}: {rate}; {self.out})"

    def __str__(self) -> str:
        return _text(self)


def sweep(
    task: TaskLike,
    robot: RobotLike = "so101",
    *,
    policy: PolicyLike = "expert",
    space: SpaceLike | None = None,
    draws: int = 256,
    out: str | Path,
    seed: int = 0,
    design: str = "sobol",
    levels: int = 5,
    twin: TwinLike | None = None,
    cameras: CamerasLike | None = None,
    sees: Sees | None = None,
    workers: int | None = None,
    engine: Literal["local", "ray"] = "local",
    against: str | Path | None = None,
    progress: bool = True,
) -> SweepResult:
    """Run a task under many draws, in parallel, into the directory `out`; a sweep that is there already goes on.

    space: what varies and how (default: every declared range). design: how draws fill it ("sobol", "independent",
    "lhs", "oat", "grid" with `levels` values a parameter, "saltelli"). twin: nominal values. cameras: those that are
    there, or their file (default: a camera anywhere around the table). sees: what the policy
    observes (default: the expert the true state, others what sensors say). workers: processes (default: one per
    core; 0: in this one). against: a finished sweep over the same draws, to compare with pair by pair.

    Raises UserError for what does not fit together, before anything long begins; Sim2RealError when all episodes
    end in an error.
    """
    from pipelines.sweeps.simulated import make_plan

    plan = replace(
        make_plan(
            task=task,
            robot=robot,
            policy=policy,
            draws=draws,
            seed=seed,
            space=space,
            twin=twin,
            cameras=cameras,
            privileged=None if sees is None else sees == "truth",
        ),
        design=design,
        levels=levels,
    )
    return run_plan(plan, out, workers=workers, engine=engine, against=against, progress=progress)


def run_plan(
    plan: SweepPlan,
    out: str | Path,
    *,
    workers: int | None = None,
    engine: str = "local",
    against: str | Path | None = None,
    progress: bool = True,
) -> SweepResult:
    """Run or continue a sweep that is planned, analyse it and write its report."""

    from pipelines.reports.report import write_report
    from pipelines.sweeps import plan as plans
    from pipelines.sweeps.simulated import workers_for
    from sim2real.policies.load import kind_of

    out = Path(out)
    # On a cluster the default is all of it, not this machine's cores.
    count = workers_for(plan, 0 if engine == "ray" and workers is None else workers)
    if engine == "ray" and plan.given.policy is None and kind_of(plan.policy) == "server":
        raise UserError("a policy server serves one at a time: leave the engine ray out")
    plans.run(plan, out, workers=count, engine=engine, progress=progress)
    summary = plans.conclude(out, against=None if against is None else Path(against))
    low, high = summary["wilson_95"]
    return SweepResult(
        out=out,
        summary=summary,
        task=summary["task"],
        policy=summary["policy"],
        draws=summary["draws"],
        successes=summary["successes"],
        success_rate=summary["success_rate"],
        interval=(low, high),
        failed=tuple(plans.failed_draws(out)),
        report=Path(write_report([out])),
    )


def _text(result: SweepResult) -> str:
    """What the command prints."""
    summary = result.summary
    low, high = summary["wilson_95"]
    lines = [
        f"{summary['successes']} of {summary['draws']} draws succeeded: {summary['success_rate']:.1%} "
        f"[{low:.1%}, {high:.1%}]; {summary['draws_to_halve_interval']} more would halve this interval"
    ]
    lines += [f"  {count:5} {label}" for label, count in list(summary["failures"].items())[:5]]
    lines += faults_text(summary.get("policy_faults", {}))
    if result.failed:
        lines.append(f"  failed draws (for --explain and --replay): {listed(result.failed)}")
    effects = [e for e in summary["sensitivity"] if e["significant"]][:5]
    what = "success" if summary["explained"] == "success" else "the time to success"
    if "sobol_indices" in summary:
        lines.append(f"what decides {what} (total Sobol index, 95 % interval; what it explains alone):")
        lines += [
            f"  {i['total']:5.1%} [{i['total_low']:.1%}, {min(i['total_high'], 1.0):.1%}]  {i['name']}  "
            f"({i['first']:.1%} alone)"
            for i in summary["sobol_indices"][:5]
        ]
        effects = []
    elif effects:
        lines.append(f"what decides {what} (share of its variance, 95 % interval):")
    elif summary["sensitivity"]:
        lines.append(f"no single parameter decides {what} beyond chance")
    lines += [f"  {e['index']:5.1%} [{e['low']:.1%}, {e['high']:.1%}]  {e['name']}" for e in effects]
    if "comparison" in summary:
        c = summary["comparison"]
        lines.append(
            f"against {c['against']}: {c['difference']:+.1%} [{c['low']:+.1%}, {c['high']:+.1%}], "
            f"p = {c['p_value']:.3g} ({c['only_b']} draws only this one, {c['only_a']} only the other)"
        )
    return "\n".join([*lines, f"report: {result.report}"])
