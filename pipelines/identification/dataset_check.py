"""What is in a recorded data set, what looks wrong in it, and what it can be used for.

Every finding is computed from the recorded numbers: the metadata of recordings is often wrong.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.logs import arm_log, informative, left_out
from pipelines.identification.misplaced_zeros import misplaced
from pipelines.identification.recording_checks import (
    MOVING,
    contradicts,
    fastest,
    glitches,
    hand_guided,
    measured_rate,
    rate_doubt,
)
from sim2real.calibration import RADIANS_PER_TICK, Calibration
from sim2real.episode import Episode
from sim2real.errors import Sim2RealError, UserError
from sim2real.lerobot import LeRobotDataset, schema
from sim2real.lerobot.lag import lag
from sim2real.lerobot.reader import Converter
from sim2real.lerobot.units import UnitsFound
from sim2real.robot import Robot

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Loaded:
    """What could be read: episodes in radians by their position, and the reason for each that could not."""

    episodes: dict[int, Episode]
    broken: dict[int, str]
    convert: Converter
    units_problem: str | None
    """Why the units are not known; `convert` assumes some then."""
    calibration: Calibration | None


def check(
    dataset: LeRobotDataset,
    robot: Robot,
    *,
    calibration: str | None = None,
    units: str = "auto",
    tasks: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The whole report as plain values; see `sim2real data --json`. `tasks` are those to judge its use for.

    Raises UserError when joints do not match the robot, or nothing can be read.
    """
    dataset.require(schema.STATE)
    dataset.joint_order(schema.STATE, robot)
    has_action = schema.ACTION in dataset.features
    loaded = _load(dataset, robot, calibration, units)
    if not loaded.episodes and len(dataset):
        raise UserError(f"no episode of {dataset.root} can be read; {next(iter(loaded.broken.values()))}")
    episodes = loaded.episodes
    actions, states = ([getattr(e, name) for e in episodes.values()] for name in ("action", "state"))
    guided = has_action and hand_guided(actions, states) is not None
    joints = _joints(dataset, robot, loaded) if has_action and episodes else {}
    report: dict[str, Any] = {
        "path": str(dataset.root),
        "version": dataset.version,
        "robot_type": dataset.robot_type,
        "robot": robot.name,
        "episodes": len(dataset),
        "frames": sum(entry.length for entry in dataset.episodes),
        "seconds": sum(entry.length for entry in dataset.episodes) / dataset.fps,
        "tasks": list(dataset.tasks),
        "features": [name for name in dataset.features if name not in schema.MANDATORY],
        "cameras": list(dataset.cameras),
        "success": _success(dataset),
        "units": {
            "found": None if loaded.units_problem else loaded.convert.found.units,
            "why": loaded.units_problem or loaded.convert.found.reason,
        },
        "calibrated": loaded.calibration is not None,
        "rate_hz": _rate(dataset, list(episodes.values()), joints, guided),
        "hand_guided": guided,
        "joints": joints,
        "suspicious": _suspicious(dataset, loaded, robot),
    }
    report["notes"], useless = _as_replayed(dataset, robot, loaded)
    report["uses"] = _uses(dataset, report, tasks, robot.n, useless)
    return report


def _as_replayed(dataset: LeRobotDataset, robot: Robot, loaded: _Loaded) -> tuple[list[str], str | None]:
    """What `replay` and `identify` would remark, and why `identify` would refuse it, if it would."""
    if loaded.units_problem or schema.ACTION not in dataset.features:
        return [], None  # told elsewhere
    try:
        log = arm_log(
            dataset, loaded.convert, list(loaded.episodes.values()), left_out(list(loaded.broken.values()))
        )
    except UserError:
        return [], None  # likewise
    doubt = misplaced(log, robot)
    notes = [*log.remarks, *([doubt] if doubt else [])]
    try:
        used = informative(log, robot, str(dataset.root))
    except UserError as error:
        return notes, str(error)
    return [*notes, *used.remarks[len(log.remarks) :]], None


