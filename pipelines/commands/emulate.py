"""`sim2real emulate`: an emulated arm on a virtual serial port, with objects and a camera."""

import argparse
import json
import shlex
import sys
from typing import Any

from pipelines.commands._options import add
from sim2real.errors import UserError

SUMMARY = "start an emulated arm on a virtual serial port"
GROUP = "without an arm"
COMPILES = True
HELP = (
    "Start an emulated arm: servos on a virtual serial port, physics behind them, a camera as an HTTP stream."
)

EXAMPLES = """\
  sim2real emulate --link /tmp/ttyARM
  sim2real emulate --link /tmp/ttyARM --task lift --seed 3
  sim2real emulate --link /tmp/ttyARM --task lift --reality mujoco_loose
  sim2real doctor --port /tmp/ttyARM                          (in another terminal)
  sim2real emulate --link /tmp/ttyARM --tell episode          place the objects anew
  sim2real emulate --link /tmp/ttyARM --tell success --task lift   exit status 0: done
  sim2real emulate --link /tmp/ttyARM --fault mute:id=3,at=5,for=0.2   5 s after torque comes on
  sim2real emulate --link /tmp/ttyARM --tell fault --fault unplug:for=2      now
  sim2real emulate --link /tmp/ttyARM --tell hand --path path.json       move the limp arm by hand
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "robot")
    parser.add_argument("--link", metavar="PATH", help="symbolic link to make to the port, e.g. /tmp/ttyARM")
    add(
        parser,
        task="whose objects lie on the table (default: a cube and a mark)",
        twin="parameters of the emulated arm (default: unlike the nominal ones, fixed)",
        seed="for the objects' places",
    )
    add(parser, "object")
    parser.add_argument(
        "--engine",
        choices=("bullet", "mujoco"),
        default="bullet",
        help="who computes the physics (%(default)s)",
    )
    parser.add_argument(
        "--reality",
        metavar="NAME",
        help="parameters, engine and camera of a reality (`sim2real transfer --list`)",
    )
    parser.add_argument("--no-camera", action="store_true", help="leave the camera out")
    parser.add_argument(
        "--http-port", type=int, default=0, help="port of camera and control (default: a free one)"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME:key=value,…",
        help="something that goes wrong, `at` s after torque first comes on (or after=start), for `for` s; may be "
        "given several times; docs/safety.md lists the names",
    )
    add(parser, json="announce as one line of JSON")
    parser.add_argument(
        "--tell",
        choices=("episode", "success", "state", "hand", "show", "fault"),
        help="tell the emulator that runs at --link: a new episode; whether --task is done (exit status 0 or 1); "
        "its true state; a hand that moves the arm along --path; a printed sheet to show the camera, described in "
        "--path; a --fault, whose `at` then counts from now",
    )
    parser.add_argument("--goal", metavar="X,Y,Z", help="with --tell success: the goal, m")
    parser.add_argument(
        "--path",
        metavar="FILE",
        help='with --tell hand: a JSON list of {"time": s, "position": [rad or null, one per joint]}; with '
        "--tell show: a JSON object, see docs/emulator.md",
    )


def run(args: argparse.Namespace) -> int:
    if args.tell:
        return _tell(args)
    for flag, value, what in (("--path", args.path, "hand or show"), ("--goal", args.goal, "success")):
        if value is not None:
            raise UserError(f"{flag} goes with --tell {what}; an emulator is started without it")
    from dataclasses import asdict

    from sim2real.tasks.registry import with_flags

    if args.object:
        args.task = with_flags(args.task or "push", args.object)
    from hardware.emulator.session import EmulatorOptions, EmulatorSession, leave_on_signals

    reality = None if args.reality is None else _reality(args)
    options = EmulatorOptions(
        robot=args.robot,
        link=args.link,
        task=args.task,
        twin=args.twin if reality is None else reality["twin"],
        engine=args.engine if reality is None else reality["engine"],
        cameras={} if reality is None else reality["cameras"],
        pictures="raster" if reality is None else reality["pictures"],
        seed=args.seed,
        camera=not args.no_camera,
        http_port=args.http_port,
        faults=tuple(args.fault),
    )
    leave_on_signals()
    session = EmulatorSession(options)
    try:
        announcement = asdict(session.announcement)
        text = json.dumps(announcement) if args.json else _page(announcement)
        return 130 if session.run(lambda: print(text, flush=True)) == "SIGINT" else 0
    finally:
        session.close()


def _reality(args: argparse.Namespace) -> dict[str, Any]:
    """What `--reality` means for the emulator."""
    from hardware.emulator.world_plant import stage_task
    from pipelines.transfers.reality import CAMERA, load_reality, parameters_of
    from sim2real.robot import Robot

    if args.twin is not None or args.engine != "bullet":
        raise UserError("--reality has its own parameters and engine: leave --twin and --engine out")
    reality, robot = load_reality(args.reality), Robot.load(args.robot)
    cameras = {} if reality.camera is None else {CAMERA: reality.camera.table()}
    values = reality.values(parameters_of(robot, stage_task(args.task, robot)))
    return {"twin": values, "engine": reality.engine, "cameras": cameras, "pictures": reality.pictures}


def _tell(args: argparse.Namespace) -> int:
    import os

    from hardware.emulator.tell import tell

    if args.object:
        raise UserError(
            "--object says what lies on the table of an emulator that is started, not with --tell"
        )
    if not args.link:
        raise UserError("--tell needs --link: the link that the emulator was started with")
    for flag, value, what in (
        ("--path", args.path, ("hand", "show")), ("--goal", args.goal, ("success",)),
        ("--fault", args.fault, ("fault",)),
    ):  # fmt: skip
        if value and args.tell not in what:
            raise UserError(f"{flag} goes with --tell {' or '.join(what)}, not with --tell {args.tell}")
    task, goal = args.task or os.environ.get("TASK"), args.goal or os.environ.get("GOAL")
    if len(args.fault) > 1:
        raise UserError(f"--tell takes one --fault at a time, got {len(args.fault)}: ask once for each")
    status, text = tell(args.tell, args.link, task, goal, args.path, *args.fault)
    print(text.rstrip(), file=sys.stdout if status == 0 else sys.stderr)
    return status


def _page(a: dict[str, object]) -> str:
    """What a person needs to use the emulator, ready to paste."""
    sources = a["sources"]
    assert isinstance(sources, dict)
    robot = "" if a["robot"] == "so101" else f"--robot {shlex.quote(str(a['robot']))} "
    lines = [
        f"Emulated {a['robot']} with the objects of '{a['task']}' (seed {a['seed']}); Ctrl-C ends it.",
        "",
        f"  port         {a['port']}",
        f"  calibration  {a['calibration']}",
        f"  cameras      {a['cameras_file']}",
        f"  parameters   {a['twin']}   (the arm's true ones)",
        *(f"  {name:12} {url}" for name, url in sources.items()),
        f"  control      {a['control_url']}   POST /episode, /hand, /fault; GET /success?task=T&goal=x,y,z, /state",
        "",
        "Run a policy on it:",
        "",
        f"  sim2real deploy {robot}--policy POLICY --port {a['port']} --calibration {a['calibration']} \\",
        *([f"    --cameras {a['cameras_file']} \\"] if sources else []),
        f"    --before-episode 'sim2real emulate --link {a['port']} --tell episode' \\",
        f"    --success 'sim2real emulate --link {a['port']} --tell success' \\",
        "    --episodes 5 --out runs/deploy",
        "",
    ]
    return "\n".join(lines)
