"""What comes of a run on an arm: its result as JSON, as files and as a few lines for people."""

import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.supervisor import CODES, ENERGISED, Action, Phase
from hardware.runtime.recording.ticklog import TickLog
from hardware.runtime.sessions.playback import Playback
from hardware.runtime.sessions.session import AT_TERMINAL, Session
from pipelines.deployment.request import OWN, Options, Setup
from pipelines.runs import described, set_aside
from sim2real.files import write_json
from sim2real.statistics import wilson_interval

Array = NDArray[np.float64]

PERIOD_KEYS = ("p50", "p99", "max")
LATENCY_KEYS = ("mean", "p50", "p95", "p99", "max")


def empty_result(setup: Setup, phase: Phase) -> dict[str, Any]:
    """The result of a run in which nothing has happened yet, and nothing been written: every key that there is."""
    nothing = np.zeros(0)
    counts = ("episodes", "successes", "unknown", "commands", "clipped", "rejected", "overruns", "chunks")
    return {name: 0 for name in (*counts, "expired", "refused", "bus_errors")} | {
        "success_rate": None,
        "wilson_95": list(wilson_interval(0, 0)),
        "rate_hz": None,
        "period_error_ms": _spread(nothing, PERIOD_KEYS),
        "faults": [],
        "final_state": phase.value,
        "stopped": "",
        "strangers": "",
        "task": setup.name,
        "robot": setup.robot.name,
        "policy": setup.actor,
        "dry_run": setup.options.dry_run,
        "seconds": 0.0,
        "interventions": 0,
        "corrected_episodes": 0,
        "trials": [],
        "policy_sha256": (setup.policy or {}).get("sha256"),
        "latency_ms": _spread(nothing, LATENCY_KEYS),
        "privileges": {},
        "out": None,
    }


def result_of(
    setup: Setup, session: Session, log: TickLog, seconds: float, privileges: Mapping[str, bool]
) -> dict[str, Any]:
    """The JSON of the command after a session of `seconds` s that left `log`."""
    loop = session.loop
    results = session.results
    # What a person has helped with is no success of the policy's.
    successes = sum(r.success is True and not r.interventions for r in results)
    judged = sum(r.success is not None for r in results)
    counts = loop.counts
    columns = log.columns()
    energised = np.isin(columns["phase"], [CODES[phase] for phase in ENERGISED])
    errors = columns["period_error"][energised]
    return empty_result(setup, loop.phase) | {
        "episodes": len(results),
        "successes": successes,
        "success_rate": successes / judged if judged else None,
        "wilson_95": list(wilson_interval(successes, judged)),
        "unknown": len(results) - judged,
        "interventions": sum(r.interventions for r in results),
        "corrected_episodes": sum(r.success is True and r.interventions > 0 for r in results),
        "trials": [asdict(r) for r in results],
        "rate_hz": float(1 / (loop.pace.period + errors.mean())) if len(errors) else None,
        "period_error_ms": _spread(np.abs(errors), PERIOD_KEYS),
        "commands": counts.commands,
        "clipped": counts.clipped,
        "rejected": counts.rejected,
        "overruns": counts.overruns,
        "faults": list(loop.faults),
        "stopped": session.stopped,
        "seconds": round(seconds, 3),
        "latency_ms": _spread(np.array(counts.latencies), LATENCY_KEYS),
        "chunks": counts.chunks,
        "expired": counts.expired,
        "refused": counts.refused,
        "bus_errors": counts.bus_errors,
        "privileges": dict(privileges),
        "out": setup.options.out,
    }


def played(session: Playback) -> dict[str, Any]:
    """What the JSON of `play` says besides: how well the arm followed, in degrees by joint, and interventions."""
    tracking, names = session.tracking(), session.loop.robot.joint_names

    def degrees(values: Array) -> dict[str, float]:
        return {name: round(float(np.degrees(value)), 3) for name, value in zip(names, values)}

    counts = {
        name: count
        for name, count in session.loop.goals.gates[Action.FOLLOW].counts.items()
        # What smooths the jerk changes every motion a little.
        if count > 0 and name not in ("ticks", "jerk")
    }
    if tracking is None:
        return {
            "tracking_rms_deg": None,
            "tracking_max_deg": None,
            "apart_rms_deg": None,
            "interventions": counts,
        }
    return {
        "tracking_rms_deg": degrees(tracking.lag_rms),
        "tracking_max_deg": degrees(tracking.lag_max),
        "apart_rms_deg": degrees(tracking.apart_rms),
        "interventions": counts,
    }


