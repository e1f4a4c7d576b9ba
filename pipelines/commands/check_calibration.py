"""`sim2real check-calibration`: can this file be true, and is it this arm's?"""

import argparse
import json
from typing import TYPE_CHECKING, Any

from pipelines.commands._options import add

if TYPE_CHECKING:
    from sim2real.calibration import Calibration
    from sim2real.robot import Robot

SUMMARY = "judge a calibration file, and compare it with an arm"
GROUP = "setting up"
HELP = (
    "Judge a calibration file: wrapped encoders, ranges that the joint cannot have, IDs that two joints share, limits "
    "outside the encoder. With --port, compare it with what the servos store and say (and --draw) how the arm believes "
    "it stands. Nothing is written and nothing moves. Exit status 0: good, 1: something is wrong with it."
)

EXAMPLES = """\
  sim2real check-calibration arm.json
  sim2real check-calibration arm.json --port /dev/ttyACM0 --draw arm.png
  sim2real check-calibration arm.json --robot my_arm.toml --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="calibration in LeRobot's format")
    add(parser, "robot", port="compare with the servos of this arm")
    parser.add_argument(
        "--draw", metavar="FILE.png", help="with --port: draw the arm as it believes it stands"
    )
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from sim2real.calibration import Calibration, of_arm, read_table
    from sim2real.calibration_checks import find_doubts, find_problems
    from sim2real.errors import UserError
    from sim2real.robot import Robot

    robot = Robot.load(args.robot)
    if args.draw is not None:
        if args.port is None:
            raise UserError("--draw shows how the arm stands and needs its --port")
        if Path(args.draw).suffix != ".png" or not Path(args.draw).absolute().parent.is_dir():
            raise UserError(f"--draw takes a .png file in a directory that exists, got '{args.draw}'")
    content = read_table(args.file)
    table = of_arm(content, robot)
    problems = find_problems(table, robot)
    calibration = None if problems else Calibration.create(table, robot, args.file)
    doubts = find_doubts(table, robot) if calibration is not None else []
    pose: dict[str, Any] | None = None
    if args.port is not None and calibration is not None:
        different, pose, outside = _look(args, robot, calibration)
        problems += different
        doubts += outside
    answer = {
        "ok": not problems,
        "file": args.file,
        "robot": robot.name,
        "problems": problems,
        "doubts": doubts,
        "left_out": [] if table is content else _others(content, table),
    }
    if args.json:
        print(json.dumps(answer | {"pose": pose}))
    else:
        print(_page(answer, calibration, pose))
        if args.draw and pose is not None:
            print(f"drawn to {args.draw}")
    return 1 if problems else 0


def _look(
    args: argparse.Namespace, robot: "Robot", calibration: "Calibration"
) -> "tuple[list[str], dict[str, Any], list[str]]":
    """Where servos and file differ; how the arm believes it stands; joints beyond their range."""
    import numpy as np

    from hardware.arm.identity import counted_beyond, disagreements, identify
    from hardware.arm.serial_arm import open_bus
    from hardware.servos.port_users import require_alone
    from sim2real.calibration import RADIANS_PER_TICK
    from sim2real.model.kinematics import tool_position

    bus = open_bus(robot, args.port)
    try:
        require_alone(args.port)
        identities = identify(robot, bus)
        different = disagreements(identities, calibration)
        modes = [one.registers["operating_mode"] for one in identities]
        beyond = counted_beyond(robot, bus, calibration, modes)
        ticks = np.array([bus.read(joint.servo_id, "present_position", 0.3) for joint in robot.joints])
        ticks -= beyond
    finally:
        bus.close()
    angles = calibration.ticks_to_radians(ticks)
    share = (ticks - calibration.range_min) / (calibration.range_max - calibration.range_min)
    tool = tool_position(robot.model, angles)
    past = np.maximum(calibration.range_min - ticks, ticks - calibration.range_max) * RADIANS_PER_TICK
    outside = [
        f"joint {name} is {np.degrees(by):.1f}° beyond its calibrated range"
        for name, by in zip(robot.joint_names, past, strict=True)
        if by > np.radians(1.0)
    ]
    joints = {
        name: {
            "ticks": int(ticks[i]),
            "degrees": round(float(np.degrees(angles[i])), 2),
            "share": round(float(share[i]), 4),
        }
        for i, name in enumerate(robot.joint_names)
    }
    if args.draw is not None:
        _draw(args.draw, robot, angles)
    return different, {"joints": joints, "tool": [round(float(x), 4) for x in tool]}, outside


def _others(content: Any, table: Any) -> list[str]:
    """What the file holds besides the arm."""
    used = [id(entry) for entry in table.values()]
    return [name for name, entry in content.items() if id(entry) not in used]


def _draw(path: str, robot: "Robot", angles: Any) -> None:
    import cv2

    from hardware.drawing.portrait import portrait, signed
    from sim2real.errors import UserError
    from sim2real.files import PICTURE, require_own_file, write_bytes

    done, data = cv2.imencode(".png", cv2.cvtColor(portrait(robot, angles), cv2.COLOR_RGB2BGR))
    assert done
    require_own_file(path, PICTURE)
    try:
        write_bytes(path, signed(data.tobytes()))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _page(answer: dict[str, Any], calibration: "Calibration | None", pose: dict[str, Any] | None) -> str:
    lines = []
    if calibration is not None:
        head = f"{'joint':15} {'ID':>3} {'offset':>7} {'min':>5} {'max':>5} {'span':>5}"
        lines.append(head + (f" {'now':>6} {'degrees':>8} {'of range':>8}" if pose else ""))
        for name, entry in calibration.table().items():
            line = (
                f"{name:15} {entry['id']:3} {entry['homing_offset']:7} {entry['range_min']:5} {entry['range_max']:5} "
                f"{entry['range_max'] - entry['range_min']:5}"
            )
            if pose:
                now = pose["joints"][name]
                line += f" {now['ticks']:6} {now['degrees']:8.1f} {now['share']:8.0%}"
            lines.append(line)
    if pose:
        x, y, z = pose["tool"]
        side = "left" if y > 0 else "right"
        lines.append(
            f"the arm believes that its tool is {x * 100:.1f} cm forward, {abs(y) * 100:.1f} cm to the {side} and "
            f"{z * 100:.1f} cm above the table: look whether that is so"
        )
    lines += [f"problem: {text}" for text in answer["problems"]]
    lines += [f"doubtful: {text}" for text in answer["doubts"]]
    if answer["left_out"]:
        lines.append(f"not of the {answer['robot']}, left out: {', '.join(answer['left_out'])}")
    lines.append(f"{answer['file']}: " + ("no problem found" if answer["ok"] else "not good for this arm"))
    return "\n".join(lines)
