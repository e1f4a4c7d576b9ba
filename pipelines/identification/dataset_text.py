"""The report on a data set for people."""

from typing import Any

from pipelines.identification.episodes import grouped


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
    likely = report["rate_hz"]["likely"]
    if likely and report["rate_hz"]["suggested"] is None:
        lines.append(
            f"        the true rate lies between {likely[0]:.0f} and {likely[1]:.0f} Hz if the servos are as quick as "
            "such servos are; give it with --fps if you know it"
        )
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
        reasons = [(e["episode"], reason) for e in report["suspicious"] for reason in e["reasons"]]
        lines += [f"  {line}" for line in grouped(reasons)]
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
    f"{'joint':15}{'range deg':>16}{'p95 deg/s':>11}{'lag frames':>12}{'ms':>6}{'rms deg':>9}{'gain':>7}"
    f"{'clipped':>9}{'cmd':>7}{'>URDF':>7}{'glitches':>10}"
)
_JOINT_NOTE = (
    "lag: delay of the state behind the command, rms: what it leaves unexplained; gain: how far the state goes for "
    "what the\ncommand goes; clipped, cmd: states and commands at an end of the calibrated range; >URDF: states "
    "beyond the URDF's limits"
)


def _joint_line(name: str, joint: dict[str, Any]) -> str:
    low, high = joint["range_deg"]
    lagging = [
        "-" if joint[key] is None else f"{joint[key]:{form}}"
        for key, form in (("lag_frames", ".2f"), ("lag_ms", ".0f"), ("rms_deg", ".2f"), ("gain", ".3g"))
    ]
    return (
        f"{name:15}{f'{low:.1f} … {high:.1f}':>16}{joint['speed_p95_deg_s']:>11.0f}"
        f"{lagging[0]:>12}{lagging[1]:>6}{lagging[2]:>9}{lagging[3]:>7}"
        f"{joint['clipped_state']:>9.1%}{joint['clipped_action']:>7.1%}{joint['beyond_urdf']:>7.1%}"
        f"{joint['glitches']:>10}"
    )
