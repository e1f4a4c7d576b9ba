"""What is in a recorded data set, what looks wrong in it, and what it can be used for.

Every finding is computed from the recorded numbers: the metadata of recordings is often wrong.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.episodes import Readings, grouped, not_following, read_episodes
from pipelines.identification.following import follow, is_gain
from pipelines.identification.holding import without_held
from pipelines.identification.logs import arm_log, informative
from pipelines.identification.misplaced_zeros import misplaced
from pipelines.identification.recording_checks import (
    MOVING,
    contradicts,
    doubtful,
    fastest,
    glitches,
    hand_guided,
    likely_rates,
    measured_rate,
)
from pipelines.identification.uses import uses_of
from sim2real.calibration import RADIANS_PER_TICK, Calibration
from sim2real.episode import Episode
from sim2real.errors import UserError
from sim2real.lerobot import LeRobotDataset, schema
from sim2real.lerobot.lag import lag
from sim2real.lerobot.reader import Converter
from sim2real.lerobot.units import UnitsFound
from sim2real.robot import Robot

Array = NDArray[np.float64]


def check(
    dataset: LeRobotDataset,
    robot: Robot,
    *,
    calibration: str | None = None,
    units: str = "auto",
    tasks: tuple[str, ...] = (),
    episodes: str | None = None,
    fps: float | None = None,
    remarks: Sequence[str] = (),
) -> dict[str, Any]:
    """The whole report as plain values; see `sim2real data --json`.

    `tasks` are those to judge its use for; `episodes` chooses some as in `LeRobotDataset.select`, `fps` (Hz) overrules
    the stated rate and the time stamps; `remarks` are what is known already. Raises UserError when joints do not match
    the robot, or nothing can be read.
    """
    dataset.require(schema.STATE)
    dataset.joint_order(schema.STATE, robot)
    commands = schema.ACTION in dataset.features
    positions = dataset.select(episodes) if len(dataset) else ()
    calibrated = dataset.calibration(robot, calibration)
    convert, units_problem = _converter(dataset, robot, calibrated, units)
    if not units_problem:
        calibrated = None if convert.source == "nominal" else convert.calibration
    chosen = positions if episodes is not None else None
    readings = read_episodes(dataset, robot, convert, positions=chosen, fps=fps, commands=commands)
    if positions:
        readings.require_any()
    loaded = readings.episodes
    actions, states = ([getattr(e, name) for e in loaded.values()] for name in ("action", "state"))
    guided = commands and hand_guided(actions, states) is not None
    joints = _joints(readings, robot, calibrated) if commands and loaded else {}
    frames = sum(dataset.episodes[position].length for position in positions)
    success, unread = _success(dataset, positions)
    report: dict[str, Any] = {
        "path": str(dataset.root),
        "version": dataset.version,
        "robot_type": dataset.robot_type,
        "robot": robot.name,
        "episodes": len(positions),
        "frames": frames,
        "seconds": sum(len(episode) / episode.fps for episode in loaded.values())
        + sum(max(dataset.episodes[position].length, 0) for position in readings.broken) / readings.rate,
        "tasks": list(dataset.tasks),
        "features": [name for name in dataset.features if name not in schema.MANDATORY],
        "cameras": list(dataset.cameras),
        "success": success,
        "units": {
            "found": None if units_problem else convert.found.units,
            "why": units_problem or convert.found.reason,
        },
        "calibrated": calibrated is not None,
        "rate_hz": _rate(readings, joints, guided, fps),
        "hand_guided": guided,
        "not_following": not_following(readings, robot) if joints else None,
        "joints": joints,
        "suspicious": _suspicious(readings, robot),
    }
    notes, replay, identify = _as_replayed(readings, robot, units_problem)
    report["notes"] = [*remarks, *unread, *notes]
    report["uses"] = uses_of(dataset, report, tasks, robot.n, replay=replay, identify=identify)
    return report


def _as_replayed(
    readings: Readings, robot: Robot, units_problem: str | None
) -> tuple[list[str], str | None, str | None]:
    """What `replay` and `identify` would remark, and why each would refuse the data set, if it would.

    But not what they leave out: that is among what looks wrong.
    """
    remarks = list(readings.remarks)
    if units_problem or schema.ACTION not in readings.dataset.features:
        return remarks, None, None  # told elsewhere
    try:
        log = arm_log(readings, remarks)
    except UserError as error:
        return remarks, str(error), str(error)
    doubt = misplaced(log, robot)
    notes = [*log.remarks, *([doubt] if doubt else [])]
    try:
        used = without_held(informative(log, robot, str(readings.dataset.root)), robot)
    except UserError as error:
        return notes, None, str(error)
    return [*notes, *used.remarks[len(log.remarks) :]], None, None


def _converter(
    dataset: LeRobotDataset, robot: Robot, calibration: Calibration | None, units: str
) -> tuple[Converter, str | None]:
    """What takes stored values to radians, and why the units are not known; it assumes some then."""
    try:
        return dataset.converter(robot, calibration, units), None
    except UserError as error:
        # Lags and everything relative can be told all the same, taking ranges to be the URDF's.
        guess = UnitsFound("degrees" if units == "degrees" else "normalised", "assumed")
        return Converter(calibration or Calibration.nominal(robot), guess, robot), str(error)


def _success(dataset: LeRobotDataset, positions: Sequence[int]) -> tuple[dict[str, int], list[str]]:
    """How many episodes succeeded, failed, and are not judged; and the labels that cannot be read."""
    labels = {position: dataset.success(position) for position in positions}
    counts = {
        "successes": sum(label is True for label, _ in labels.values()),
        "failures": sum(label is False for label, _ in labels.values()),
        "unknown": sum(label is None for label, _ in labels.values()),
    }
    unread = grouped(
        (dataset.episodes[p].index, f"not judged: {why}") for p, (_, why) in labels.items() if why
    )
    return counts, unread


def _joints(readings: Readings, robot: Robot, calibration: Calibration | None) -> dict[str, dict[str, Any]]:
    episodes = [episode for episode in readings.episodes.values() if episode.fps == readings.rate]
    fps = readings.rate
    state = np.concatenate([episode.state for episode in episodes])
    action = np.concatenate([episode.action for episode in episodes])
    lower, upper = calibration.limits if calibration else (robot.lower, robot.upper)
    tick = 1.5 * RADIANS_PER_TICK
    gains = follow([e.executed for e in episodes], [e.state for e in episodes], fps).gain
    report = {}
    for j, name in enumerate(robot.joint_names):
        # What was really sent, where the recording has it: requests are still to be smoothed and limited.
        frames, rms = lag([e.executed[:, j] for e in episodes], [e.state[:, j] for e in episodes])
        speed = np.concatenate([np.abs(np.diff(e.state[:, j])) for e in episodes]) * fps
        at_end = [
            float(np.mean((values[:, j] <= lower[j] + tick) | (values[:, j] >= upper[j] - tick)))
            for values in (state, action)
        ]
        beyond = (state[:, j] < robot.lower[j] - tick) | (state[:, j] > robot.upper[j] + tick)
        report[name] = {
            "range_deg": [float(np.rad2deg(state[:, j].min())), float(np.rad2deg(state[:, j].max()))],
            "moves": bool(max(np.ptp(episode.state[:, j]) for episode in episodes) > MOVING),
            "speed_p95_deg_s": float(np.rad2deg(np.quantile(speed, 0.95))) if len(speed) else 0.0,
            "speed_max_deg_s": float(np.rad2deg(speed.max(initial=0.0))),
            "lag_frames": _number(frames),
            "lag_ms": _number(frames / fps * 1000),
            "rms_deg": _number(np.rad2deg(rms)),
            "gain": _number(gains[j]),
            "clipped_state": at_end[0],
            "clipped_action": at_end[1],
            "beyond_urdf": float(beyond.mean()),
            "glitches": int(sum(glitches(e.state[:, j : j + 1], fps).sum() for e in episodes)),
        }
    return report


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None


def _rate(readings: Readings, joints: dict[str, Any], guided: bool, told: float | None) -> dict[str, Any]:
    """The stated rate against what was measured, or else what lags and speeds allow: bounds, not an estimate.

    "used" is the rate of most episodes, "likely" the bounds (Hz), "suggested" the stated rate where it lies within.
    """
    dataset, fps = readings.dataset, readings.dataset.fps
    rate: dict[str, Any] = {
        "stated": fps, "used": readings.rate, "measured": None, "suggested": None, "likely": None, "note": "",
    }  # fmt: skip
    if told is not None:
        return rate | {"note": f"{told:g} Hz by --fps, whatever the time stamps say"}
    timed = [e for e in readings.episodes.values() if e.info["clock"] and e.fps == readings.rate]
    measured = measured_rate([episode.time for episode in timed])
    captured = schema.TIME in dataset.features and any(e.info["clock"] == schema.TIME for e in timed)
    if measured is not None and (captured or contradicts(measured, fps)):
        stamps = "capture times" if captured else "timestamps"
        steps = np.concatenate([np.diff(episode.time) for episode in timed])
        rate["measured"] = measured
        rate["jitter_ms_p99"] = float(np.nanquantile(np.abs(steps - np.nanmedian(steps)), 0.99) * 1000)
        rate["note"] = (
            f"{stamps} say {measured:.1f} Hz, not {fps:g} Hz; the stamps are used"
            if contradicts(measured, fps)
            else f"{stamps} agree with the stated rate"
        )
        return rate
    lags = [
        j["lag_ms"] / 1000
        for j in joints.values()
        if j["moves"] and j["lag_ms"] is not None and (j["gain"] is None or is_gain(j["gain"]))
    ]
    speed = fastest([episode.state for episode in readings.episodes.values()], fps)
    bounds, note = likely_rates([] if guided else lags, speed, fps)
    if bounds is not None:
        rate["likely"] = list(bounds)
        rate["suggested"] = None if doubtful(fps, bounds) else fps
    rate["note"] = f"no capture times; {note}"
    return rate


def _suspicious(readings: Readings, robot: Robot) -> list[dict[str, Any]]:
    """Episodes that look wrong, each with the reasons."""
    dataset, loaded = readings.dataset, readings.episodes
    found: dict[int, list[str]] = {position: [reason] for position, reason in readings.broken.items()}
    lengths = [len(episode) for episode in loaded.values()]
    typical = float(np.median(lengths)) if lengths else 0.0
    trailing = {position: _trailing(episode) for position, episode in loaded.items()}
    usual = np.median(list(trailing.values()), axis=0) if trailing else np.zeros(robot.n)
    for position, episode in loaded.items():
        reasons = found.setdefault(position, [])
        if len(episode) < episode.fps:
            reasons.append(f"only {len(episode)} frames ({len(episode) / episode.fps:.1f} s)")
        elif not typical / 3 <= len(episode) <= typical * 3:
            reasons.append(f"{len(episode)} frames where others have {typical:.0f}")
        moved = np.ptp(episode.state, axis=0).max()
        if moved < np.deg2rad(1.0):
            reasons.append(f"nothing moves (at most {np.rad2deg(moved):.2f} deg)")
        reasons += _joint_faults(episode, episode.fps, robot)
        far = [int(j) for j in robot.arm if trailing[position][j] > max(3 * usual[j], np.deg2rad(5.0))]
        if far:
            told = ", ".join(
                f"{robot.joint_names[j]} {np.rad2deg(trailing[position][j]):.1f} ({np.rad2deg(usual[j]):.1f})"
                for j in far
            )
            reasons.append(f"joints are far from their commands, degrees RMS (usually): {told}")
        pictures = (dataset.without_pictures(position, name) for name in dataset.cameras)
        reasons += [why for why in pictures if why is not None]
    return [
        {"episode": dataset.episodes[position].index, "reasons": reasons}
        for position, reasons in sorted(found.items())
        if reasons
    ]


def _trailing(episode: Episode) -> Array:
    """(n,) RMS distance of the joints from their commands, rad."""
    return np.asarray(np.sqrt(np.mean((episode.action - episode.state) ** 2, axis=0)))


def _joint_faults(episode: Episode, fps: float, robot: Robot) -> list[str]:
    reasons = []
    for j, name in enumerate(robot.joint_names):
        wrong = np.flatnonzero(glitches(episode.state[:, j : j + 1], fps))
        if len(wrong):
            reasons.append(f"{name} jumps for a single frame {len(wrong)} x, first at frame {wrong[0]}")
        # A reading that stays while the command goes far: the servo did not answer, or is unplugged.
        still = _longest_run(episode.state[:, j])
        if still and j != robot.gripper:
            start, end = still
            travel = float(np.ptp(episode.action[start:end, j]))
            if end - start >= fps and travel > np.deg2rad(15.0):
                reasons.append(
                    f"{name} reads the same for {(end - start) / fps:.1f} s from frame {start} on while its "
                    f"command moves {np.rad2deg(travel):.0f} deg"
                )
    return reasons


def _longest_run(values: Array) -> tuple[int, int] | None:
    """Start and end of the longest stretch of equal values."""
    if not len(values):
        return None
    edges = np.flatnonzero(np.diff(values) != 0) + 1
    bounds = np.concatenate([[0], edges, [len(values)]])
    longest = int(np.argmax(np.diff(bounds)))
    return int(bounds[longest]), int(bounds[longest + 1])
