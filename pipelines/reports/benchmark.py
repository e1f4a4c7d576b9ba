"""The report of a benchmark: how often, on what, why not, and whether it is better than another."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.page import Section
from pipelines.reports import figures as draw
from pipelines.reports.scaling import scaling_sections
from sim2real.files import read_json

_MOST = 60
"""Bars in one picture of tasks: the hardest ones."""


def sections(directory: Path) -> list[Section]:
    """All sections of one benchmark's report."""
    summary = read_json(directory / "summary.json")
    if "scaling" in summary:
        return scaling_sections(summary)
    result = [_overview(summary)]
    if summary["tasks"] > 1:
        result.append(_tasks(summary))
    if summary["failures"]:
        result.append(_failures(summary))
    if summary.get("clips"):
        result.append(_clips(directory, summary["clips"]))
    if "against" in summary:
        result.append(_against(summary))
    if "policies" in summary:
        result.append(_policies(summary["policies"]))
    if "robustness" in summary:
        result.append(_robustness(summary["robustness"]))
    if "speed" in summary:
        result.append(_speed(summary["speed"]))
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


def _clips(directory: Path, clips: Sequence[Mapping[str, Any]]) -> Section:
    """Moving pictures of typical failures; those whose file is gone are left out."""
    section = Section("How it looked")
    images = []
    for clip in clips:
        file = directory / clip["file"]
        if file.is_file() and file.suffix == ".gif" and file.resolve().is_relative_to(directory.resolve()):
            uri = "data:image/gif;base64," + base64.b64encode(file.read_bytes()).decode()
            words = f"{clip['cause']}: {clip['task']}, trial {clip['trial']}"
            images.append((uri, f"Moving picture of a failed trial, {words}", words))
    if images:
        section.figures(images)
    section.text("One failed trial of each of the most frequent causes, replayed from its draw.", "note")
    return section


def _policies(rows: Sequence[Mapping[str, Any]]) -> Section:
    section = Section("All policies")
    section.table(
        [
            {
                "policy": row["policy"],
                "success": f"{row['success_rate']:.1%}",
                "95 % interval": "{:.1%} – {:.1%}".format(*row["interval_95"]),
                "letters": row["letters"],
            }
            for row in rows
        ]
    )
    section.text(
        "Policies that share a letter cannot be told apart (McNemar's exact test of every pair, Holm's correction, "
        "5 %).",
        "note",
    )
    if all("profile" in row for row in rows):
        thresholds = [100 * point[0] for point in rows[0]["profile"]]
        section.figure(
            draw.lines(
                thresholds,
                [(row["policy"], [100 * point[1] for point in row["profile"]]) for row in rows],
                x_label="success, %", y_label="tasks above it, %",
            ),
            "Performance profiles: the share of tasks whose success is above each level.",
            "Performance profiles: the higher, the better.",
        )  # fmt: skip
    return section


def _robustness(rows: Sequence[Mapping[str, Any]]) -> Section:
    section = Section("Which randomization costs how much")
    section.text(
        "The trials again, each with one group of parameters varying and all others at their nominal values. The "
        "starts are those of the whole benchmark, so differences are paired."
    )
    table = []
    for row in rows:
        cost = row.get("against_nothing")
        table.append(
            {
                "varies": "starts alone" if row["group"] == "nothing" else row["group"],
                "parameters": row["parameters"],
                "success": f"{row['success_rate']:.1%}",
                "95 % interval": "{:.1%} – {:.1%}".format(*row["interval_95"]),
                "against starts alone": f"{cost['difference']:+.1%}" if cost else "",
                "its interval": "{:+.1%} – {:+.1%}".format(*cost["interval_95"]) if cost else "",
                "p (Holm)": f"{cost['p']:.2g}" if cost else "",
            }
        )
    section.table(table)
    return section


def _speed(rows: Sequence[Mapping[str, Any]]) -> Section:
    section = Section("Speed against quality")
    shown = [row for row in rows if row["seconds_to_success"] is not None]
    if shown:
        with draw.Canvas(7.6, 3.4) as canvas:
            axes = canvas.axes[0]
            for row in shown:
                color = draw.ACCENT if row["pareto"] else draw.SOFT
                axes.plot([row["seconds_to_success"]], [row["success_rate"]], "o", color=color, markersize=6)
                axes.annotate(
                    _setting(row), (row["seconds_to_success"], row["success_rate"]), fontsize=7,
                    xytext=(5, 4), textcoords="offset points",
                )  # fmt: skip
            axes.set_xlabel("median time to success, s")
            axes.set_ylabel("success")
        section.figure(
            canvas.uri,
            "Success over the time to success, one point a setting; the front is in colour.",
            "In colour: no other setting is both as successful and as fast.",
        )
    section.table(
        [
            {
                "setting": _setting(row),
                "success": f"{row['success_rate']:.1%}",
                "95 % interval": "{:.1%} – {:.1%}".format(*row["interval_95"]),
                "s to success": row["seconds_to_success"],
                "on the front": row["pareto"],
            }
            for row in rows
        ]
    )
    return section


def _setting(row: Mapping[str, Any]) -> str:
    value = row["value"]
    if value is None:
        return str(row["setting"])
    if row["setting"] == "chunk":
        return "one action of a chunk" if value == 0 else f"{value:.0%} of a chunk"
    if row["setting"] == "latency":
        return f"latency {1000 * value:.0f} ms"
    return f"{row['setting']} {value:.0%}"


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
