"""`sim2real calibrate`: record by hand what each joint can turn, and write it into a file and the servos."""

import argparse
import itertools
import json
import os
import select
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.commands._options import add

if TYPE_CHECKING:
    from hardware.commissioning.calibrate import HandCalibration
    from hardware.servos.bus import ServoBus
    from sim2real.calibration import Calibration
    from sim2real.robot import Robot

SUMMARY = "record what each joint can turn, and write it into the servos"
GROUP = "setting up"
HELP = (
    "Calibrate an arm: it goes limp (hold it!), you move every joint to both its stops while a live table shows what "
    "has been seen, and the ranges and offsets are written into a file in LeRobot's format and into the servos, "
    "verified. Until then nothing is written; Ctrl-C leaves everything as it was. With --import, take over a "
    "calibration made with LeRobot or phosphobot instead."
)

EXAMPLES = """\
  sim2real calibrate --port /dev/ttyACM0 --out arm.json
  sim2real calibrate --port /dev/ttyACM0 --out arm.json --seconds 30      no questions: for scripts
  sim2real calibrate --port /dev/ttyACM0 --out arm.json --import ~/.cache/huggingface/lerobot/…/my_arm.json
  sim2real calibrate --robot so100 --import so-100_58CD176683_config.json --out arm.json   (phosphobot's)
  sim2real check-calibration arm.json --port /dev/ttyACM0 --draw arm.png  (afterwards)
"""

PERIOD = 0.02  # s between readings
REDRAW = 0.1  # s between drawings of the table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, port="serial port of the arm")
    add(
        parser,
        "robot",
        out={
            "required": False,
            "default": "calibration.json",
            "metavar": "FILE",
            "help": "where to write it (%(default)s); an older file is kept as FILE.bak, .bak1, …",
        },
    )
    parser.add_argument(
        "--import",
        dest="source",
        metavar="FILE",
        help="take over this file (LeRobot's or phosphobot's) instead of recording",
    )
    add(
        parser,
        seconds="record for S seconds without asking; the pose at the start is the middle of joints that turn "
        "all round",
    )
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    from sim2real.calibration_checks import find_doubts
    from sim2real.errors import UserError
    from sim2real.robot import Robot

    robot = Robot.load(args.robot)
    if args.source is None and args.port is None:
        raise UserError("calibrating needs the arm: give its --port (or a file to take over with --import)")
    if args.source is not None and args.seconds is not None:
        raise UserError("--import and --seconds exclude each other: give one of them")
    if args.seconds is not None and not 0 < args.seconds < float("inf"):
        raise UserError(f"--seconds must be positive, got {args.seconds}")
    if args.source is None and args.seconds is None and not sys.stdin.isatty():
        raise UserError("calibrating asks questions and needs a terminal; for scripts give --seconds S")
    out = Path(args.out)
    _check_out(out)
    bus = None
    try:
        if args.port is not None:
            from hardware.arm.serial_arm import open_bus
            from hardware.servos.port_users import require_alone

            bus = open_bus(robot, args.port)
            require_alone(args.port)
        if args.source is not None:
            calibration, todo = _take_over(args.source, robot, bus)
        else:
            assert bus is not None
            calibration, todo = _record(robot, bus, args.seconds), []
        backup = _keep(calibration, robot, bus, out)
    finally:
        if bus is not None:
            bus.close()
    todo = todo + find_doubts(calibration.table(), robot)
    if args.json:
        answer: dict[str, Any] = {"ok": True, "out": str(out), "stored_in_servos": bus is not None}
        print(json.dumps(answer | {"todo": todo, "calibration": calibration.table()}))
        return 0
    print(_summary(calibration))
    print(f"written to {out}" + (" and into the servos" if bus is not None else ""))
    if backup is not None:
        print(f"the file that was there is now {backup}")
    for text in todo:
        print(f"still to do: {text}")
    return 0


def _check_out(out: Path) -> None:
    """Raise UserError when no file can be put there: before a person has moved every joint for it."""
    from sim2real.errors import UserError

    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: the directory {out.parent} does not exist")
    try:
        os.rmdir(_scratch(out))
    except OSError as error:
        raise UserError(f"--out {out}: {out.parent} cannot be written to: {error.strerror}") from None


def _scratch(out: Path) -> Path:
    """A folder of our own beside it, where the file grows until it is whole."""
    return Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))


def _backup(out: Path) -> Path:
    """Where an older file is kept: a name that nothing has."""
    names = (out.with_name(f"{out.name}.bak{number or ''}") for number in itertools.count())
    return next(name for name in names if not os.path.lexists(name))


