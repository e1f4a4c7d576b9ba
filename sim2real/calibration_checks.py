"""What is wrong with a calibration table: everything, in words for people, not just the first thing."""

from collections.abc import Mapping
from typing import Any

from sim2real.joint_names import arms_of, joint_of
from sim2real.robot import Robot

RESOLUTION = 4096
"""Ticks per turn of the servos' encoders."""

TICKS_PER_RADIAN = RESOLUTION / 6.283185307179586

SPAN_MARGIN = 1.35
"""How much wider than the URDF's limits a calibrated range may be.

Real arms go beyond the nominal limits: their spans are up to 1.24 times the URDF's. A wrapped encoder gives
4094 or 4095 ticks, at least 1.5 times what any joint but a wrist roll can turn.
"""

GRIPPER_MARGIN = 1.6
"""As SPAN_MARGIN for grippers: how far they open is a matter of the print. Real ones have up to 1.46 times the URDF's
span; a wrapped encoder would be three times."""

SPAN_WANTED = 0.85
"""Share of the URDF's span that a calibrated range should have: real ones have at least 0.9."""

FIELDS = ("id", "drive_mode", "homing_offset", "range_min", "range_max")

REVERSING = ("dynamixel",)
"""Protocols whose servos turn their direction round themselves, and whose offsets count whole turns."""


def span_limit(robot: Robot, joint: int) -> float:
    """The most ticks that a calibrated range of this joint may have."""
    margin = GRIPPER_MARGIN if joint == robot.gripper else SPAN_MARGIN
    return margin * float(robot.upper[joint] - robot.lower[joint]) * TICKS_PER_RADIAN


def find_problems(table: Any, robot: Robot) -> list[str]:
    """Why `table`, the content of a calibration file, cannot be used with this robot; [] when it can."""
    wrong = _wrong_kind(table, robot)
    if wrong:
        return [wrong]
    problems = []
    largest = 1_044_479 if robot.protocol in REVERSING else RESOLUTION // 2
    for i, joint in enumerate(robot.joints):
        found = _wrong_fields(table[joint.name], joint.name)
        if not found:
            span = float(robot.upper[i] - robot.lower[i]) * TICKS_PER_RADIAN
            found = [
                f"joint {joint.name} has {what}; allowed is {allowed}; {todo}"
                for what, allowed, todo in _wrong_values(
                    table[joint.name], span, span_limit(robot, i), largest
                )
            ]
        problems += found
    return problems + _wrong_ids(table, robot)


def find_doubts(table: Mapping[str, Any], robot: Robot) -> list[str]:
    """What is possible but unlikely in a table without problems: ranges that were not recorded to both stops."""
    doubts = []
    for i, joint in enumerate(robot.joints):
        span = table[joint.name]["range_max"] - table[joint.name]["range_min"]
        nominal = float(robot.upper[i] - robot.lower[i]) * TICKS_PER_RADIAN
        if span < SPAN_WANTED * nominal:
            doubts.append(
                f"joint {joint.name} has a range of {span} ticks, only {span / nominal:.0%} of what it turns: its "
                "zero, the middle of the range, is off if one of the stops was not reached"
            )
    return doubts


def _wrong_kind(table: Any, robot: Robot) -> str:
    """Why this is not a table of this robot's joints at all; "" when it is."""
    names = robot.joint_names
    if not isinstance(table, Mapping):
        return "not a calibration: expected a JSON object with a joint per key"
    if "servos_offsets" in table:
        return (
            "a phosphobot calibration: it holds each servo's zero but not the range it can move in; make a file "
            "with ranges from it with `sim2real calibrate --import`"
        )
    if "motor_names" in table:
        return (
            "in LeRobot's old format (a list per field), which has no ranges; calibrate again with "
            "`sim2real calibrate` or a current LeRobot, which write an object per joint"
        )
    missing = [name for name in names if name not in table]
    arms = arms_of([joint_of(str(name)) for name in table], [joint_of(name) for name in names])
    if missing and len(arms) > 1:
        return (
            f"of {len(arms)} arms ({', '.join(arm.rstrip('_') for arm in arms)}): put the entries of one into a file "
            "of its own"
        )
    if missing:
        return (
            f"lacks the joint{'s' if len(missing) > 1 else ''} {', '.join(missing)} of {robot.name}; "
            f"it has {', '.join(map(str, table)) or 'none'}; is it the calibration of another robot?"
        )
    unknown = [str(name) for name in table if name not in names]
    if unknown:
        return (
            f"has joints that {robot.name} does not have: {', '.join(unknown)}; "
            f"{robot.name} has {', '.join(names)}; is it the calibration of another robot?"
        )
    return ""


def _wrong_fields(entry: Any, joint: str) -> list[str]:
    if not isinstance(entry, Mapping):
        return [f"joint {joint} must be an object with {', '.join(FIELDS)}, got {entry!r}"]
    found = []
    for field in FIELDS:
        if field not in entry:
            found.append(f"joint {joint} lacks {field}; it needs {', '.join(FIELDS)}")
            continue
        value = entry[field]
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            found.append(f"{field} of joint {joint} must be a whole number, got {value!r}")
    return found


def _wrong_values(
    entry: Mapping[str, Any], turn: float, most: float, largest: int
) -> list[tuple[str, str, str]]:
    """(what, what is allowed, what to do) for values that cannot be; `turn` is the URDF's span in ticks, `most` the
    widest range."""
    again = "calibrate this joint again"
    if entry["drive_mode"] not in (0, 1):
        return [(f"drive_mode {entry['drive_mode']}", "0 (as is) or 1 (reversed)", "correct the file")]
    if abs(entry["homing_offset"]) > largest:
        return [(f"homing_offset {entry['homing_offset']}", f"-{largest}..{largest} ticks", again)]
    low, high = int(entry["range_min"]), int(entry["range_max"])
    outside = [
        (f"{name} {value}", f"0..{RESOLUTION - 1} ticks", again)
        for name, value in (("range_min", low), ("range_max", high))
        if not 0 <= value < RESOLUTION
    ]
    if outside:
        return outside
    if low >= high:
        return [(f"range_min {low} and range_max {high}", "range_min < range_max", again)]
    if high - low > most:
        return [
            (
                f"a range of {high - low} ticks ({low}..{high}), but it turns only about {turn:.0f} "
                "(its encoder wrapped round, or it was read across the zero, while the range was recorded)",
                f"at most {most:.0f}",
                "put the joint in the middle of its range, set the homing offset there and calibrate it again",
            )
        ]
    return []


def _wrong_ids(table: Mapping[str, Any], robot: Robot) -> list[str]:
    problems = []
    seen: dict[Any, str] = {}
    for joint in robot.joints:
        entry = table[joint.name]
        value = entry.get("id") if isinstance(entry, Mapping) else None
        if not isinstance(value, int | float):
            continue
        if value in seen:
            problems.append(
                f"joints {seen[value]} and {joint.name} both have the servo id {value}; "
                "every servo on the bus needs an id of its own; correct the file"
            )
        elif value != joint.servo_id:
            problems.append(
                f"joint {joint.name} has the servo id {value}, but {robot.name} expects "
                f"{joint.servo_id}; correct the file, or the servo_id in the robot's TOML"
            )
        seen[value] = joint.name
    return problems