def _load(dataset: LeRobotDataset, robot: Robot, calibration: str | None, units: str) -> _Loaded:
    calibrated = dataset.calibration(robot, calibration)
    problem, convert = None, None
    try:
        convert = dataset.converter(robot, calibrated, units)
        calibrated = None if convert.source == "nominal" else convert.calibration
    except UserError as error:
        problem = str(error)
    if convert is None:
        # Lags and everything relative can be told all the same, taking ranges to be the URDF's.
        guess = UnitsFound("degrees" if units == "degrees" else "normalised", "assumed")
        convert = Converter(calibrated or Calibration.nominal(robot), guess, robot)
    episodes, broken = {}, {}
    for position in range(len(dataset)):
        try:
            if schema.ACTION in dataset.features:
                episodes[position] = dataset.episode(position, robot, convert)
            else:
                episodes[position] = _without_action(dataset, position, robot, convert)
        except Sim2RealError as error:
            broken[position] = str(error)
    return _Loaded(episodes, broken, convert, problem, calibrated)


def _without_action(dataset: LeRobotDataset, position: int, robot: Robot, convert: Converter) -> Episode:
    state = convert(dataset.joints(position, schema.STATE, robot))
    time = np.arange(len(state)) / dataset.fps
    return Episode(time=time, state=state, action=state, executed=state, fps=dataset.fps)


def _success(dataset: LeRobotDataset) -> dict[str, int]:
    labels = [entry.success for entry in dataset.episodes]
    return {
        "successes": sum(label is True for label in labels),
        "failures": sum(label is False for label in labels),
        "unknown": sum(label is None for label in labels),
    }


def _joints(dataset: LeRobotDataset, robot: Robot, loaded: _Loaded) -> dict[str, dict[str, Any]]:
    episodes = list(loaded.episodes.values())
    state = np.concatenate([episode.state for episode in episodes])
    action = np.concatenate([episode.action for episode in episodes])
    lower, upper = loaded.calibration.limits if loaded.calibration else (robot.lower, robot.upper)
    tick = 1.5 * RADIANS_PER_TICK
    report = {}
    for j, name in enumerate(robot.joint_names):
        # What was really sent, where the recording has it: requests are still to be smoothed and limited.
        frames, rms = lag([e.executed[:, j] for e in episodes], [e.state[:, j] for e in episodes])
        speed = np.concatenate([np.abs(np.diff(e.state[:, j])) for e in episodes]) * dataset.fps
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
            "lag_ms": _number(frames / dataset.fps * 1000),
            "rms_deg": _number(np.rad2deg(rms)),
            "clipped_state": at_end[0],
            "clipped_action": at_end[1],
            "beyond_urdf": float(beyond.mean()),
            "glitches": int(sum(glitches(e.state[:, j : j + 1], dataset.fps).sum() for e in episodes)),
        }
    return report


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None


def _rate(
    dataset: LeRobotDataset, episodes: list[Episode], joints: dict[str, Any], guided: bool
) -> dict[str, Any]:
    """The stated rate against what was measured, or else what lags and speeds allow."""
    rate: dict[str, Any] = {"stated": dataset.fps, "measured": None, "suggested": None, "note": ""}
    measured = measured_rate([episode.time for episode in episodes])
    captured = schema.TIME in dataset.features
    if measured is not None and (captured or contradicts(measured, dataset.fps)):
        stamps = "capture times" if captured else "timestamps"
        steps = np.concatenate([np.diff(episode.time) for episode in episodes])
        rate["measured"] = measured
        rate["jitter_ms_p99"] = float(np.nanquantile(np.abs(steps - np.nanmedian(steps)), 0.99) * 1000)
        rate["note"] = (
            f"{stamps} say {measured:.1f} Hz, not {dataset.fps:g} Hz"
            if contradicts(measured, dataset.fps)
            else f"{stamps} agree with the stated rate"
        )
        return rate
    lags = [j["lag_ms"] / 1000 for j in joints.values() if j["moves"] and j["lag_ms"] is not None]
    speed = fastest([episode.state for episode in episodes], dataset.fps)
    rate["suggested"], note = rate_doubt([] if guided else lags, speed, dataset.fps)
    rate["note"] = f"no capture times; {note}"
    return rate


