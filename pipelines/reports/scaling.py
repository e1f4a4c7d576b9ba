"""The report of scaling laws: points, law, what it predicts, and whether to believe it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.page import Section
from pipelines.reports import figures as draw


def scaling_sections(summary: Mapping[str, Any]) -> list[Section]:
    """A section per law."""
    sections = [_law(law, summary) for law in summary["scaling"]]
    if len(summary["varying"]) > 1:
        sections[0].text(
            f"Several sizes differ among these runs ({', '.join(summary['varying'])}): which of them the error falls "
            "with cannot be told from them alone.",
            "bad",
        )
    sections[-1].table(summary["runs"], folded="All runs")
    return sections


def _law(law: Mapping[str, Any], summary: Mapping[str, Any]) -> Section:
    what = {"failures": "failures", "action_error": "error of actions"}[law["of"]]
    section = Section(f"{what.capitalize()} over {law['over']}")
    low, high = law["predicted_95"]
    section.tiles(
        [
            ("fits" if law["fits"] else "does not fit", "", f"{what} = a · N^−b + c"),
            (f"{law['b']:.2f}", "[{:.2f}, {:.2f}]".format(*law["b_95"]), "exponent b"),
            (f"{law['c']:.3g}", "[{:.3g}, {:.3g}]".format(*law["c_95"]), "c, what remains at any size"),
            (
                f"{law['measured']:.3g}",
                f"predicted {low:.3g} – {high:.3g}",
                f"at {law['held_out']:g}, which was held out",
            ),
        ]
    )
    if law["why"]:
        section.text(f"No law: {law['why']}.", "bad")
    runs = [run for run in summary["runs"] if run[law["over"]]]
    size = np.array([run[law["over"]] for run in runs], dtype=float)
    if law["of"] == "failures":
        error = np.array([1 - run["successes"] / run["trials"] for run in runs])
    else:
        error = np.array([np.nan if run["action_error"] is None else run["action_error"] for run in runs])
    with draw.Canvas(7.6, 3.2) as canvas:
        axes = canvas.axes[0]
        line = np.geomspace(size.min(), size.max(), 100)
        axes.plot(line, law["a"] * line ** -law["b"] + law["c"], color=draw.SOFT)
        axes.plot(size, error, "o", color=draw.ACCENT)
        axes.plot([law["held_out"]] * 2, [low, high], color=draw.BAD)
        axes.set_xscale("log")
        axes.set_xlabel(law["over"])
        axes.set_ylabel(what)
    section.figure(
        canvas.uri,
        f"{what} over {law['over']}: points, law, and the prediction for the largest size.",
        "The law was fitted without the largest size; the bar there is what it predicts, 95 %.",
    )
    return section
