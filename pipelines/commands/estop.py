"""`sim2real estop`: stop arms that are being driven on this machine."""

import argparse

from pipelines.commands._options import add

SUMMARY = "emergency stop of the arms that are being driven"
GROUP = "on an arm"
HELP = (
    "Emergency stop of every arm that sim2real drives on this machine (of one, with PID or --port): it brakes as "
    "hard as its limits allow and holds, whatever its policy or operator asks. Sent again a second later or more, it "
    "lets go at once: the arm drops. This works through software, the bus and the servos: it is no substitute for "
    "a switch in the power supply."
)
EXAMPLES = """  sim2real estop
  sim2real estop 4711
  sim2real estop --port /dev/ttyACM0"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pid", nargs="?", type=int, metavar="PID", help="the process that drives the arm")
    add(parser, port="the arm at this port")
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json
    import os
    import signal
    import sys

    from hardware.runtime.processes import control_processes, is_control
    from sim2real.errors import UserError

    if args.pid is not None and not is_control(args.pid):
        others = ", ".join(map(str, control_processes())) or "none"
        raise UserError(f"process {args.pid} drives no arm; processes that do: {others}")
    pids = [args.pid] if args.pid is not None else control_processes(args.port)
    stopped = []
    for pid in pids:
        try:
            os.kill(pid, signal.SIGUSR1)
            stopped.append(pid)
        except OSError as error:
            print(f"process {pid} cannot be reached: {error.strerror}", file=sys.stderr)
    if args.json:
        print(json.dumps({"stopped": stopped}))
    elif stopped:
        print(f"stopped: process {', '.join(map(str, stopped))}")
    if not stopped:
        where = f" at {args.port}" if args.port else ""
        print(f"no arm is being driven{where}: nothing was stopped", file=sys.stderr)
    return 0 if stopped else 1