def status(session: Session) -> int:
    """The exit status after a session."""
    if session.loop.state.fault is not None or session.loop.faults:
        return 1
    if session.interrupted:
        return status_of(signal.Signals(session.interrupted))
    if session.stopped == AT_TERMINAL and session.plan.open_ended:
        return 0  # that is how such a session ends
    return 130 if session.stopped else 0


def write(result: Mapping[str, Any], setup: Setup, options: Options, session: Session, log: TickLog) -> None:
    """result.json, config.json and the logs, what an earlier recording has left of them being set aside.

    A full disk costs the files, not the result.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    settings = asdict(options) | {
        "task": setup.name,
        "robot": setup.robot.name,
        "policy_file": setup.policy,
    }
    config = described(options.command, seed=options.seed, settings=settings) | {"policy": setup.actor}
    out = Path(options.out)
    rows = [asdict(r) for r in session.results]
    try:
        if options.adds:
            set_aside(out, OWN)
        write_json(out / "config.json", config)
        if rows:
            pq.write_table(pa.Table.from_pylist(rows), out / "episodes.parquet")
        if len(log):
            pq.write_table(log.table(), out / "log.parquet")
        write_json(out / "result.json", result)
    except OSError as error:
        say(f"could not write to {out}: {error}")


def status_of(number: signal.Signals) -> int:
    """The exit status after a signal: 130 for Ctrl-C, as shells have it for the others."""
    return 128 + int(number)


def _spread(values: Array, keys: tuple[str, ...]) -> dict[str, float | None]:
    """Mean, percentiles and maximum in ms of values in s; null where there are none."""
    spread: dict[str, float | None] = {}
    for key in keys:
        if len(values) == 0:
            spread[key] = None
        elif key == "mean":
            spread[key] = round(float(values.mean()) * 1000, 4)
        else:
            quantile = 100.0 if key == "max" else float(key[1:])
            spread[key] = round(float(np.percentile(values, quantile)) * 1000, 4)
    return spread


def say(text: str) -> None:
    """Tell people something without touching the result on standard output."""
    print(text, file=sys.stderr, flush=True)


def summary(result: Mapping[str, Any]) -> str:
    """The result in a few lines, for people."""
    rate = result["success_rate"]
    low, high = result["wilson_95"]
    error = result["period_error_ms"]
    lines, took_over = [], result["interventions"]
    if "tracking_rms_deg" in result:
        # Interventions of what is played are the gate's.
        lines, took_over = _played_lines(result), 0
    lines += [
        f"episodes    {result['episodes']}, {result['successes']} succeeded"
        + (f" ({rate:.0%}, 95 % interval {low:.0%} to {high:.0%})" if rate is not None else "")
        + (f", {result['unknown']} unknown" if result["unknown"] else "")
        + (
            f"; a person took over {took_over} times, with success in {result['corrected_episodes']} more"
            if took_over
            else ""
        ),
        f"loop        {result['rate_hz'] or 0:.1f} Hz, period error p50 {error['p50']} ms, p99 {error['p99']} ms, "
        f"max {error['max']} ms, {result['overruns']} periods skipped",
        f"commands    {result['commands']}, {result['clipped']} clipped, {result['rejected']} rejected",
        *_recorded_lines(result),
        f"faults      {'; '.join(result['faults']) or 'none'}",
        *([f"ended       {result['stopped']}"] if result["stopped"] and not result["faults"] else []),
        f"the arm is  {result['final_state']}",
        f"written to  {result['out']}" if result["out"] else "nothing was written",
    ]
    return "\n".join(lines)


def _recorded_lines(result: Mapping[str, Any]) -> list[str]:
    if "recorded" not in result:
        return []
    lost = [
        f"{result[key]} {what} LOST"
        for key, what in (("lost_frames", "frames"), ("lost_pictures", "pictures"))
        if result[key]
    ]
    return [f"recorded    {len(result['recorded'])} episodes" + "".join(f", {text}" for text in lost)]


def _played_lines(result: Mapping[str, Any]) -> list[str]:
    if result["tracking_rms_deg"] is None:
        return ["nothing was played"]
    lines = ["joint             sent - is, rms     max   is - recorded, rms"]
    for name, rms in result["tracking_rms_deg"].items():
        lines.append(
            f"{name:16}  {rms:12.2f}° {result['tracking_max_deg'][name]:6.2f}° {result['apart_rms_deg'][name]:16.2f}°"
        )
    interventions = ", ".join(f"{name} {count}" for name, count in result["interventions"].items())
    return [*lines, f"gate        {interventions or 'left everything as it was'}"]
