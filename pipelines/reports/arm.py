"""The report of a run on an arm (`deploy`, `record`): success, faults, timing, and what the joints did."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.page import Section
from pipelines.reports import figures as draw
from pipelines.reports.training import rate_tile
from sim2real.files import read_json

_PLOTTED = 3
"""Episodes whose joints are drawn."""

_STATES = {
    "limp": "#d5dae0", "arming": "#b8cfe0", "hold": "#9bbcd0", "running": draw.ACCENT, "degraded": draw.SECOND,
    "stopping": "#c9b3dc", "settling": "#a9c7b3", "fault_hold": draw.BAD, "limp_fault": "#7d3423",
}  # fmt: skip


def sections(directory: Path) -> list[Section]:
    """Sections from `result.json`, `episodes.parquet`, `log.parquet`; a recording adds what its data set holds."""
    result: Mapping[str, Any] = read_json(path) if (path := directory / "result.json").exists() else {}
    episodes, log = _table(directory / "episodes.parquet"), _table(directory / "log.parquet")
    found = [_outcome(result, episodes)] if result else []
    if log is not None and len(log["t"]):
        found.append(_timing(result, log))
        found += _joints(log, episodes)
    if (directory / "meta" / "info.json").exists():
        found.append(dataset(directory))
    if not found:
        empty = Section("Run")
        empty.text("This run has written no results yet.", "note")
        found.append(empty)
    return found


def dataset(directory: Path) -> Section:
    """What a LeRobot data set holds, in the words of `sim2real data`."""
    from pipelines.identification.dataset_check import check
    from pipelines.identification.dataset_text import as_text
    from sim2real.lerobot import LeRobotDataset
    from sim2real.lerobot.robots import robot_of
    from sim2real.tasks.registry import task_names

    data = LeRobotDataset.open(directory)
    section = Section("The data set")
    robot, remark = robot_of(data)
    section.code(as_text(check(data, robot, tasks=tuple(task_names()), remarks=[remark] if remark else ())))
    return section


def _table(path: Path) -> dict[str, Any] | None:
    """Columns of a parquet file as arrays (numbers) or lists; None where there is no file."""
    if not path.exists():
        return None
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    columns: dict[str, Any] = {}
    for name in table.column_names:
        values = table[name].to_pylist()
        numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        columns[name] = np.asarray(values, np.float64) if numeric else values
    return columns


def _outcome(result: Mapping[str, Any], episodes: Mapping[str, Any] | None) -> Section:
    section = Section("Success")
    tiles = [rate_tile(result, "success")]
    if result.get("unknown"):
        tiles.append((str(result["unknown"]), "", "episodes that nobody could judge; they count neither way"))
    tiles.append((str(result["final_state"]).replace("_", " "), "", "how the arm was left"))
    tiles.append((str(len(result["faults"])), "", "faults"))
    section.tiles(tiles)
    if result.get("dry_run"):
        section.text("A dry run: everything but motion.", "bad")
    for fault in result["faults"]:
        section.text(f"Fault: {fault}", "bad")
    if episodes:
        names = {
            "episode": "episode",
            "success": "success",
            "judge": "judged by",
            "estimate": "own estimate",
            "seconds": "s",
            "clipped": "ticks limited by the gate",
            "rejected": "requests rejected",
            "note": "note",
        }
        rows = []
        for i in range(len(episodes["episode"])):
            row = {label: _plain(episodes[key][i]) for key, label in names.items() if key in episodes}
            goal = episodes.get("goal")
            if goal is not None and goal[i] is not None:
                row["goal (m)"] = ", ".join(f"{v:.3f}" for v in goal[i])
            rows.append(row)
        if not any(row.get("note") for row in rows):
            rows = [{k: v for k, v in row.items() if k != "note"} for row in rows]
        section.heading("Episodes")
        section.table(rows)
    return section


def _timing(result: Mapping[str, Any], log: Mapping[str, Any]) -> Section:
    section = Section("The control loop")
    if result.get("rate_hz"):
        error = result["period_error_ms"]
        section.tiles(
            [
                (f"{result['rate_hz']:.2f} Hz", "", "mean rate"),
                (f"{error['p50']:.2f} ms", "", "period error, median"),
                (f"{error['p99']:.2f} ms", "", "period error, 99th percentile"),
                (f"{error['max']:.2f} ms", "", "period error, largest"),
                (str(result["overruns"]), "", "periods skipped"),
            ]
        )
        if result.get("latency_ms", {}).get("p50") is not None:
            latency = result["latency_ms"]
            section.text(
                f"The policy took {latency['p50']:.1f} ms from observation to chunk in the median, "
                f"{latency['max']:.1f} ms at most; {result['commands']} commands were sent, "
                f"{result['clipped']} limited and {result['rejected']} rejected by the gate."
            )
    energised = np.array([state in ("hold", "running", "degraded", "arming") for state in log["state"]])
    if energised.sum() > 10:
        section.figure(
            draw.histogram(
                1e3 * log["period_error"][energised], x_label="period error (ms)", y_label="ticks"
            ),
            "Histogram of period errors",
            "How far each period was from the nominal one, while the arm was held or moved; counts are logarithmic.",
        )
    section.figure(
        _timeline(log), "States of the supervisor over time", "What the supervisor allowed, over the run."
    )
    return section


def _timeline(log: Mapping[str, Any]) -> str:
    t = log["t"] - log["t"][0]
    states = np.array(log["state"])
    changes = np.flatnonzero(np.concatenate(([True], states[1:] != states[:-1])))
    ends = np.append(t[changes[1:]], t[-1])
    with draw.Canvas(9.4, 1.15) as c:
        ax = c.axes[0]
        seen = set()
        for i, end in zip(changes, ends):
            name = str(states[i])
            ax.broken_barh(
                [(t[i], max(end - t[i], 1e-3))], (0, 1), color=_STATES.get(name, draw.SOFT), lw=0,
                label=None if name in seen else name.replace("_", " "),
            )  # fmt: skip
            seen.add(name)
        ax.set_yticks([])
        ax.set_xlim(0, t[-1])
        ax.set_xlabel("time (s)")
        ax.grid(visible=False)
        c.figure.legend(loc="outside upper center", ncols=len(seen), handlelength=1.0)
    return c.uri


def _joints(log: Mapping[str, Any], episodes: Mapping[str, Any] | None) -> list[Section]:
    joints = [name.removeprefix("position.") for name in log if name.startswith("position.")]
    running = np.array([state in ("running", "degraded") for state in log["state"]])
    # Moves between the episodes, say back home, have number -1.
    numbers = [int(e) for e in np.unique(log["episode"][running]) if e >= 0]
    if not joints or not numbers:
        return []
    outcome = dict(zip(episodes["episode"], episodes["success"])) if episodes else {}
    # Failures teach more than successes.
    order = sorted(numbers, key=lambda e: (outcome.get(e) is not False, e))[:_PLOTTED]
    section = Section("Joints")
    for number in sorted(order):
        rows = running & (log["episode"] == number)
        t = log["t"][rows] - log["t"][rows][0]
        series = [
            (
                joint,
                [
                    (label, np.degrees(log[f"{key}.{joint}"][rows]))
                    for key, label in (
                        ("position", "measured"),
                        ("executed", "sent"),
                        ("requested", "asked for"),
                    )
                ],
            )
            for joint in joints
        ]
        verdict = {True: "succeeded", False: "failed"}.get(outcome.get(number), "not judged")  # type: ignore[arg-type]
        section.heading(f"Episode {number}: {verdict}")
        section.figure(
            draw.panels(t, series, x_label="time (s)", y_label="degrees", least_span=2.0),
            f"Joint angles of episode {number}",
        )
    if len(numbers) > len(order):
        section.text(f"Drawn are {len(order)} of {len(numbers)} episodes, failed ones first.", "note")
    return [section]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else round(float(value), 2)
    return value
