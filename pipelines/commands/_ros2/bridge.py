"""`sim2real ros2 bridge`: an arm for ROS 2, without a ROS installation."""

import argparse

from pipelines.commands._options import add, add_cameras

SUMMARY = "an arm for ROS 2: joint states and pictures out, goals in through the gate"
HELP = (
    "Publish an arm's joint states, tool, cameras, state and diagnostics to ROS 2, and take goals from it: "
    "trajectories and set-points, all of them through the safety gate and under the supervisor, like everything that "
    "moves an arm here. "
    "The arm stays limp until true is published on /sim2real/enable; false stops and lowers it, and ends the bridge. "
    "Talks on loopback alone, unless an interface is named. Needs cyclonedds: pip install 'sim2real-transfer[ros2]'."
)
EXAMPLES = """  sim2real ros2 bridge --port emulated --out runs/bridge
  sim2real ros2 bridge --port /dev/ttyACM0 --calibration my_arm.json --domain 7 --out runs/bridge
  ros2 topic pub --once /sim2real/enable std_msgs/msg/Bool '{data: true}'
  ros2 topic pub -r 50 /forward_position_controller/commands std_msgs/msg/Float64MultiArray '{data: [0,-1,1,0,0,0]}'"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, port={"required": True})
    add(parser, "robot", "calibration")
    add_cameras(parser)
    parser.add_argument("--domain", type=int, metavar="N", help="of ROS (default: ROS_DOMAIN_ID, else 0)")
    parser.add_argument(
        "--interface",
        default="lo",
        metavar="NAME",
        help="network interface for DDS; others can then send (%(default)s)",
    )
    parser.add_argument(
        "--deadline",
        type=float,
        default=0.5,
        metavar="S",
        help="stop so long after the last set-point (%(default)s)",
    )
    parser.add_argument("--start", action="store_true", help="arm at once, do not wait for /sim2real/enable")
    parser.add_argument(
        "--estop", action="append", default=[], metavar="PATH",
        help="emergency stop input, as for deploy; may be repeated",
    )  # fmt: skip
    add(
        parser, seconds="end so long after it began to follow", speed="scales the gate's limits (%(default)s)"
    )
    add(parser, "yes", "out", "json")


def run(args: argparse.Namespace) -> int:
    import json
    import os

    from pipelines.deployment.request import Options
    from pipelines.deployment.result import summary
    from pipelines.deployment.ros2_bridge import bridge
    from sim2real.errors import UserError

    domain = args.domain
    if domain is None:
        text = os.environ.get("ROS_DOMAIN_ID", "0") or "0"
        if not text.isdecimal():
            raise UserError(f"ROS_DOMAIN_ID must be a whole number, got '{text}'")
        domain = int(text)
    names = ("port", "out", "robot", "calibration", "cameras", "seconds", "speed", "yes")
    options = Options(
        command="ros2",
        estop=tuple(args.estop),
        camera=tuple(args.camera),
        **{name: getattr(args, name) for name in names},
    )
    result, status = bridge(
        options, domain=domain, interface=args.interface, deadline=args.deadline, start=args.start
    )
    if args.json:
        print(json.dumps(result), flush=True)
        return status
    print(summary(result), flush=True)
    if "taken" in result:
        last = f", the last one: {result['last_refusal']}" if result["refused_commands"] else ""
        shown = ", ".join(f"{count} of {name}" for name, count in result["pictures"].items())
        print(f"to ROS      {result['published']} joint states, {shown or 'no'} pictures")
        print(f"from ROS    {result['taken']} commands taken, {result['refused_commands']} refused{last}")
    return status
