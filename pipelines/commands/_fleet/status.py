"""`sim2real fleet status`: robots, policies, episodes and rollouts at a glance."""

import argparse

from pipelines.commands._fleet._options import add_store
from pipelines.commands._options import add

SUMMARY = "robots, policies, episodes and rollouts"
HELP = (
    "What the fleet's store knows: robots with state, policy and success, policies with aliases, rollouts, and whether "
    "the audit log is whole. Needs no hub. A robot that has not been heard for ten seconds is offline, which is no "
    "failure: it goes on with the policy that it has, and tells later."
)
EXAMPLES = """  sim2real fleet status --store fleet
  sim2real fleet status --store fleet --json
  sim2real fleet status --store fleet --audit 20"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument(
        "--audit", type=int, metavar="N", help="show the last N entries of the audit log instead"
    )
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from pipelines.fleet.registry.registry import Registry
    from pipelines.fleet.status import status, text
    from sim2real.errors import UserError

    if args.audit is not None and args.audit < 1:
        raise UserError(f"--audit must be at least 1, got {args.audit}")
    with Registry.open(args.store, args.database, args.objects) as registry:
        if args.audit is not None:
            entries = [asdict(entry) for entry in registry.audit(args.audit)]
            if args.json:
                print(json.dumps({"audit": entries}))
            else:
                for one in entries:
                    print(
                        f"{one['id']:6}  {one['time']:.0f}  {one['who']}  {one['what']}  {json.dumps(one['details'])}"
                    )
            return 0
        answer = status(registry)
    print(json.dumps(answer) if args.json else text(answer))
    return 0 if answer["audit"]["broken_at"] is None else 1
