"""`sim2real setup`: find the port, find the servos, give them their IDs and baud rates."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.commands._options import add

if TYPE_CHECKING:
    from hardware.commissioning.scan import FoundServo, OpenPort
    from hardware.servos.family import ServoFamily
    from hardware.servos.ports import SerialPort
    from sim2real.robot import Robot

SUMMARY = "find the port and the servos; give a servo its ID and baud rate"
GROUP = "setting up"
HELP = (
    "Find the serial port and the servos on it, and give a servo its ID and baud rate. Looking writes nothing; "
    "writing needs one servo alone on the bus (or --id), switched on and limp, and is verified. Nothing moves."
)

EXAMPLES = """\
  sim2real setup                                        which port is it? what is on it?
  sim2real setup --port /dev/ttyACM0 --robot so101      is the whole arm there?
  sim2real setup --port /dev/ttyACM0 --set-id 3         for the one servo that is connected (asks you to turn it)
  sim2real setup --port /dev/ttyACM0 --set-id 3 --alone   for scripts: you vouch that it is the only one
  sim2real setup --port /dev/ttyACM0 --id 1 --set-id 3  of several with different IDs, the one with ID 1
  sim2real setup --port /dev/ttyACM0 --robot so101 --joint gripper   ID and baud rate as the robot has them
  sim2real setup --port /dev/ttyACM0 --robot so101 --each            every joint in turn, guided
