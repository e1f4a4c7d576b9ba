"""`sim2real fleet stop`: robots end their deployments by their own supervisors."""

import argparse

from pipelines.commands._fleet._options import add_store
from pipelines.commands._options import add

SUMMARY = "ask robots to end what they run"
HELP = (
    "Ask robots to end their deployments: each agent ends its run as Ctrl-C does, through the arm's own supervisor "
    "(stop, lower, let go), at its next heartbeat, or when it is online again. This is no emergency stop. A robot that "
    "has stopped goes on when a person at it says so (`fleet agent --resume`); --lift only stops asking."
)
EXAMPLES = """  sim2real fleet stop --store fleet
  sim2real fleet stop --store fleet --robot a1 --robot a2
  sim2real fleet stop --store fleet --lift"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument(
        "--robot", action="append", metavar="NAME", help="only this one; may be repeated (default: all)"
    )
    parser.add_argument("--lift", action="store_true", help="ask no more")
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.fleet.registry.names import whoami
    from pipelines.fleet.registry.registry import Registry

    with Registry.open(args.store, args.database, args.objects) as registry:
        ask = registry.lift_stop if args.lift else registry.request_stop
        names = ask(args.robot, by=whoami())
    if args.json:
        print(json.dumps({"robots": names, "stop": not args.lift}))
    else:
        what = "asked no more to stop" if args.lift else "asked to stop"
        print(f"{len(names)} robots are {what}: {', '.join(names[:20])}" if names else "no robot is enrolled")
    return 0
