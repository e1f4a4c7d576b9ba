"""`sim2real fleet agent`: on the robot's computer."""

import argparse

SUMMARY = "on a robot's computer: runs policies, tells the hub"
HELP = (
    "Run what the hub offers on this arm, a few episodes at a time, each run by `deploy` with its supervisor, gate and "
    "watchdog, and tell the hub what comes of it. Starting it lets the arm move. A policy is loaded only if the "
    "fleet's publisher has signed it and its task ships with sim2real. Without a hub it goes on with the policy it has "
    "and keeps what happens on its disk. After a fault, or when the hub asks to stop, nothing runs until a person here "
    "says so with --resume. Options of `deploy` follow after '--'."
)
EXAMPLES = """  sim2real fleet agent --hub tls/hub.factory.lan:7447 --identity a1 --state a1s --port /dev/ttyACM0 \\
      -- --cameras cameras.toml --camera front=0 --success ./looked.sh
  sim2real fleet agent --hub tls/127.0.0.1:7447 --identity a1 --state state --port emulated --yes
  sim2real fleet agent --hub tls/127.0.0.1:7447 --identity a1 --state state --runs runs   # tells, runs nothing
  sim2real fleet agent --resume --state state"""

OURS = (
    "--policy",
    "--port",
    "--out",
    "--episodes",
    "--json",
    "--yes",
    "--seconds",
    "--acknowledge",
    "--collect",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from hardware.fleet.messages import PIECE
    from hardware.fleet.outbox import QUOTA

    parser.add_argument("--hub", metavar="ENDPOINT", help="where the hub is: tls/HOST:PORT")
    parser.add_argument("--identity", metavar="DIR", help="this robot's folder, as `fleet enroll` made it")
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="what the agent keeps: outbox, policies, runs (default: the robot's, in the user's state directory)",
    )
    parser.add_argument(
        "--port", metavar="PORT", help="serial port, or 'emulated'; without it nothing is run"
    )
    parser.add_argument("--episodes", type=int, default=5, metavar="N", help="of one run (%(default)s)")
    parser.add_argument(
        "--record", action="store_true", help="record each run as a data set: `record`, not `deploy`"
    )
    parser.add_argument("--runs", metavar="DIR", help="tell of the runs in this folder (default: STATE/runs)")
    parser.add_argument(
        "--quota", type=float, default=QUOTA / 2**20, metavar="MB",
        help=f"of what is kept while offline, at least {PIECE // 2**19} (%(default)g)",
    )  # fmt: skip
    parser.add_argument("--heartbeat", type=float, default=1.0, metavar="S", help="between two (%(default)g)")
    parser.add_argument("--resume", action="store_true", help="somebody has looked at the arm: go on")
    parser.add_argument("--yes", action="store_true", help="do not ask before the first motion")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="-- …", help="options of `deploy`")


def run(args: argparse.Namespace) -> int:
    import signal
    from pathlib import Path

    from hardware.fleet.agent import Agent, Settings, resume, say_line
    from hardware.fleet.certificates import Identity
    from hardware.fleet.link import Endpoint
    from hardware.runtime.safety.escalation import state_folder
    from sim2real.errors import UserError

    identity = None if args.identity is None else Identity.read(args.identity)
    if args.state is None and identity is None:
        raise UserError(
            "an agent needs --identity DIR, the robot's folder, or --state DIR to go on (--resume)"
        )
    state = Path(args.state) if identity is None or args.state else state_folder() / "fleet" / identity.name
    if args.resume:
        resume(state)
        if args.hub is None:
            print(f"the agent of {state} goes on")
            return 0
    if args.hub is None or identity is None:
        raise UserError("an agent needs --hub ENDPOINT and --identity DIR")
    rest = [text for text in args.rest if text != "--"]
    if wrong := [text for text in rest if text.split("=")[0] in OURS]:
        raise UserError(f"{wrong[0]} is decided by the agent; leave it out after '--'")
    if not 1 <= args.episodes <= 1000:
        raise UserError(f"--episodes must be from 1 to 1000, got {args.episodes}")
    if not 1 <= args.quota <= 1e6:
        raise UserError(f"--quota must be from 1 to 1000000 MB, got {args.quota:g}")
    if not 0.05 <= args.heartbeat <= 60:
        raise UserError(f"--heartbeat must be from 0.05 to 60 s, got {args.heartbeat:g}")
    if args.port is not None and args.runs is not None:
        raise UserError("--runs tells of what others run; with --port the agent runs itself")
    settings = Settings(
        hub=Endpoint.parse(args.hub),
        identity=identity,
        state=state,
        port=args.port,
        arguments=tuple(rest),
        episodes=args.episodes,
        record=args.record,
        runs=None if args.runs is None else Path(args.runs),
        quota=int(args.quota * 2**20),
        heartbeat=args.heartbeat,
    )
    _confirm(args)
    agent = Agent(settings)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: agent.stop())
    say_line(f"agent of {settings.identity.name}, hub {settings.hub}")
    agent.run()
    return 0


def _confirm(args: argparse.Namespace) -> None:
    """On a terminal, ask before the arm may move."""
    import sys

    from sim2real.errors import UserError

    if args.port is None or args.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    print(f"the arm at {args.port} is about to move, by itself from now on. Is its workspace free? [y/N] ",
          end="", file=sys.stderr, flush=True)  # fmt: skip
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError("not confirmed: nothing has moved")
