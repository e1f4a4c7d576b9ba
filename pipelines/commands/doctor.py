"""`sim2real doctor`: is this installation sound, and, with a port, is the arm?"""

import argparse
import json
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipelines.commands._options import add

if TYPE_CHECKING:
    from hardware.commissioning.inspection import BusReport
    from sim2real.robot import Robot

SUMMARY = "check this installation and, with --port, the servos"
GROUP = "setting up"
HELP = "Check this installation and, with --port, the servos on a bus. Nothing is written and nothing moves."

EXAMPLES = """\
  sim2real doctor
  sim2real doctor --port /dev/ttyACM0
  sim2real doctor --port /dev/ttyACM0 --calibration my_arm.json
  sim2real doctor --port emulated --json
"""

PACKAGES = ("sim2real", "hardware", "randomization", "pipelines")
DISTRIBUTIONS = ("numpy", "scipy", "numba", "pybullet", "torch", "lightning", "onnxruntime", "pyserial", "pyarrow",
                 "gymnasium", "opencv-python-headless", "av")  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One finding. `ok` None: neither good nor bad."""

    name: str
    ok: bool | None
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, port="serial port of an arm, or 'emulated'")
    add(parser, "robot", calibration="compare the servos' stored limits with this file")
    parser.add_argument("--scan", action="store_true", help="look for servos with any ID")
    parser.add_argument(
        "--reads",
        type=int,
        default=300,
        metavar="N",
        help="readings of all servos that the error rates are taken from (%(default)s)",
    )
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    if args.reads < 1:
        from sim2real.errors import UserError

        raise UserError(f"--reads must be at least 1, got {args.reads}")
    checks = [*_installation(), *_real_time()]
    report: dict[str, Any] = {}
    with ExitStack() as stack:
        if args.port:
            found, servo_checks = _servos(args, stack)
            checks += servo_checks
            report = {"port": found}
        else:
            checks += [_ports(), _cameras()]
    sound = all(check.ok is not False for check in checks)
    if args.json:
        print(json.dumps({"ok": sound, "checks": [asdict(check) for check in checks], **report}, indent=2))
    else:
        print(_page(checks, report.get("port")))
    return 0 if sound else 1


def _installation() -> list[Check]:
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec
    from pathlib import Path

    here = Path(__file__).resolve().parents[2]
    python = sys.version_info[:2] == (3, 11)
    checks = [
        Check(
            "python",
            python,
            f"{sys.version.split()[0]} at {sys.executable}" + ("" if python else ": 3.11 is needed"),
        )
    ]
    for name in DISTRIBUTIONS:
        try:
            checks.append(Check(name, True, version(name)))
        except PackageNotFoundError:
            checks.append(
                Check(name, False, "not installed: install sim2real-transfer into this environment again")
            )
    for name in PACKAGES:
        spec = find_spec(name)
        origin = "nowhere" if spec is None or spec.origin is None else str(Path(spec.origin).resolve().parent)
        ours = origin == str(here / name)
        hint = (
            ""
            if ours
            else f": another package of this name hides ours ({here / name}); use an environment of its own"
        )
        checks.append(Check(f"package {name}", ours, f"from {origin}{hint}"))
    from sim2real.simulation.bullet import bullet

    numpy = bool(bullet.isNumpyEnabled())
    checks.append(
        Check(
            "pybullet with numpy",
            numpy,
            "yes" if numpy else "no: images are slow; reinstall pybullet with numpy present",
        )
    )
    return checks


def _real_time() -> list[Check]:
    import resource

    priority = max(resource.getrlimit(resource.RLIMIT_RTPRIO)[0], 99 if os.geteuid() == 0 else 0)
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    unlimited = locked == resource.RLIM_INFINITY or os.geteuid() == 0 or locked > 2**29
    cores = len(os.sched_getaffinity(0))
    how = "add '@realtime - rtprio 90' and '@realtime - memlock unlimited' to /etc/security/limits.conf"
    return [
        Check(
            "processor cores",
            True if cores >= 2 else None,
            str(cores) + ("" if cores >= 2 else ": two are better"),
        ),
        Check(
            "real-time priority",
            True if priority > 0 else None,
            "permitted" if priority > 0 else f"not permitted; the loop works without, less evenly: {how}",
        ),
        Check(
            "locked memory",
            True if unlimited else None,
            "permitted" if unlimited else f"limited to {locked // 1024} KiB: {how}",
        ),
    ]


def _ports() -> Check:
    from hardware.commissioning.scan import candidates

    found = "; ".join(f"{one.device} ({one.kind})" for one in candidates())
    return Check("serial ports", None, found or "none (a running emulator's link is not listed)")


def _cameras() -> Check:
    from hardware.cameras.sources import list_cameras

    found = list_cameras()
    listed = "; ".join(f"{one.stable} ({one.label})" for one in found)
    return Check("cameras", None, listed or "none at this machine (streams are not listed)")


def _servos(args: argparse.Namespace, stack: ExitStack) -> tuple[dict[str, Any], list[Check]]:
    from hardware.arm.serial_arm import open_bus
    from hardware.commissioning.inspection import inspect_bus
    from hardware.servos.pace import shorten
    from hardware.servos.port_users import programs_on
    from hardware.servos.ports import latency_timer
    from sim2real.calibration import Calibration
    from sim2real.robot import Robot

    robot = Robot.load(args.robot)
    port, calibration_file = args.port, args.calibration
    if port == "emulated":
        from hardware.emulator.launch import start_emulator

        emulator = stack.enter_context(start_emulator(args.robot, camera=False))
        port, calibration_file = emulator.port, calibration_file or emulator.calibration
    calibration = None if calibration_file is None else Calibration.load(calibration_file, robot)
    bus = open_bus(robot, port)
    stack.callback(bus.close)
    before = programs_on(port)
    report = inspect_bus(
        robot, bus, cycles=args.reads, scan=args.scan, progress=lambda text: print(text, file=sys.stderr)
    )
    timer = latency_timer(port)
    echo = " (it sends back what it is sent: left out of what is read)" if bus.echoes else ""
    checks = [Check("port", True, port + echo)]
    checks += [
        Check(
            "other program",
            False,
            f"{program} has the port open, too: close it, or both get half of the replies",
        )
        for program in sorted({*before, *programs_on(port)}, key=lambda program: program.pid)
    ]
    if timer is not None:
        hint = "" if timer <= 0.002 else f": set it to 1 ms ({shorten(port)})"
        checks.append(Check("latency timer", not hint, f"{timer * 1000:.0f} ms{hint}"))
    expected = len(robot.joints) - len(report.missing)
    checks.append(
        Check("servos", not report.missing, f"{expected} of {len(robot.joints)} joints of {robot.name}")
    )
    checks += [Check("servo", False, problem) for problem in report.problems]
    checks += _firmware(report)
    if report.cycle_median is not None:
        checks.append(_errors(report))
    checks += _pace(report, robot, port)
    if calibration is not None:
        checks.append(_limits(report, calibration.table()))
    return report.as_dict() | {"latency_timer": timer, "statistics": bus.statistics.as_dict()}, checks


def _firmware(report: "BusReport") -> list[Check]:
    """Whether servos of one model run different firmware; [] where there is nothing to say."""
    kinds: dict[str, dict[str, list[str]]] = {}
    for servo in report.servos:
        versions = kinds.setdefault(servo.model_name or str(servo.model), {})
        versions.setdefault(servo.firmware, []).append(servo.joint or f"ID {servo.id}")
    if not kinds:
        return []
    mixed = any(len(versions) > 1 for versions in kinds.values())
    text = "; ".join(f"{model}: {_versions(versions)}" for model, versions in sorted(kinds.items()))
    hint = " (servos of one model with different firmware may behave differently: bring them up to date)"
    return [Check("firmware", None if mixed else True, text + (hint if mixed else ""))]


def _versions(versions: dict[str, list[str]]) -> str:
    """Which firmware, and who has it where that is not everybody: the rarest first."""
    if len(versions) == 1:
        return next(iter(versions))
    rarest = sorted(versions.items(), key=lambda item: (len(item[1]), item[0]))
    return ", ".join(f"{version} ({', '.join(who)})" for version, who in rarest)


def _errors(report: "BusReport") -> Check:
    failed = sum(sum(servo.failures.values()) for servo in report.servos)
    worst = max(report.servos, key=lambda servo: servo.error_rate)
    text = f"{failed} failures in {report.reads} readings of {len(report.servos)} servos"
    if failed:
        text += f"; worst is {worst.joint or f'ID {worst.id}'} with {100 * worst.error_rate:.1f} %"
    return Check("errors on the bus", True if not failed else None, text)


def _pace(report: "BusReport", robot: "Robot", port: str) -> list[Check]:
    """How slow the adapter is, and which loops that allows."""
    from hardware.servos.pace import LinePace

    checks = []
    if report.latency is not None:
        text = f"an answer comes {1000 * report.latency:.1f} ms later than the wire needs for it"
        checks.append(Check("adapter", True, text))
    if report.cycle_median is None or report.cycle_usual is None or report.cycle_worst is None:
        return checks
    if min(servo.error_rate for servo in report.servos) > 0.5:
        return checks  # what was timed is how long we wait for nothing
    pace = LinePace(port, report.cycle_usual, report.cycle_wire)
    serves = pace.serves(robot)
    text = (
        f"{1000 * report.cycle_median:.2f} ms in the median ({1000 * pace.wire:.2f} on the wire), one of four within "
        f"{1000 * pace.reading:.2f} ms, {1000 * report.cycle_worst:.2f} ms at worst: loops up to {pace.highest:.0f} Hz"
    )
    if not serves:
        text += f", and {robot.name} is driven at {robot.command_rate} Hz: {pace.remedy(robot)}"
    return [*checks, Check("reading all servos", serves, text)]


def _limits(report: "BusReport", table: dict[str, dict[str, int]]) -> Check:
    pairs = (
        ("min_position_limit", "range_min"),
        ("max_position_limit", "range_max"),
        ("homing_offset", "homing_offset"),
    )
    wrong = [
        f"{servo.joint}: {register} is {getattr(servo, register)}, {key} is {table[servo.joint][key]} in the file"
        for servo in report.servos
        if servo.joint in table
        for register, key in pairs
        if getattr(servo, register) != table[servo.joint][key]
    ]
    return Check(
        "calibration", not wrong, "; ".join(wrong) if wrong else "the servos store what the file says"
    )


def _page(checks: list[Check], port: dict[str, Any] | None) -> str:
    marks = {True: "ok  ", False: "FAIL", None: "note"}
    width = max(len(check.name) for check in checks)
    lines = [f"{marks[check.ok]}  {check.name:{width}}  {check.detail}" for check in checks]
    if port and port["servos"]:
        lines += [
            "",
            "ID  joint           model       firmware  position  limits       offset  V     °C  torque  errors",
        ]
        for s in port["servos"]:
            limits = f"{s['min_position_limit']}–{s['max_position_limit']}"
            model = s["model_name"] or s["model"]
            lines.append(
                f"{s['id']:<3} {s['joint'] or '?':15} {model:<11} {s['firmware']:9} {s['present_position']:<9} "
                f"{limits:12} {s['homing_offset']:<7} {s['voltage']:<5} {s['temperature']:<3} "
                f"{'on' if s['torque_enable'] else 'off':7} {100 * s['error_rate']:.1f} %"
            )
    return "\n".join(lines)
