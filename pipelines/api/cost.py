"""`cost`: what an arm costs, what it saves, and what that hangs on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pipelines.costs.inputs import Inputs

OUTPUTS = ("result.json", "draws.parquet", "report.html")


@dataclass(frozen=True)
class Percentiles:
    """A figure over all draws; None where it does not exist (a payback that never comes)."""

    p10: float | None
    p50: float | None
    p90: float | None
    unit: str


@dataclass(frozen=True, repr=False)
class CostResult:
    """What the cost model found. `result` is the content of result.json; `out` the run directory, if one was named."""

    result: Mapping[str, Any] = field(repr=False)
    tco: Percentiles
    """Total cost of ownership, USD."""
    cost_per_item: Percentiles
    """USD per successful item."""
    cost_per_task: Percentiles
    """USD per new task."""
    payback_years: Percentiles
    npv: Percentiles
    """Net present value, USD."""
    irr: Percentiles
    """Internal rate of return, per year."""
    break_even_items: Percentiles
    """Items over the life."""
    robots_per_operator: Percentiles
    point_of_success: Percentiles
    """USD of net present value that one more point of success brings."""
    probability_npv_positive: float
    decisions: Mapping[str, str]
    """The choice that is better on average, by the name of the decision."""
    out: Path | None

    def __repr__(self) -> str:
        from pipelines.costs.words import spread

        return f"CostResult(npv {spread(self.result['npv'])}, pays with {self.probability_npv_positive:.0%})"

    def __str__(self) -> str:
        return _text(self.result, self.out)


def cost(
    scenario: str | Path | Mapping[str, Any] | None = None,
    *,
    benchmark: str | Path | None = None,
    fleet: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    draws: int = 10_000,
    seed: int = 0,
    teach: Literal["demonstrations", "pretraining", "fleet"] = "pretraining",
    out: str | Path | None = None,
) -> CostResult:
    """Total cost of ownership, cost per item and task, return and decisions, over `draws` draws of the inputs.

    scenario: a TOML file, or inputs by name. benchmark: a directory (or JSON file) whose counts become the posterior of
    `success`. fleet: a directory of `fleet simulate`. settings: inputs by name, which come last; a number, "0.5 min",
    (low, most likely, high) or a table, see `cost_inputs`. teach: how new tasks are taught. out: where to write
    result.json, draws.parquet and report.html; nothing is written without it.

    Raises UserError for unknown names and values that make no sense.
    """
    from pipelines.costs.run import check, run

    inputs = cost_inputs(scenario, benchmark=benchmark, fleet=fleet, settings=settings)
    check(draws, seed, teach)
    folder = None if out is None else _claim(Path(out), inputs, draws, seed, teach)
    answer, columns = run(inputs, draws=draws, seed=seed, strategy=teach)
    if folder is not None:
        _write(folder, answer, columns)
    return CostResult(
        result=answer,
        **{name: _percentiles(answer[name]) for name in _SHOWN},
        probability_npv_positive=answer["probability_npv_positive"],
        decisions={name: one["choice"] for name, one in answer["decisions"].items()},
        out=folder,
    )


def cost_inputs(
    scenario: str | Path | Mapping[str, Any] | None = None,
    *,
    benchmark: str | Path | None = None,
    fleet: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> "Inputs":
    """The inputs that `cost` would take: `by_name` has low, most likely and high with unit, source and date of each."""
    from pipelines.costs.evidence import with_benchmark, with_fleet
    from pipelines.costs.inputs import check_together, default_inputs, with_given

    inputs = with_given(default_inputs(), scenario)
    if benchmark is not None:
        inputs = with_benchmark(inputs, benchmark)
    if fleet is not None:
        inputs = with_fleet(inputs, fleet)
    for name, value in (settings or {}).items():
        inputs = inputs.given(name, value, "--set")
    return check_together(inputs)


_SHOWN = (
    "tco", "cost_per_item", "cost_per_task", "payback_years", "npv", "irr", "break_even_items",
    "robots_per_operator", "point_of_success",
)  # fmt: skip


def _percentiles(row: Mapping[str, Any]) -> Percentiles:
    return Percentiles(row["p10"], row["p50"], row["p90"], row["unit"])


def _claim(out: Path, inputs: "Inputs", draws: int, seed: int, teach: str) -> Path:
    from pipelines.runs import claim, described

    given = {name: one.to_dict() for name, one in inputs.by_name.items()}
    identity = {"inputs": given, "draws": draws, "seed": seed, "teach": teach}
    settings = {"title": inputs.title, "draws": draws, "teach": teach}
    claim(out, described("cost", seed=seed, settings=settings, identity=identity))
    return out


def _write(out: Path, answer: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipelines.reports.report import try_report
    from sim2real.files import write_bytes, write_json

    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), buffer)
    write_bytes(out / "draws.parquet", buffer.getvalue())
    write_json(out / "result.json", answer)
    try_report(out)


def _text(answer: Mapping[str, Any], out: Path | None) -> str:
    """What the command prints: median [p10 … p90]."""
    from pipelines.costs.words import money, spread

    lines = [
        f"pays with a probability of {answer['probability_npv_positive']:.0%}; median [10 % … 90 %] of "
        f"{answer['draws']} draws:"
    ]
    labels = {
        "tco": "total cost of ownership",
        "npv": "net present value",
        "irr": "internal rate of return",
        "payback_years": "payback, years",
        "cost_per_item": "cost per successful item",
        "saving_per_item": "an item saves",
        "cost_per_task": "cost per new task",
        "items_per_year": "items a year",
        "break_even_items_per_year": "break-even, items a year",
        "robots_per_operator": "robots per operator",
        "point_of_success": "one more point of success",
    }
    lines += [f"  {label:26} {spread(answer[name])}" for name, label in labels.items()]
    lines.append("decisions (probability of regret):")
    lines += [
        f"  {one['question']:38} {one['choice']} ({one['probability_of_regret']:.0%}; knowing better is worth "
        f"{money(one['expected_regret'])})"
        for one in answer["decisions"].values()
    ]
    needed = answer["decisions"]["automate"]["pays_from_success"]
    lines.append(
        "  no success rate makes it pay on average"
        if needed is None
        else f"  pays on average from a success of {needed:.0%}"
    )
    lines.append(
        "what decides: "
        + ", ".join(f"{row['input']} {row['total']:.0%}" for row in answer["sobol"]["npv"][:5])
    )
    lines += answer["notes"]
    if out is not None:
        lines.append(f"written to {out}; the report is {out / 'report.html'}")
    return "\n".join(lines)