def _keep(calibration: "Calibration", robot: "Robot", bus: "ServoBus | None", out: Path) -> Path | None:
    """Into the servos and into the file: both or neither. The file appears whole or not at all.

    Returns where an older file is kept.
    """
    from hardware.commissioning.calibrate import store
    from sim2real.errors import UserError

    backup = None
    try:
        folder = _scratch(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; nothing was changed") from None
    part = folder / out.name
    try:
        try:
            calibration.save(part)
        except OSError as error:
            raise UserError(f"cannot write {out}: {error.strerror}; nothing was changed") from None
        if bus is not None:
            store(robot, bus, calibration)
        if os.path.lexists(out):
            backup = _backup(out)
            out.rename(backup)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
        folder.rmdir()
    return backup


def _take_over(source: str, robot: "Robot", bus: "ServoBus | None") -> "tuple[Calibration, list[str]]":
    from hardware.arm.identity import identify
    from hardware.commissioning.phosphobot import from_phosphobot
    from sim2real.calibration import Calibration, of_arm, read_table

    table = read_table(source)
    offsets = None
    if bus is not None:
        offsets = [one.registers["homing_offset"] for one in identify(robot, bus)]
    if isinstance(table, dict) and "servos_offsets" in table:
        return from_phosphobot(table, robot, offsets, source)
    todo = (
        [] if bus is not None else ["write it into the servos: import with --port, with this arm connected"]
    )
    return Calibration.create(of_arm(table, robot), robot, source), todo


def _record(robot: "Robot", bus: "ServoBus", seconds: float | None) -> "Calibration":
    from hardware.commissioning.calibrate import HandCalibration

    hand = HandCalibration(robot, bus)
    if seconds is not None:
        hand.begin()
        _read_until(hand, lambda: hand.ranges.known, None)
        hand.mark_middle()
        _say(f"recording for {seconds:g} s: move every joint to both its stops")
        end = time.monotonic() + seconds
        _read_until(hand, lambda: time.monotonic() >= end, None)
        return hand.result()
    _wait("The arm goes limp: hold it, then press Enter.")
    hand.begin()
    around = [name for name, whole in zip(robot.joint_names, hand.whole_turn, strict=True) if whole]
    where = f" ({', '.join(around)} exactly: this becomes its zero)" if around else ""
    _say(f"Put every joint in the middle of its range{where}, then press Enter.")
    _read_until(hand, _enter_pressed, None)
    _read_until(hand, lambda: hand.ranges.known, None)
    hand.mark_middle()
    _say(
        "Move every joint slowly to both its stops; press Enter when all of them say 'seen'. Ctrl-C gives up."
    )
    table = _Table(hand)
    while True:
        _read_until(hand, _enter_pressed, table)
        lacking = hand.lacking()
        if not lacking:
            return hand.result()
        _say(f"not yet: {', '.join(lacking)}. Go on, then press Enter.")
        table.fresh()


def _read_until(hand: "HandCalibration", done: Any, table: "_Table | None") -> None:
    """Read 50 times a second until `done()`."""
    following = time.monotonic()
    while not done():
        hand.read()
        if table is not None:
            table.draw()
        following = max(following + PERIOD, time.monotonic() - PERIOD)
        time.sleep(max(0.0, following - time.monotonic()))


class _Table:
    """What has been seen of each joint, drawn again in place."""

    def __init__(self, hand: "HandCalibration") -> None:
        self.hand = hand
        self._lines = 0
        self._drawn = 0.0

    def fresh(self) -> None:
        """Begin below whatever has been printed."""
        self._lines = 0

    def draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn < REDRAW:
            return
        self._drawn = now
        hand, ranges = self.hand, self.hand.ranges
        lines = [f"{'joint':15} {'min':>6} {'now':>6} {'max':>6} {'span':>6} {'usual':>6}"]
        for i, name in enumerate(hand.robot.joint_names):
            enough = ranges.span[i] >= 0.85 * hand.wanted[i]
            mark = "turns round" if hand.whole_turn[i] else "seen" if enough else ""
            lines.append(
                f"{name:15} {ranges.low[i]:6.0f} {ranges.present[i]:6.0f} {ranges.high[i]:6.0f} "
                f"{ranges.span[i]:6.0f} {hand.wanted[i]:6.0f}  {mark}"
            )
        up = f"\033[{self._lines}A" if self._lines else ""
        print(up + "\n".join(f"\r\033[K{line}" for line in lines), file=sys.stderr, flush=True)
        self._lines = len(lines)


def _enter_pressed() -> bool:
    from sim2real.errors import UserError

    if not select.select([sys.stdin], [], [], 0)[0]:
        return False
    if not sys.stdin.readline():
        raise UserError("standard input has ended: nothing was written")
    return True


def _wait(text: str) -> None:
    _say(text)
    while not _enter_pressed():
        time.sleep(0.02)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _summary(calibration: "Calibration") -> str:
    lines = [f"{'joint':15} {'ID':>3} {'offset':>7} {'min':>5} {'max':>5} {'degrees':>8}"]
    for name, entry in calibration.table().items():
        span = (entry["range_max"] - entry["range_min"]) * 360 / 4096
        reverse = "  reversed" if entry["drive_mode"] else ""
        lines.append(
            f"{name:15} {entry['id']:3} {entry['homing_offset']:7} {entry['range_min']:5} {entry['range_max']:5} "
            f"{span:8.1f}{reverse}"
        )
    return "\n".join(lines)
