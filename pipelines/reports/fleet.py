"""The report of a simulated fleet."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.page import Section
from pipelines.reports import figures as draw
from sim2real.files import read_json

COLORS = (draw.ACCENT, draw.BAD, draw.SECOND, "#7a5aa6", "#8aa9b8", draw.GOOD, "#c3b299")
"""Of what robots do, in the order of `shares`."""


def sections(directory: Path) -> list[Section]:
    """The report of a run of `sim2real fleet simulate`."""
    a = read_json(directory / "result.json")
    return [_found(a), _hides(a), _scale(a), _inputs(a)]


def _found(a: Mapping[str, Any]) -> Section:
    section = Section("What the fleet does")
    wait = a["help_wait_min"]["mean"]
    section.tiles(
        [
            (f"{a['effective_per_day']:,.1f}", "", "effective episodes a day, in the long run"),
            (f"{a['effective_per_robot_day']:.1f}", "", "of them per robot"),
            (f"{a['utilisation']:.0%}", "", "of their time robots collect"),
            (f"{a['interventions_per_day']:.1f}", "a day", "times that a person must come"),
            *([(f"{wait:.0f}", "min", "a robot waits for a person, on average")] if wait is not None else []),
        ]
    )
    together = "learn together" if a["pooled"] else "learn each by itself, and stand meanwhile"
    section.text(
        f"{a['robots']} robots that {together}, {a['days']:g} days: {a['episodes']:,} episodes collected, "
        f"{a['arrived']:,} of them at the hub, {a['trainings']} trainings, {a['updates']} updates of robots, "
        f"{a['breakdowns']} breakdowns."
    )
    for note in a["notes"]:
        section.text(note, "note")
    with draw.Canvas(9.4, 1.5) as c:
        ax, left = c.axes[0], 0.0
        for (way, share), color in zip(a["shares"].items(), COLORS):
            if share > 5e-4:
                ax.barh(0, share, left=left, height=0.5, color=color, label=f"{way} {share:.1%}")
                left += share
        ax.set_xlim(0, 1)
        ax.set_yticks([])
        ax.grid(visible=False)
        draw.percent_axis(ax.xaxis)
        c.figure.legend(loc="outside upper center", ncols=4)
    section.figure(c.uri, "What robots do", "Where the robots' working hours go.")
    if len(a["daily"]) > 1:
        days = np.arange(1, len(a["daily"]) + 1)
        section.figure(
            draw.lines(days, [("", a["daily"])], x_label="day", y_label="effective episodes", height=2.0),
            "Episodes by day",
            "Effective episodes that arrived on each day.",
        )
    return section


def _hides(a: Mapping[str, Any]) -> Section:
    section = Section("What the assumptions hide", anchor="hides")
    if not a["hides"]:
        section.text("Nothing of what is known to this simulation is left out.")
        return section
    labels = ["as assumed", *(row["about"] for row in a["hides"])]
    values = [a["effective_per_day"], *(row["effective_per_day"] for row in a["hides"])]
    with draw.Canvas(9.4, 0.6 + 0.32 * len(labels)) as c:
        ax, y = c.axes[0], np.arange(len(labels))[::-1]
        colors = [draw.ACCENT, *([draw.SECOND] * (len(labels) - 2)), draw.BAD]
        bars = ax.barh(y, values, height=0.6, color=colors)
        ax.bar_label(bars, [f"{v:,.0f}" for v in values], padding=4, color=draw.SOFT)
        ax.set_yticks(y, labels)
        ax.tick_params(axis="y", length=0, labelcolor=draw.INK)
        ax.grid(axis="y", visible=False)
        ax.margins(x=0.08)
        ax.set_xlabel("effective episodes a day")
    section.figure(
        c.uri, "Effective episodes by what is taken into account", "Each alone, then all together."
    )
    return section


def _scale(a: Mapping[str, Any]) -> Section:
    section = Section("More robots", anchor="scale")
    rows = a["scale"]
    robots = [row["robots"] for row in rows]
    with draw.Canvas(7.6, 3.0) as c:
        ax = c.axes[0]
        for label, key, style in (
            ("as assumed", "effective_per_day", "o--"),
            ("in practice, as many people as needed", "with_operators_needed", "o-"),
            (f"in practice, {rows[0]['operators']:.0f} operator(s)", "in_practice", "o-"),
        ):
            ax.plot(robots, [max(row[key], 1e-3) for row in rows], style, label=label, markersize=4)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks(robots, [f"{n:,}" for n in robots])
        ax.minorticks_off()
        ax.set_xlabel("robots")
        ax.set_ylabel("effective episodes a day")
        ax.legend()
    section.figure(c.uri, "Effective episodes by number of robots", "Both axes are logarithmic.")
    section.table(
        [
            {
                "robots": row["robots"],
                "as assumed": f"{row['effective_per_day']:,.0f}",
                f"{row['operators']:.0f} operator(s)": f"{row['in_practice']:,.0f}",
                "operators needed": row["operators_needed"],
                "with them": f"{row['with_operators_needed']:,.0f}",
                "wait for one": "–" if row["help_wait_min"] is None else f"{row['help_wait_min']:.0f} min",
                "to the hub": f"{row['upload_mbit_s']:.1f} Mbit/s",
            }
            for row in rows
        ]
    )
    section.text(
        "As many people as needed: so many that they are busy for four fifths of their hours at most. What remains of "
        "the waiting is the night, in which nobody is there.",
        "note",
    )
    return section


def _inputs(a: Mapping[str, Any]) -> Section:
    section = Section("Where the figures come from", anchor="inputs")
    section.table(
        [
            {
                "input": row["name"],
                "value": row["likely"],
                "unit": row["unit"],
                "what": row["about"],
                "source": f"{row['source']} ({row['date']})",
            }
            for row in a["inputs"]
        ],
        folded="all inputs",
    )
    return section
