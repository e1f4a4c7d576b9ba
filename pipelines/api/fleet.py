"""`simulate_fleet`: what many arms collect, and what holds them up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.costs.inputs import Inputs


@dataclass(frozen=True, repr=False)
class FleetResult:
    """What a simulated fleet did. `result` is the content of result.json; `out` the run directory, if one was named."""

    result: Mapping[str, Any] = field(repr=False)
    robots: int
    days: float
    episodes: int
    """Collected, all robots together."""
    effective_per_day: float
    """Episodes a day that arrive and teach something, in the long run."""
    utilisation: float
    """Share of the working hours in which robots collect."""
    interventions_per_day: float
    """Times a day that a person had to come."""
    out: Path | None

    def __repr__(self) -> str:
        return f"FleetResult({self.robots} robots: {self.effective_per_day:.1f} effective episodes a day)"

    def __str__(self) -> str:
        return _text(self.result, self.out)


def simulate_fleet(
    robots: int = 10,
    days: float = 30,
    scenario: str | Path | Mapping[str, Any] | None = None,
    *,
    benchmark: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    pool: bool | None = None,
    runs: int = 1,
    seed: int = 0,
    out: str | Path | None = None,
) -> FleetResult:
    """Simulate a fleet as discrete events; by default with the assumptions of the project brief.

    scenario, benchmark, settings: inputs as in `cost`, listed by `fleet_inputs`. pool: whether robots learn together
    (by default when there are two or more). runs: repetitions that draw inputs from their ranges. out: where to write
    result.json and report.html; nothing is written without it.

    Raises UserError for unknown names, values that make no sense, a fleet too large to simulate, and without SimPy.
    """
    from pipelines.fleet.simulator.model import simpy
    from pipelines.fleet.simulator.run import check, run
    from pipelines.runs import claim, described

    inputs = fleet_inputs(scenario, benchmark=benchmark, settings=settings)
    check(robots, days, runs, seed)
    simpy()
    answer = run(inputs, robots=robots, days=days, seed=seed, runs=runs, pool=pool)
    folder = None if out is None else Path(out)
    if folder is not None:
        from pipelines.reports.report import try_report
        from sim2real.files import write_json

        given = {name: one.to_dict() for name, one in inputs.by_name.items()}
        asked = {"robots": robots, "days": days, "pooled": answer["pooled"], "runs": runs, "seed": seed}
        identity = {"inputs": given, **asked}
        shown = {"title": inputs.title or f"{robots} robots"}
        claim(folder, described("fleet simulate", seed=seed, settings=shown | asked, identity=identity))
        write_json(folder / "result.json", answer)
        try_report(folder)
    return FleetResult(
        result=answer,
        robots=robots,
        days=days,
        episodes=answer["episodes"],
        effective_per_day=answer["effective_per_day"],
        utilisation=answer["utilisation"],
        interventions_per_day=answer["interventions_per_day"],
        out=folder,
    )


def fleet_inputs(
    scenario: str | Path | Mapping[str, Any] | None = None,
    *,
    benchmark: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> "Inputs":
    """The inputs that `simulate_fleet` would take: `by_name` has values, unit, source and date of each."""
    from pipelines.costs.evidence import with_benchmark
    from pipelines.costs.inputs import with_given
    from pipelines.fleet.simulator.settings import default_inputs

    inputs = with_given(default_inputs(), scenario)
    if benchmark is not None:
        inputs = with_benchmark(inputs, benchmark)
    for name, value in (settings or {}).items():
        inputs = inputs.given(name, value, "--set")
    return inputs


def _text(answer: Mapping[str, Any], out: Path | None) -> str:
    """What the command prints."""
    how = "learning together" if answer["pooled"] else "each by itself"
    lost = [f"{way} {share:.1%}" for way, share in answer["shares"].items() if share > 5e-4][1:]
    lines = [
        f"{answer['robots']} robots, {how}, {answer['days']:g} days: {answer['effective_per_day']:,.1f} effective "
        f"episodes a day ({answer['effective_per_robot_day']:.1f} a robot)",
        f"  robots collect {answer['utilisation']:.1%} of their time" + "".join(f"; {text}" for text in lost),
        f"  {answer['interventions_per_day']:.1f} interventions a day, {answer['trainings']} trainings, "
        f"{answer['breakdowns']} breakdowns",
    ]
    if answer["help_wait_min"]["mean"] is not None:
        wait = answer["help_wait_min"]
        lines.append(
            f"  waiting for a person: {wait['mean']:.0f} min on average, 95 % within {wait['p95']:.0f}"
        )
    if answer["spread"]:
        row = answer["spread"]["effective_per_day"]
        lines.append(
            f"  over {answer['runs']} runs: {row['p50']:,.1f} [{row['p10']:,.1f} … {row['p90']:,.1f}] a day"
        )
    if answer["hides"]:
        lines.append("what the assumptions hide, effective episodes a day:")
        lines += [f"  {row['effective_per_day']:>10,.1f}  {row['about']}" for row in answer["hides"]]
    lines.append("robots: as assumed; in practice with one operator; with as many as they need:")
    lines += [
        f"  {row['robots']:>6,}: {row['effective_per_day']:>10,.1f} {row['in_practice']:>10,.1f} "
        f"{row['with_operators_needed']:>10,.1f} ({row['operators_needed']} operators)"
        for row in answer["scale"]
    ]
    lines += answer["notes"]
    if out is not None:
        lines.append(f"written to {out}; the report is {out / 'report.html'}")
    return "\n".join(lines)