def _suspicious(dataset: LeRobotDataset, loaded: _Loaded, robot: Robot) -> list[dict[str, Any]]:
    """Episodes that look wrong, each with the reasons."""
    found: dict[int, list[str]] = {position: [reason] for position, reason in loaded.broken.items()}
    lengths = [entry.length for entry in dataset.episodes]
    typical = float(np.median(lengths)) if lengths else 0.0
    trailing = {position: _trailing(episode, robot) for position, episode in loaded.episodes.items()}
    usual = float(np.median(list(trailing.values()))) if trailing else 0.0
    for position, episode in loaded.episodes.items():
        reasons = found.setdefault(position, [])
        if len(episode) < dataset.fps:
            reasons.append(f"only {len(episode)} frames ({len(episode) / dataset.fps:.1f} s)")
        elif not typical / 3 <= len(episode) <= typical * 3:
            reasons.append(f"{len(episode)} frames where others have {typical:.0f}")
        moved = np.ptp(episode.state, axis=0).max()
        if moved < np.deg2rad(1.0):
            reasons.append(f"nothing moves (at most {np.rad2deg(moved):.2f} deg)")
        reasons += _joint_faults(episode, dataset.fps, robot)
        if trailing[position] > max(3 * usual, np.deg2rad(5.0)):
            reasons.append(
                f"joints are {np.rad2deg(trailing[position]):.1f} deg (RMS) from their commands, "
                f"in other episodes {np.rad2deg(usual):.1f}"
            )
        for name in dataset.cameras:
            video = dataset.episodes[position].videos.get(schema.IMAGES + name)
            if video is None or not video.path.is_file():
                reasons.append(f"no pictures of the camera {name}")
    return [
        {"episode": dataset.episodes[position].index, "reasons": reasons}
        for position, reasons in sorted(found.items())
        if reasons
    ]


def _trailing(episode: Episode, robot: Robot) -> float:
    """RMS distance of the arm's joints from their commands, rad."""
    return float(np.sqrt(np.mean((episode.action - episode.state)[:, robot.arm] ** 2)))


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


def _uses(
    dataset: LeRobotDataset, report: dict[str, Any], tasks: tuple[str, ...], n: int, useless: str | None
) -> dict[str, Any]:
    """For each use whether it is possible, and what is missing."""
    missing = []
    if schema.ACTION not in dataset.features:
        missing.append("action: the commands were not recorded")
    if report["units"]["found"] is None:
        missing.append(f"units: {report['units']['why']}")
    elif not report["calibrated"] and report["units"]["found"] == "normalised":
        missing.append(
            "calibration.json of the arm (or --calibration FILE), which says what 100 % of a range are"
        )
    uses: dict[str, Any] = {"replay": _verdict(list(missing))}
    still = [name for name, joint in report["joints"].items() if not joint["moves"]]
    if still and len(still) == len(report["joints"]):
        missing.append("motion: no joint moves")
    elif useless:
        missing.append(f"information about the servos: {useless}")
    elif report["hand_guided"]:
        missing.append("commands: the arm was guided by hand, no servo was at work")
    note = f"{', '.join(still)} hardly move: nothing can be learned about them" if still else ""
    uses["identify"] = _verdict(list(missing), note)
    uses["finetune"] = {task: _finetune(dataset, report, task, n) for task in tasks}
    return uses


def _verdict(missing: list[str], note: str = "") -> dict[str, Any]:
    return {"possible": not missing, "missing": missing, "note": note}


def is_of_another_task(dataset: LeRobotDataset, task: str) -> bool:
    """Whether the episodes are those of shipped tasks, but not of this one. Free words decide nothing."""
    from sim2real.tasks.registry import task_names

    return bool(set(dataset.tasks) & set(task_names())) and task not in dataset.tasks


