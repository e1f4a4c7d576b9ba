"""The report of the cost model: for an owner, pictures first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.costs.words import figure, money, spread
from pipelines.page import Section
from pipelines.reports import figures as draw
from sim2real.files import read_json

PARTS = {
    "bought": ("arm", "end_effector", "sensors", "computer", "fixtures", "safety"),
    "integration": ("integration", "installation"),
    "teaching tasks": ("teaching",),
    "people who help": ("help",),
    "engineers' support": ("support",),
    "upkeep": ("maintenance", "repair"),
    "scrap, energy, software": ("scrap", "energy", "software", "cloud"),
}
"""Parts of the cost as the pictures show them; the residual value is taken from what is bought."""

WAYS = {
    "demonstrations": "demonstrations alone",
    "pretraining": "on a pretrained policy",
    "fleet": "by the fleet itself",
}


def sections(directory: Path) -> list[Section]:
    """The report of a run of `sim2real cost`."""
    a = read_json(directory / "result.json")
    return [_verdict(a), _what_it_costs(a), _what_decides(a), _decisions(a), _teaching(a), _inputs(a)]


def _verdict(a: Mapping[str, Any]) -> Section:
    section = Section("Does it pay?")
    chance = a["probability_npv_positive"]
    needed = a["decisions"]["automate"]["pays_from_success"]
    payback, npv = a["payback_years"]["p50"], a["npv"]
    section.tiles(
        [
            (f"{chance:.0%}", "", "chance that it pays (net present value above zero)"),
            (money(npv["p50"]), f"{money(npv['p10'])} … {money(npv['p90'])}", "net present value"),
            (*(("never", "") if payback is None else (f"{payback:.1f}", "years")), "until it is paid back"),
            (money(a["cost_per_item"]["p50"]), f"saves {money(a['saving_per_item']['p50'])}", "an item costs"),
            ("–" if needed is None else f"{needed:.0%}", f"now {a['success']['p50']:.0%}", "success that pays"),
        ]
    )  # fmt: skip
    section.text(_sentence(a))
    for note in a["notes"]:
        section.text(note, "note")
    section.figures(
        [
            (_cash(a), "Money over the years", "All that was paid and saved until then: the middle of all draws, and "
             "the band that holds 80 % of them. It has paid back where the line crosses zero."),
            (_worth(a), "Net present value", "What the whole is worth today. Red draws lose money."),
        ]
    )  # fmt: skip
    section.text(
        "Figures are medians; in brackets, or after them, the 10th and 90th percentile of all draws. "
        "Each draw takes every input from its range.",
        "note",
    )
    return section


def _sentence(a: Mapping[str, Any]) -> str:
    choice = a["decisions"]["automate"]
    better = "to" if choice["choice"] == "automate" else "not to"
    first = [row["input"].replace("_", " ") for row in a["sobol"]["npv"][:3]]
    decided = f" What decides is {', '.join(first[:-1])} and {first[-1]}." if len(first) == 3 else ""
    return (
        f"On average it is better {better} automate: the other choice would have been better in "
        f"{choice['probability_of_regret']:.0%} of the draws, and knowing before would be worth "
        f"{money(choice['expected_regret'])}.{decided} One more point of success is worth "
        f"{money(a['point_of_success']['p50'])} over the life; one person can look after "
        f"{figure(a['robots_per_operator']['p50'], 'robot')} robots."
    )


def _cash(a: Mapping[str, Any]) -> str:
    rows = a["curves"]["cash"]
    with draw.Canvas(4.7, 2.8) as c:
        ax = c.axes[0]
        ax.fill_between(rows["year"], rows["p10"], rows["p90"], color=draw.ACCENT, alpha=0.16, lw=0)
        ax.plot(rows["year"], rows["p50"], "o-", color=draw.ACCENT, markersize=3.8)
        ax.axhline(0, color=draw.INK, lw=0.9)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel("year")
        _dollars(ax.yaxis)
    return c.uri


def _worth(a: Mapping[str, Any]) -> str:
    edges, counts = np.array(a["curves"]["npv"]["edges"]), np.array(a["curves"]["npv"]["counts"])
    with draw.Canvas(4.7, 2.8) as c:
        ax = c.axes[0]
        middle = (edges[1:] + edges[:-1]) / 2
        colors = [draw.GOOD if x > 0 else draw.BAD for x in middle]
        ax.bar(
            edges[:-1],
            counts / max(counts.sum(), 1),
            width=np.diff(edges),
            align="edge",
            color=colors,
            alpha=0.75,
        )
        ax.axvline(0, color=draw.INK, lw=0.9)
        ax.set_yticks([])
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("net present value")
        _dollars(ax.xaxis)
    return c.uri


def _what_it_costs(a: Mapping[str, Any]) -> Section:
    section = Section("What it costs", anchor="costs")
    section.figure(
        _by_year(a),
        "Cost by year and part",
        f"Mean cost by year; year 0 is before the first item. In all {spread(a['tco'])} over the life.",
    )
    by_size = sorted(a["parts"].items(), key=lambda item: -item[1]["mean"])
    rows = [_row(part.replace("_", " "), row, a["tco"]["mean"]) for part, row in by_size]
    rows.append(_row("total", a["tco"], a["tco"]["mean"]))
    section.table(rows)
    section.text(
        "Means add up to the total; medians and percentiles do not, since not all is dear at once.", "note"
    )
    return section


def _row(name: str, row: Mapping[str, Any], whole: float) -> dict[str, str]:
    share = f"{row['mean'] / whole:.1%}" if whole else "–"
    percentiles = {"median": money(row["p50"]), "10 %": money(row["p10"]), "90 %": money(row["p90"])}
    return {"part": name, "mean": money(row["mean"]), "of it all": share, **percentiles}


def _by_year(a: Mapping[str, Any]) -> str:
    years = [row["year"] for row in a["years"]]
    with draw.Canvas(9.4, 3.0) as c:
        ax = c.axes[0]
        bottom = np.zeros(len(years))
        colors = [*draw.SERIES[:5], "#8aa9b8", "#c3b299"]
        for (label, parts), color in zip(PARTS.items(), colors):
            heights = np.array([sum(row["parts"].get(part, 0.0) for part in parts) for row in a["years"]])
            ax.bar(years, heights, bottom=bottom, width=0.66, label=label, color=color)
            bottom += heights
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(axis="x", visible=False)
        ax.set_xlabel("year (less in late years: not every draw lives that long)")
        _dollars(ax.yaxis)
        c.figure.legend(loc="outside right center")
    return c.uri


def _what_decides(a: Mapping[str, Any]) -> Section:
    section = Section("What decides", anchor="sensitivity")
    section.figures(
        [
            (_tornado(a), "Tornado", "Net present value when one input alone is low (its 10th percentile) or high (its "
             "90th) and all others stand at their medians."),
            (_sobol(a), "Sobol indices", "Share of the uncertainty of the net present value that an input explains "
             "alone (dark) and with all its interactions (light)."),
            (_success(a), "Success", "Net present value over the success in daily work, with the band of 80 % of the "
             "draws. The dashed line is where the success stands now."),
        ]
    )  # fmt: skip
    return section


def _tornado(a: Mapping[str, Any]) -> str:
    rows = a["tornado"]["npv"][:10]
    units = {row["name"]: row["unit"] for row in a["inputs"]}
    with draw.Canvas(5.4, 0.7 + 0.31 * len(rows)) as c:
        ax, y = c.axes[0], np.arange(len(rows))[::-1]
        for at, row in zip(y, rows):
            ax.plot([row["at_low"], row["at_high"]], [at, at], color="#c3cad2", lw=6, solid_capstyle="butt")
            for key, value, color in (
                ("low", row["at_low"], draw.SECOND),
                ("high", row["at_high"], draw.ACCENT),
            ):
                ax.plot(
                    value, at, "o", color=color, markersize=5, label=f"input {key}" if at == y[0] else None
                )
        labels = [
            f"{row['input'].replace('_', ' ')}  {_low(row, units)} … "
            f"{_measured(row['high'], units[row['input']])}"
            for row in rows
        ]
        ax.set_yticks(y, labels)
        ax.tick_params(axis="y", length=0, labelcolor=draw.INK)
        ax.grid(axis="y", visible=False)
        ax.axvline(0, color=draw.INK, lw=0.9)
        if rows:
            c.figure.legend(loc="outside upper right", ncols=2)
        _dollars(ax.xaxis)
    return c.uri


def _low(row: Mapping[str, Any], units: Mapping[str, str]) -> str:
    unit = units[row["input"]]
    return _dollar(unit) + _plain(row["low"], unit)


def _measured(value: float, unit: str) -> str:
    """With its unit, as short as it is understood: dollars as such, of others the first word."""
    if unit.startswith("USD"):
        return _dollar(unit) + _plain(value, unit)
    return _plain(value, unit) + ("" if unit.startswith(("share", "1")) else " " + unit.split("/")[0])


def _dollar(unit: str) -> str:
    return "$" if unit.startswith("USD") else ""


def _plain(value: float, unit: str) -> str:
    if unit.startswith("share"):
        return f"{100 * value:.3g} %"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _sobol(a: Mapping[str, Any]) -> str:
    rows = a["sobol"]["npv"][:10]
    with draw.Canvas(3.9, 0.7 + 0.31 * len(rows)) as c:
        ax, y = c.axes[0], np.arange(len(rows))[::-1]
        ax.barh(y, [max(row["total"], 0.0) for row in rows], height=0.6, color="#b9d2dc")
        ax.barh(y, [max(row["first"], 0.0) for row in rows], height=0.6, color=draw.ACCENT)
        ax.set_yticks(y, [row["input"].replace("_", " ") for row in rows])
        ax.tick_params(axis="y", length=0, labelcolor=draw.INK)
        ax.grid(axis="y", visible=False)
        ax.set_xlim(left=0)
        draw.percent_axis(ax.xaxis)
    return c.uri


def _success(a: Mapping[str, Any]) -> str:
    rows = a["curves"]["success"]
    with draw.Canvas(4.7, 2.7) as c:
        ax = c.axes[0]
        ax.fill_between(rows["success"], rows["p10"], rows["p90"], color=draw.ACCENT, alpha=0.16, lw=0)
        ax.plot(rows["success"], rows["p50"], color=draw.ACCENT)
        ax.axhline(0, color=draw.INK, lw=0.9)
        ax.axvline(a["success"]["p50"], color=draw.SOFT, lw=0.9, ls=(0, (4, 3)))
        ax.set_xlabel("success in daily work")
        draw.percent_axis(ax.xaxis)
        _dollars(ax.yaxis)
    return c.uri


def _decisions(a: Mapping[str, Any]) -> Section:
    section = Section("Decisions", anchor="decisions")
    section.table(
        [
            {
                "question": row["question"],
                "better on average": row["choice"],
                "probability of regret": f"{row['probability_of_regret']:.0%}",
                "better by": spread(row["worth"]),
                "knowing before is worth": money(row["expected_regret"]),
            }
            for row in a["decisions"].values()
        ]
    )
    robots = a["decisions"]["add_robot"]
    counts = {int(n): v for n, v in robots["mean_npv_by_robots"].items()}
    collect = a["decisions"]["collect_more"]
    batches = np.arange(len(collect["mean_worth_by_batches"]))
    section.figures(
        [
            (_steps(list(counts), list(counts.values()), "robots", whole=True), "Net present value by robots",
             f"Mean net present value by the number of robots, with the items that are wanted now: best with "
             f"{robots['best_number']}."),
            (_steps((batches * _batch(a)).tolist(), collect["mean_worth_by_batches"], "more demonstrations per task"),
             "Worth of more demonstrations", "Mean worth of further demonstrations of every task, less what they cost. "
             + _stop(collect)),
        ]
    )  # fmt: skip
    section.text(
        "Probability of regret: how often the other choice would have been better. What knowing before is worth is the "
        "most that further measuring may cost.",
        "note",
    )
    return section


def _stop(collect: Mapping[str, Any]) -> str:
    wanted = collect["stop_after_demonstrations"]
    if collect["stop_is_beyond"]:
        return f"It still rises after {wanted:.0f}."
    return f"Best after {wanted:.0f}." if wanted else "None pays."


def _batch(a: Mapping[str, Any]) -> float:
    return float(next(row["likely"] for row in a["inputs"] if row["name"] == "batch"))


def _steps(x: Sequence[float], y: Sequence[float], label: str, *, whole: bool = False) -> str:
    with draw.Canvas(4.4, 2.5) as c:
        ax = c.axes[0]
        ax.plot(x, y, "o-", color=draw.ACCENT, markersize=3.8)
        best = int(np.argmax(y))
        ax.plot(x[best], y[best], "o", color=draw.GOOD, markersize=7)
        ax.axhline(0, color=draw.INK, lw=0.9)
        if whole:
            ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel(label)
        _dollars(ax.yaxis)
    return c.uri


def _teaching(a: Mapping[str, Any]) -> Section:
    section = Section("Teaching a new task", anchor="teaching")
    rows = a["data_collection"]
    section.figure(
        draw.intervals(
            [WAYS[way] for way in rows],
            [row["cost_per_task"]["p50"] for row in rows.values()],
            [row["cost_per_task"]["p10"] for row in rows.values()],
            [row["cost_per_task"]["p90"] for row in rows.values()],
            unit="USD per task",
            percent=False,
        ),
        "Cost of a new task",
        f"Median with the 10th and 90th percentile. All figures above are with '{WAYS[a['teach']]}'.",
    )
    section.table(
        [
            {"way": WAYS[way], "USD per task": spread(row["cost_per_task"]),
             "time": f"{spread(row['time_per_task'])} {row['time_per_task']['about']}"}
            for way, row in rows.items()
        ]
    )  # fmt: skip
    return section


def _inputs(a: Mapping[str, Any]) -> Section:
    section = Section("Where the figures come from", anchor="inputs")
    assumed = sum(row["source"].startswith("assumption") for row in a["inputs"])
    section.text(
        f"{assumed} of {len(a['inputs'])} inputs are assumptions that nobody has measured. Those that decide, "
        "above, are the ones to measure first."
    )
    section.table(
        [
            {
                "input": row["name"],
                "low": _plain(row["low"], row["unit"]),
                "most likely": _plain(row["likely"], row["unit"]),
                "high": _plain(row["high"], row["unit"]),
                "unit": row["unit"].replace("share", "").lstrip("/")
                if row["unit"] == "share"
                else row["unit"],
                "source": f"{row['source']} ({row['date']})",
            }
            for row in a["inputs"]
        ],
        folded="all inputs",
    )
    section.table(
        [
            {
                "figure of the project brief": row["statement"],
                "given": f"{row['given']:g} {row['given_unit']}",
                "computed": f"{row['computed']:.4g} {row['unit']}",
                "agrees": row["agrees"],
            }
            for row in a["brief"]
        ],
        folded="figures of the project brief, computed again",
    )
    return section


def _dollars(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda v, _: money(v, 2) if v else "0"))
