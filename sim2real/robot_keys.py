"""Every key that a robot's TOML may have: what it holds, in which unit, and what holds where it is not given.

`checked` is how `Robot.load` reads a file by them; docs/robots.md is printed from them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sim2real.errors import nearest

REQUIRED = object()
"""Default of a key that must be given."""


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: object) -> bool:
    return _number(value) and math.isfinite(value)  # type: ignore[arg-type]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _corners(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(c, list) and all(map(_finite, c)) for c in value)


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "text": ("a text", lambda value: isinstance(value, str)),
    "number": ("a number", _number),
    "whole": ("a whole number", _whole),
    "count": ("a whole number from 1 on", lambda value: _whole(value) and value >= 1),
    "numbers": ("a list of numbers, one by joint", lambda v: isinstance(v, list) and all(map(_number, v))),
    "by joint": (
        "a number, or a table of numbers by joint",
        lambda v: _number(v) or (isinstance(v, dict) and all(map(_number, v.values()))),
    ),
    "box": ("two corners [[x, y, z], [x, y, z]]", _corners),
}
"""What a value can be: in words, and whether it is."""


@dataclass(frozen=True)
class Key:
    """One key: its kind (of `KINDS`), unit, default and meaning."""

    name: str
    kind: str
    meaning: str
    unit: str = ""
    default: object = REQUIRED


@dataclass(frozen=True)
class Table:
    """A table of the file. `keys` is None where the keys are names (of joints, registers, cameras, …)."""

    name: str
    meaning: str
    keys: tuple[Key, ...] | None = None
    required: bool = False
    listed: bool = False
    """[[name]]: there are several."""


TOP: tuple[Key, ...] = (
    Key("name", "text", "what the robot is called in reports, policies and recordings"),
    Key(
        "urdf",
        "text",
        "the URDF: a path relative to this file, or `pybullet_data:path` for one that PyBullet ships",
    ),
    Key("tool_link", "text", "link of the URDF whose frame is brought to places: z points along the fingers"),
    Key("gripper", "text", "the joint that opens the gripper (larger is wider)", default=None),
    Key("protocol", "text", "what the servos speak: `feetech` or `dynamixel`", default="feetech"),
    Key("baud", "count", "speed of the servo bus", "bit/s", 1_000_000),
)

TABLES: tuple[Table, ...] = (
    Table(
        "rates",
        "How often what happens. The physics rate is a multiple of the other two.",
        (
            Key("policy", "count", "actions of a policy, and frames of recordings", "Hz"),
            Key("command", "count", "commands to the servos, each through the gate", "Hz"),
            Key("physics", "count", "steps of the simulation", "Hz"),
        ),
        required=True,
    ),
    Table(
        "poses",
        "One number per joint, in the order of the joints, within their limits.",
        (
            Key("home", "numbers", "where episodes start", "rad or m"),
            Key("rest", "numbers", "where the arm is put down before its torque goes off", "rad or m"),
        ),
        required=True,
    ),
    Table(
        "joints",
        "The joints that are driven, one table each, from the base outward. Limits of position come from the URDF. "
        "Joints of the URDF that are not listed follow others ([mimic]) or are locked.",
        (
            Key("name", "text", "the joint's name in the URDF"),
            Key("servo_id", "whole", "its servo's ID on the bus"),
            Key("velocity", "number", "the gate's limit", "rad/s or m/s"),
            Key("acceleration", "number", "the gate's limit", "rad/s² or m/s²"),
            Key("jerk", "number", "the gate's limit", "rad/s³ or m/s³"),
            Key("model", "text", "the servo's model, see [registers.md](registers.md); '': the usual one", default=""),
        ),
        required=True,
        listed=True,
    ),
    Table(
        "gate",
        "What the gate guards besides the joints' limits, see [gate.md](gate.md).",
        (
            Key("position_margin", "number", "kept from each joint limit", "rad", 0.01),
            Key("discontinuity", "number", "a request further than this from the last one is rejected", "rad", 0.7),
            Key("table_clearance", "number", "kept between the arm and the table", "m", 0.002),
            Key("reach", "number", "radius of the workspace around the base", "m", 1.0),
            Key("box", "box", "corners of a box in the base frame that the tool stays in", "m", None),
            Key("self_clearance", "number", "kept between links that could meet", "m", 0.004),
            Key("torque", "by joint", "what a motion may need of a joint", "N·m or N", math.inf),
            Key("payload", "number", "mass at the tool that this allows for", "kg", 0.0),
        ),
    ),
    Table(
        "mimic",
        "Joints of the URDF that are not driven and follow one that is: its name, or a table of `joint`, `multiplier` "
        "(1) and `offset` (0; rad or m). It comes before the URDF's own <mimic>. Both fingers of a parallel gripper on "
        'one motor: `right_finger = "left_finger"`.',
    ),
    Table("locked", "Joints of the URDF that nothing drives, and where they stay (rad or m); the others stay at zero."),
    Table("servo", "The servos as the simulation starts from them: see below."),
    Table(
        "servo_settings",
        "Registers written before the arm is used: tables `all` and, by joint, what differs. Their names are in "
        "[registers.md](registers.md).",
    ),
    Table("monitors", "Thresholds of the monitors that differ from those of the servos: see below."),
    Table(
        "cameras",
        "One table per camera, as `sim2real calibrate-camera` writes it: `width`, `height`, `fx`, `fy`, `cx`, `cy` "
        "(pixels), `distortion` (5), `camera_to_base` (4 × 4, m; axes right, down, forward) and `source`.",
    ),
)  # fmt: skip


def default(table: str, name: str) -> Any:
    """The default of a key of a table."""
    keys = next(t.keys or () for t in TABLES if t.name == table)
    return next(key.default for key in keys if key.name == name)


def checked(file: Mapping[str, Any]) -> None:
    """Raises ValueError for keys and tables that do not exist, are missing, or hold something of another kind."""
    tables = {table.name: table for table in TABLES}
    _check_keys(file, TOP, "", tables)
    for table in TABLES:
        if table.name not in file:
            if table.required:
                raise ValueError(f"lacks [{table.name}] ({', '.join(key.name for key in table.keys or ())})")
            continue
        value = file[table.name]
        if table.listed:
            if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
                raise ValueError(
                    f"'{table.name}' must be tables [[{table.name}]], one by joint, got {value!r}"
                )
            for number, entry in enumerate(value, 1):
                _check_keys(
                    entry, table.keys or (), f"[[{table.name}]] {entry.get('name', f'number {number}')}: "
                )
        elif not isinstance(value, dict):
            raise ValueError(f"'{table.name}' must be a table [{table.name}], got {value!r}")
        elif table.keys is not None:
            _check_keys(value, table.keys, f"[{table.name}] ")


def _check_keys(
    given: Mapping[str, Any], keys: Sequence[Key], where: str, tables: Mapping[str, Table] | None = None
) -> None:
    known = [key.name for key in keys]
    for name in given:
        if name not in known and name not in (tables or {}):
            listed = ", ".join([*known, *(f"[{table}]" for table in tables or ())])
            raise ValueError(
                f"{where}there is no key '{name}'; known are {listed}{nearest(name, [*known, *(tables or ())])}"
            )
    for key in keys:
        if key.name not in given:
            if key.default is REQUIRED:
                raise ValueError(f"{where}lacks '{key.name}' ({key.meaning})")
            continue
        words, fits = KINDS[key.kind]
        if not fits(given[key.name]):
            raise ValueError(f"{where}{key.name} must be {words}, got {given[key.name]!r}")