def _finetune(dataset: LeRobotDataset, report: dict[str, Any], task: str, n: int) -> dict[str, Any]:
    """Whether a policy of `task` can learn from it: everything that the policy observes must be there."""
    from sim2real.tasks.registry import load_task

    spec = dataset.features.get(schema.ENVIRONMENT)
    observed = set(schema.grouped(spec.names)) if spec and spec.names else set()
    from_joints = {"joint_position", "joint_velocity", "joint_command"}
    needed = [feature.name for feature in load_task(task, joints=n).features]
    missing = [name for name in needed if name not in from_joints | observed]
    problems = [f"{', '.join(missing)} in {schema.ENVIRONMENT}"] if missing else []
    if schema.ACTION not in dataset.features:
        problems.append("action")
    if is_of_another_task(dataset, task):
        problems.append(f"episodes of {task}: these are of {', '.join(dataset.tasks)}")
    if report["units"]["found"] is None:
        problems.append("units, or a calibration")
    success = report["success"]
    note = ""
    if success["failures"] and not success["successes"]:
        note = "no episode is marked as a success"
    elif success["unknown"]:
        note = f"nobody judged {success['unknown']} of {len(dataset)} episodes"
    return _verdict(problems, note)


def as_text(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"{report['path']}: LeRobot {report['version']}, {report['robot_type'] or 'robot not stated'}",
        f"  {report['episodes']} episodes, {report['frames']} frames, {report['seconds']:.0f} s; "
        f"tasks: {', '.join(report['tasks']) or 'none'}",
        f"  features: {', '.join(report['features'])}",
        f"  success: {report['success']['successes']} yes, {report['success']['failures']} no, "
        f"{report['success']['unknown']} not judged",
        f"  units: {report['units']['found'] or 'unknown'} ({report['units']['why']})",
        f"  rate: {report['rate_hz']['stated']:g} Hz stated; {report['rate_hz']['note'] or 'not checked'}",
    ]
    suggested = report["rate_hz"]["suggested"]
    if suggested and contradicts(suggested, report["rate_hz"]["stated"]):
        lines.append(f"        the data suggest about {suggested:.1f} Hz")
    if not report["calibrated"]:
        lines.append("  no calibration: angles below take the ranges to be the URDF's")
    lines += [f"  note: {note}" for note in report["notes"]]
    if report["hand_guided"]:
        lines.append("  hand-guided: action[t] == state[t+1], no servo followed a command")
    if report["joints"]:
        lines += ["", _JOINT_HEADER]
        lines += [_joint_line(name, joint) for name, joint in report["joints"].items()]
        lines.append(_JOINT_NOTE)
    if report["suspicious"]:
        lines += ["", "episodes that look wrong:"]
        lines += [f"  {e['episode']}: {'; '.join(e['reasons'])}" for e in report["suspicious"]]
    else:
        lines += ["", "no episode looks wrong"]
    lines += ["", "can be used for:"]
    uses = report["uses"]
    flat = {"replay": uses["replay"], "identify": uses["identify"]} | {
        f"finetune ({task})": verdict for task, verdict in uses["finetune"].items()
    }
    width = max(map(len, flat))
    for name, verdict in flat.items():
        text = "yes" if verdict["possible"] else "no, it lacks " + "; ".join(verdict["missing"])
        note = f" ({verdict['note']})" if verdict["note"] and verdict["possible"] else ""
        lines.append(f"  {name:{width}}  {text}{note}")
    return "\n".join(lines)


_JOINT_HEADER = (
    f"{'joint':15}{'range deg':>16}{'p95 deg/s':>11}{'lag frames':>12}{'ms':>6}{'rms deg':>9}"
    f"{'clipped':>9}{'cmd':>7}{'>URDF':>7}{'glitches':>10}"
)
_JOINT_NOTE = (
    "lag: delay of the state behind the command, rms: what it leaves unexplained; clipped, cmd: states and "
    "commands at an end\nof the calibrated range; >URDF: states beyond the URDF's limits"
)


def _joint_line(name: str, joint: dict[str, Any]) -> str:
    low, high = joint["range_deg"]
    lagging = [
        "-" if joint[key] is None else f"{joint[key]:{form}}"
        for key, form in (("lag_frames", ".2f"), ("lag_ms", ".0f"), ("rms_deg", ".2f"))
    ]
    return (
        f"{name:15}{f'{low:.1f} … {high:.1f}':>16}{joint['speed_p95_deg_s']:>11.0f}"
        f"{lagging[0]:>12}{lagging[1]:>6}{lagging[2]:>9}"
        f"{joint['clipped_state']:>9.1%}{joint['clipped_action']:>7.1%}{joint['beyond_urdf']:>7.1%}"
        f"{joint['glitches']:>10}"
    )
