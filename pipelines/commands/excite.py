"""`sim2real excite`: record the motion that identification still needs."""

import argparse

from pipelines.commands._options import add

SUMMARY = "record the motion that identification still needs"
GROUP = "on an arm"
COMPILES = True
HELP = (
    "Play a motion on the arm, through the gate, that tells what the last identification could not, and record it as "
    "a LeRobot data set for `sim2real identify`. The motion is chosen with the twin: the one that would narrow down "
    "most of what is unsure. It needs free air around the home pose, and nothing in the gripper."
)
EXAMPLES = """  sim2real excite --port emulated --seconds 30 --out recordings/excited
  sim2real excite --port /dev/ttyACM0 --twin runs/twin/twin.toml --joints shoulder_lift,elbow_flex \\
      --out recordings/excited
  sim2real identify --data recordings/excited --out runs/better
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, port={"required": True}, twin="what is known already: a twin.toml of identify")
    parser.add_argument("--joints", metavar="A,B", help="move only these joints (default: all)")
    add(parser, seconds={"default": 30.0, "help": "at most so long (%(default)s)"})
    add(parser, "robot", "calibration", "speed", seed="of the motions compared (%(default)s)")
    add(parser, "yes", out="the data set; recording again adds to it")
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json
    import sys

    from hardware.servos.ports import require_port
    from pipelines.deployment.request import EMULATED, Options
    from pipelines.deployment.result import summary
    from pipelines.identification import excite
    from pipelines.reports.report import try_report
    from sim2real.calibration import Calibration
    from sim2real.robot import Robot

    robot = Robot.load(args.robot)
    if args.calibration is not None:
        Calibration.load(args.calibration, robot)
    options = Options(
        command="excite", port=args.port, out=args.out, robot=args.robot, calibration=args.calibration,
        seed=args.seed, speed=args.speed, yes=args.yes,
    )  # fmt: skip
    # Choosing a motion takes a while; finding out about a wrong port should not.
    if args.port != EMULATED:
        require_port(args.port)
    joints = (
        None if args.joints is None else [name.strip() for name in args.joints.split(",") if name.strip()]
    )
    chosen = excite.plan(
        robot, twin=args.twin, joints=joints, seconds=args.seconds, speed=args.speed, seed=args.seed
    )
    print(excite.said(chosen, robot.policy_rate), file=sys.stderr, flush=True)
    result, status = excite.run(options, chosen)
    print(json.dumps(result) if args.json else summary(result), flush=True)
    if result["episodes"]:
        try_report(args.out)
        print(f"next: sim2real identify --data {args.out} --out runs/twin", file=sys.stderr)
    return status
