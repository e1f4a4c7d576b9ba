"""The report of a benchmark: how often, on what, why not, and whether it is better than another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.reports import figures as draw
from pipelines.reports.page import Section
from sim2real.files import read_json

_MOST = 60
"""Bars in one picture of tasks: the hardest ones."""


def sections(directory: Path) -> list[Section]:
    """All sections of one benchmark's report."""
    summary = read_json(directory / "summary.json")
    result = [_overview(summary)]
    if summary["tasks"] > 1:
        result.append(_tasks(summary))
    if summary["failures"]:
        result.append(_failures(summary))
    if "against" in summary:
        result.append(_against(summary))
    return result


def _overview(summary: Mapping[str, Any]) -> Section:
    section = Section("How often it succeeds")
    low, high = summary["interval_95"]
    tiles = [
        (
            f"{summary['success_rate']:.1%}",
            f"[{low:.1%}, {high:.1%}]",
            "success, mean over tasks, 95 % interval",
        ),
        (str(summary["tasks"]), "", "tasks" if summary["tasks"] > 1 else "task"),
        (str(summary["trials"]), "", "trials, each on a draw of its own"),
    ]
    if (found := summary.get("at_least")) is not None:
        said = {"above": "above", "below": "below", "open": "not decided"}[found["verdict"]]
        tiles.append((said, f"{found['rate']:.0%}", f"after {found['rounds']} trials of each task"))
    section.tiles(tiles)
    section.text(f"Interval: {summary['method']}.", "note")
    return section


def _tasks(summary: Mapping[str, Any]) -> Section:
    section = Section("Task by task")
    order = sorted(summary["per_task"], key=lambda task: task["successes"] / task["trials"])
    shown = order[:_MOST]
    with draw.Canvas(8.0, 0.6 + 0.24 * len(shown)) as canvas:
        axes = canvas.axes[0]
        for row, task in enumerate(reversed(shown)):
            rate, (low, high) = task["successes"] / task["trials"], task["wilson_95"]
            axes.plot([low, high], [row, row], color=draw.SOFT, linewidth=1.2)
            axes.plot([rate], [row], "o", color=draw.ACCENT, markersize=5)
        axes.set_yticks(range(len(shown)), [task["id"] for task in reversed(shown)])
        axes.set_xlim(0.0, 1.0)
        axes.set_xlabel("success, 95 % interval of Wilson")
    more = f" The {len(shown)} hardest of {len(order)} are shown." if len(order) > len(shown) else ""
    section.figure(
        canvas.uri, "Success of every task with its interval, the hardest on top.", "Hardest on top." + more
    )
    if len(summary["per_family"]) > 1:
        section.heading("By family")
        section.table(
            [
                {
                    "family": f["family"],
                    "tasks": f["tasks"],
                    "trials": f["trials"],
                    "success": f"{f['success_rate']:.1%}",
                    "95 % interval": "{:.1%} – {:.1%}".format(*f["interval_95"]),
                }
                for f in summary["per_family"]
            ]
        )
    section.table([_row(task) for task in order], folded="All tasks in figures")
    return section


def _row(task: Mapping[str, Any]) -> dict[str, Any]:
    low, high = task["wilson_95"]
    return {
        "task": task["id"],
        "successes": task["successes"],
        "trials": task["trials"],
        "95 % interval": f"{low:.1%} – {high:.1%}",
        "why it failed": ", ".join(f"{cause} {count}" for cause, count in task["failure"].items()),
    }


def _failures(summary: Mapping[str, Any]) -> Section:
    section = Section("Why trials failed")
    causes = summary["failures"]
    total = sum(causes.values())
    section.table(
        [
            {"cause": cause, "trials": count, "share": f"{count / total:.0%}"}
            for cause, count in causes.items()
        ]
    )
    section.text(
        "A cause is named where the record of the trial shows it: what the gate changed, when chunks arrived, where "
        "objects were and where they were believed, what the hand held. Everything else is unknown.",
        "note",
    )
    stages = [
        {"task": task["id"]} | {f"ended in {stage}": count for stage, count in task["stage_reached"].items()}
        for task in summary["per_task"]
    ]
    section.table(stages, folded="How far trials came")
    return section


def _against(summary: Mapping[str, Any]) -> Section:
    section = Section("Against the other policy")
    other = summary["against"]
    low, high = other["interval_95"]
    section.tiles(
        [
            (
                f"{other['difference']:+.1%}",
                f"[{low:+.1%}, {high:+.1%}]",
                "difference in success, 95 % interval",
            ),
            (f"{other['p']:.2g}", "", "p value: chance of such a difference if both were equally good"),
            (
                f"{other['only_this']} : {other['only_other']}",
                "",
                "trials that only this one, only the other did",
            ),
        ]
    )
    section.text(f"Method: {other['method']}.", "note")
    if len(other["per_task"]) > 1:
        rows = [
            {"task": t["id"], "difference": f"{t['difference']:+.1%}", "p (Holm)": t["p"]}
            for t in other["per_task"]
        ]
        section.table(rows, folded="Task by task")
    return section