"""


ECHO = (
    "the adapter sends back what it is sent: that is left out of account, and besides it nothing was heard. Is the "
    "servos' data line connected, and are they powered?"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(
        parser,
        port="serial port (default: the only one, or guided on a terminal)",
        robot={"default": None, "help": "compare with this robot: name, or path of its TOML"},
    )
    parser.add_argument("--protocol", metavar="P", help="look for this family only: feetech or dynamixel")
    parser.add_argument("--baud", type=int, metavar="B", help="look at this baud rate only")
    parser.add_argument("--id", type=int, metavar="OLD", help="which servo to change, where several answer")
    parser.add_argument("--set-id", type=int, metavar="NEW", help="give the servo this ID")
    parser.add_argument("--set-baud", type=int, metavar="B", help="give the servo this baud rate")
    parser.add_argument(
        "--joint", metavar="NAME", help="make the servo this joint of --robot (ID and baud rate)"
    )
    parser.add_argument("--each", action="store_true", help="set up every joint of --robot in turn, guided")
    parser.add_argument(
        "--alone",
        action="store_true",
        help="vouch that no other servo on the cable has the same ID, which no program can see for certain; without it "
        "you are asked, on a terminal, to turn the servo by hand",
    )
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    from hardware.servos.port_users import require_alone
    from sim2real.errors import UserError
    from sim2real.robot import Robot

    robot = None if args.robot is None else Robot.load(args.robot)
    families = _families(args, robot)
    if (args.joint or args.each) and robot is None:
        raise UserError("--joint and --each need --robot: the robot whose joint it is")
    chosen = [flag for flag in ("set_id", "set_baud") if getattr(args, flag) is not None]
    if (args.joint is not None) + args.each + bool(chosen) > 1:
        raise UserError("--set-id and --set-baud, --joint, and --each exclude each other: give one of them")
    most = max(family.max_id for family in families)
    if args.set_id is not None and not 0 <= args.set_id <= most:
        raise UserError(f"--set-id must be 0 to {most}, got {args.set_id}")
    if args.id is not None and not (chosen or args.joint):
        raise UserError("--id says which servo to change; add --set-id, --set-baud or --joint")
    port = args.port or _find_port(args)
    if port is None:
        return 0

    open_port = _Opener(port)
    if chosen or args.joint or args.each:
        require_alone(port)

    if args.each:
        assert robot is not None
        return _each(robot, families[0], open_port)
    bauds = None if args.baud is None else (args.baud,)
    if chosen or args.joint:
        return _set(args, robot, families, open_port, bauds)
    return _look(args, robot, families, open_port, bauds, port)


class _Opener:
    """Opens a port at any baud rate. Whether its adapter echoes is found out once."""

    def __init__(self, port: str) -> None:
        self.port = port
        self.echoes: bool | None = None

    def __call__(self, baud: int) -> "SerialPort":
        from hardware.servos.ports import SerialPort

        opened = SerialPort(self.port, baud, echoes=self.echoes)
        self.echoes = opened.echoes
        return opened


def _families(args: argparse.Namespace, robot: "Robot | None") -> "tuple[ServoFamily, ...]":
    from hardware.servos.family import FAMILIES, family_of
    from sim2real.errors import UserError

    families = tuple(FAMILIES.values())
    if robot is not None:
        families = (family_of(robot),)
    if args.protocol is not None:
        if args.protocol not in FAMILIES:
            raise UserError(f"there is no protocol '{args.protocol}'; known are {', '.join(FAMILIES)}")
        if robot is not None and robot.protocol != args.protocol:
            raise UserError(
                f"{robot.name} speaks '{robot.protocol}', not '{args.protocol}'; leave --protocol out"
            )
        families = (FAMILIES[args.protocol],)
    if args.baud is not None and not any(args.baud in family.bauds for family in families):
        rates = "; ".join(
            f"{family.title}: {', '.join(map(str, sorted(family.bauds)))}" for family in families
        )
        raise UserError(f"no servo runs at {args.baud} baud ({rates})")
    return families


def _find_port(args: argparse.Namespace) -> str | None:
    """The only port, or the one that the user unplugs; None when they have only been listed."""
    from hardware.commissioning.scan import candidates, find_unplugged
    from sim2real.errors import HardwareError, UserError

    found = candidates()
    if not args.json:
        for one in found:
            number = f", serial number {one.serial_number}" if one.serial_number else ""
            print(f"{one.device}  {one.kind}{number}", file=sys.stderr)
    adapters = [one.device for one in found if one.usb]
    if len(adapters) == 1:
        return adapters[0]
    if args.json and not sys.stdin.isatty():
        print(json.dumps({"ports": [vars(one) for one in found]}))
        return None
    if not adapters:
        others = ", ".join(one.device for one in found) or "none"
        raise HardwareError(
            f"no USB serial adapter on this machine (other ports: {others}): plug it in, or say which port it is with "
            "--port"
        )
    if not sys.stdin.isatty():
        raise UserError(f"there are {len(adapters)} adapters ({', '.join(adapters)}): say which with --port")

    def listed() -> list[str]:
        return [one.device for one in candidates()]

    before = listed()
    _ask("Unplug the arm's USB cable, then press Enter")
    after = listed()
    _ask("Plug it in again, wait two seconds, then press Enter")
    port = find_unplugged(before, after, listed())
    print(f"the arm is at {port}", file=sys.stderr)
    return port


def _ask(text: str) -> str:
    from sim2real.errors import UserError

    print(f"{text} ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise UserError("standard input has ended: nothing more was done")
    return line.strip().lower()


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[Klooking for {text}", end="", file=sys.stderr, flush=True)


def _scanned(
    open_port: "OpenPort", families: "Sequence[ServoFamily]", bauds: Sequence[int] | None
) -> "tuple[FoundServo, ...]":
    from hardware.commissioning.scan import scan

    found = scan(open_port, families, bauds, _progress)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return found


def _look(
    args: argparse.Namespace,
    robot: "Robot | None",
    families: "Sequence[ServoFamily]",
    open_port: "_Opener",
    bauds: Sequence[int] | None,
    port: str,
) -> int:
    from hardware.servos.family import FAMILIES
    from hardware.servos.port_users import programs_on

    found = _scanned(open_port, families, bauds)
    if not found and robot is not None and bauds is None:
        # Another kind of arm than was said is found out here; with what belongs to no joint of it.
        found = _scanned(open_port, [f for f in FAMILIES.values() if f not in families], None)
    problems = _problems(found, robot)
    if not found and open_port.echoes:
        problems.append(ECHO)
    problems += [
        f"{program} has the port open, too: close it, what was found cannot be relied on"
        for program in programs_on(port)
    ]
    if args.json:
        servos = [servo.as_dict() | {"joint": _joint(servo, robot)} for servo in found]
        print(
            json.dumps({"ok": not problems, "port": port, "servos": servos, "problems": problems}, indent=2)
        )
    else:
        print("\n".join(_table(found, robot) + [f"problem: {text}" for text in problems]))
    return 1 if problems else 0


def _joint(servo: "FoundServo", robot: "Robot | None") -> str | None:
    if robot is None:
        return None
    return next((joint.name for joint in robot.joints if joint.servo_id == servo.id), None)


def _problems(found: "Sequence[FoundServo]", robot: "Robot | None") -> list[str]:
    if not found:
        return [
            "no servo answers: check the power supply, the cable, and that the servos' lights blink when power comes on"
        ]
    problems = [
        f"several servos answer with ID {servo.id} at {servo.baud} baud: connect one at a time and give it its ID"
        for servo in found
        if servo.shared
    ]
    if robot is None:
        return problems
    from hardware.servos.family import family_of

    family = family_of(robot)
    if all(servo.protocol != robot.protocol for servo in found):
        return [
            f"these servos speak {found[0].protocol}, those of {robot.name} {robot.protocol}: is it another robot? "
            "(`sim2real robots` lists them)"
        ]
    for joint in robot.joints:
        here = [servo for servo in found if servo.id == joint.servo_id]
        if not here:
            problems.append(f"nobody answers as {joint.name} (ID {joint.servo_id})")
        for servo in here:
            if servo.baud != robot.baud:
                problems.append(
                    f"{joint.name} (ID {servo.id}) runs at {servo.baud} baud, {robot.name} at {robot.baud}"
                )
            wanted = family.model(joint.model).name
            if servo.model != wanted and not servo.shared:
                problems.append(
                    f"{joint.name} (ID {servo.id}) is a {servo.model or f'model {servo.model_number}'}, not a {wanted}"
                )
    strangers = [str(servo) for servo in found if _joint(servo, robot) is None]
    if strangers:
        problems.append(f"{robot.name} has no joint for {'; '.join(strangers)}")
    return problems


def _table(found: "Sequence[FoundServo]", robot: "Robot | None") -> list[str]:
    if not found:
        return []
    lines = ["protocol   baud     ID   model        firmware  torque  joint"]
    lines += [
        f"{servo.protocol:10} {servo.baud:<8} {servo.id:<4} {servo.model or servo.model_number or '?':<12} "
        f"{servo.firmware:9} {'on' if servo.torque else 'off':7} {_joint(servo, robot) or ''}".rstrip()
        for servo in found
    ]
    return lines


def _set(
    args: argparse.Namespace,
    robot: "Robot | None",
    families: "Sequence[ServoFamily]",
    open_port: "OpenPort",
    bauds: Sequence[int] | None,
) -> int:
    from hardware.commissioning.scan import assign
    from sim2real.errors import UserError

    id, baud = args.set_id, args.set_baud
    if args.joint is not None:
        assert robot is not None
        if args.joint not in robot.joint_names:
            raise UserError(
                f"{robot.name} has no joint '{args.joint}'; its joints are {', '.join(robot.joint_names)}"
            )
        id, baud = robot.joints[robot.joint_names.index(args.joint)].servo_id, robot.baud
    found = _scanned(open_port, families, bauds)
    vouch = None if args.alone else _turn if sys.stdin.isatty() else _nobody
    servo = assign(open_port, found, only=args.id, id=id, baud=baud, turn=vouch)
    if args.json:
        print(json.dumps({"ok": True, "servo": servo.as_dict() | {"joint": _joint(servo, robot)}}))
    else:
        print(f"done: {servo}")
    return 0


def _turn(servo: str) -> bool:
    """Ask for the one proof that holds: a servo that is turned by hand is the one that answers."""
    from sim2real.errors import UserError

    answer = _ask(
        f"{servo} answers. Two servos that stand exactly alike would look like one: turn its horn a little by hand, "
        "then press Enter (y: it is the only one on the cable, I have looked; q: stop)"
    )
    if answer == "q":
        raise UserError("stopped: nothing was written")
    return answer not in ("y", "yes")


def _nobody(servo: str) -> bool:
    from sim2real.errors import UserError

    raise UserError(
        f"{servo} answers, but two servos that stand exactly alike would answer as one, and a script cannot be asked. "
        "Nothing was written: see to it that no other servo with this ID is on the cable, then add --alone (or run it "
        "on a terminal, which asks you to turn the servo by hand)"
    )


def _each(
    robot: "Robot",
    family: "ServoFamily",
    open_port: "OpenPort",
    ask: Callable[[str], str] = _ask,
) -> int:
    """From the gripper to the base, as arms are put together from the far end."""
    from hardware.commissioning.scan import assign
    from sim2real.errors import Sim2RealError, UserError

    if not sys.stdin.isatty():
        raise UserError("--each asks between the joints and needs a terminal; use --joint NAME once for each")
    done: list[Any] = []
    for joint in reversed(robot.joints):
        while True:
            answer = ask(
                f"Connect the servo of {joint.name} alone (it becomes ID {joint.servo_id}) and press Enter; "
                "s skips it, q stops:"
            )
            if answer in ("s", "q"):
                break
            try:
                servo = assign(
                    open_port, _scanned(open_port, [family], None), id=joint.servo_id, baud=robot.baud
                )
            except Sim2RealError as error:
                print(f"not done: {error}", file=sys.stderr)
                continue
            print(f"{joint.name}: {servo}")
            done.append(joint.name)
            break
        if answer == "q":
            break
    print(f"{len(done)} of {robot.n} servos set up")
    return 0 if len(done) == robot.n else 1
