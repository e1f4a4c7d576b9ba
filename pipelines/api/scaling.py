"""`scaling`: how an error falls with demonstrations, tasks, network size or computing time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, repr=False)
class Scaling:
    """The laws that were found, `summary["scaling"]`, a dictionary each (`ScalingLaw`); `report` where there is one."""

    summary: Mapping[str, Any] = field(repr=False)
    report: Path | None = field(repr=False)

    @property
    def laws(self) -> list[dict[str, Any]]:
        """Each with `over`, `of`, `a`, `b`, `c`, intervals, `predicted`, `measured`, `fits` and `why`."""
        return list(self.summary["scaling"])

    def __repr__(self) -> str:
        return f"Scaling({', '.join(law['of'] + ' over ' + law['over'] for law in self.laws)})"

    def __str__(self) -> str:
        lines = []
        for law in self.laws:
            lines.append(
                f"{law['of']} over {law['over']}: {law['a']:.3g} · N^-{law['b']:.2f} + {law['c']:.3g}, "
                "b in [{:.2f}, {:.2f}]".format(*law["b_95"])
            )
            lines.append(
                f"  held out at {law['held_out']:g}: predicted {law['predicted']:.3g} "
                "[{:.3g}, {:.3g}]".format(*law["predicted_95"])
                + f", found {law['measured']:.3g}"
            )
            lines.append("  it fits" if law["fits"] else f"  no law: {law['why']}")
        if len(self.summary["varying"]) > 1:
            lines.append(f"note: {', '.join(self.summary['varying'])} all differ among these runs")
        return "\n".join(lines) + (f"\nreport: {self.report}" if self.report else "")


def scaling(directories: Sequence[str | Path], *, out: str | Path | None = None) -> Scaling:
    """Fit err = a · N^−b + c over the policies that run directories of `benchmark`, or of `pretrain` with its
    evaluation, have measured; into `out`, where one is given.

    Raises UserError for fewer than five sizes, and for directories that say nothing of a policy.
    """
    from pipelines.benchmarks.scaling_runs import scaling as fitted
    from pipelines.reports.report import try_report
    from pipelines.runs import claim, described
    from sim2real.files import write_json
    from sim2real.identity import content_hash

    summary = fitted(directories)
    if out is None:
        return Scaling(summary, None)
    settings = {"scaling": [str(directory) for directory in directories]}
    claim(
        out,
        described("benchmark", settings=settings, identity={"scaling of": content_hash(summary["runs"])}),
    )
    write_json(Path(out) / "summary.json", summary)
    return Scaling(summary, try_report(out))
