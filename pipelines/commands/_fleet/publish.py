"""`sim2real fleet publish`: a policy file into the fleet's store, signed."""

import argparse

from pipelines.commands._fleet._options import add_store
from pipelines.commands._options import add

SUMMARY = "sign a policy and put it into the fleet's store"
HELP = (
    "Put a policy file into the fleet's store: it is kept by its content, signed (ed25519), listed with where it comes "
    "from, and noted in the audit log. An alias (candidate, stable) says what robots run: 'stable' wherever a rollout "
    "has not assigned another one. Nothing moves by it: robots take it up between two runs of their own. Needs the "
    "extra: pip install 'sim2real-transfer[fleet]'."
)
EXAMPLES = """  sim2real fleet publish runs/lift/policy.onnx --store fleet --alias candidate
  sim2real fleet publish runs/lift/policy.onnx --store fleet --alias stable --lineage benchmark=runs/lift_bench
  sim2real fleet publish runs/lift/policy.onnx --store fleet --key /media/stick/publisher.pem --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", metavar="POLICY", help="the policy file")
    add_store(parser)
    parser.add_argument("--alias", metavar="NAME", help="what it is called from now on: candidate, stable, …")
    parser.add_argument("--name", metavar="TEXT", help="what people call it (default: its folder's name)")
    parser.add_argument(
        "--lineage", action="append", default=[], metavar="PART=TEXT",
        help="where it comes from: data, space, twin, training, benchmark or rollout; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--key", metavar="FILE", help="the publisher's private key (default: the store's own)"
    )
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.fleet.registry.names import whoami
    from pipelines.fleet.registry.registry import Registry
    from sim2real.errors import UserError
    from sim2real.policies.file import load_policy_file

    lineage = {}
    for text in args.lineage:
        part, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--lineage takes PART=TEXT, got '{text}'")
        lineage[part] = value
    load_policy_file(args.policy)  # before a store is made for it
    with Registry.open(args.store, args.database, args.objects, create=True) as registry:
        policy = registry.publish(
            args.policy, by=whoami(), alias=args.alias, name=args.name, lineage=lineage, key=args.key
        )
        aliases = [alias for alias, digest in registry.aliases().items() if digest == policy.digest]
    if args.json:
        print(json.dumps({
            "digest": policy.digest, "name": policy.name, "task": policy.task, "robot": policy.robot,
            "size": policy.size, "aliases": aliases, "signature": policy.signature, "lineage": policy.lineage,
        }))  # fmt: skip
    else:
        called = f", now {' and '.join(aliases)}" if aliases else ""
        print(f"{policy.digest[:12]}  {policy.name}: {policy.task} on {policy.robot}, signed{called}")
    return 0
