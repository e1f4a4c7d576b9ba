"""`sim2real fleet rollout`: a policy to all robots, in stages, with a way back."""

import argparse

from pipelines.commands._fleet._options import add_store
from pipelines.commands._options import add

SUMMARY = "bring a policy to all robots in stages; what fails goes back by itself"
HELP = (
    "Bring a published policy to the robots in stages: a canary, then shares that mirror sites, firmware and cameras. "
    "A stage ends when episodes show that success is not worse than the stable policy's by more than --delta, in the "
    "whole fleet and in every group: passed. When it is worse, or a safety event happens, the rollout has failed and "
    "every robot goes back. Until then it is inconclusive, and waits. After the last stage the policy is 'stable'. "
    "The hub keeps it going; the command begins it, and tells where it stands when called again. Nothing moves by it: "
    "robots take policies up between two runs of their own."
)
EXAMPLES = """  sim2real fleet rollout candidate --store fleet --stages 1,10%,50%,100%
  sim2real fleet rollout candidate --store fleet --min-success 0.9 --delta 0.05
  sim2real fleet rollout candidate --store fleet --json               # where it stands
  sim2real fleet rollout candidate --store fleet --abort              # everybody goes back"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", metavar="ID", help="the policy: an alias, or a digest's beginning")
    add_store(parser)
    parser.add_argument(
        "--stages", metavar="S", help="numbers of robots and shares of the fleet (1,10%%,50%%,100%%)"
    )
    parser.add_argument(
        "--delta",
        type=float,
        metavar="D",
        help="how much lower success may not be than the stable one's (0.1)",
    )
    parser.add_argument(
        "--group-delta", type=float, metavar="D",
        help="the same at a single site, firmware or camera (twice --delta)",
    )  # fmt: skip
    parser.add_argument(
        "--min-success", type=float, metavar="P", help="what every stage must show besides, 0 to 1"
    )
    parser.add_argument(
        "--alpha", type=float, metavar="A", help="chance of passing a stage while worse by --delta (0.05)"
    )
    parser.add_argument(
        "--max-safety-events", type=int, metavar="N", help="more of them end the rollout at once (0)"
    )
    parser.add_argument(
        "--patience", type=int, metavar="N",
        help="episodes after which a stage that shows nothing is called inconclusive (2000)",
    )  # fmt: skip
    parser.add_argument(
        "--on-inconclusive", choices=("wait", "continue"),
        help="what then: wait, or go on; a rollout that went on never ends as passed (wait)",
    )  # fmt: skip
    parser.add_argument(
        "--alone",
        type=int,
        metavar="N",
        help="episodes that a robot may run it without hearing from the hub (100)",
    )
    parser.add_argument("--abort", action="store_true", help="end it: every robot goes back")
    add(parser, "json")


RULES = (
    "delta", "group_delta", "alpha", "min_success", "max_safety_events", "patience", "on_inconclusive", "alone"
)  # fmt: skip


def run(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from pipelines.fleet.conductor import abort, begin, conduct, summary, text
    from pipelines.fleet.registry.names import whoami
    from pipelines.fleet.registry.registry import Registry
    from pipelines.fleet.rollout.plan import STAGES, Plan, Rules, parse_stages, sizes_of
    from sim2real.errors import UserError

    given = {name: getattr(args, name) for name in RULES if getattr(args, name) is not None}
    with Registry.open(args.store, args.database, args.objects) as registry:
        policy = registry.policy(args.policy)
        known = [one for one in registry.rollouts() if one.policy == policy.digest]
        going = known[0] if known and known[0].state in ("running", "waiting") else None
        if args.abort:
            if going is None:
                raise UserError(f"no rollout of {policy.digest[:12]} is under way")
            rollout, progress = going, abort(registry, going, "ended by hand", by=whoami())
        elif going is not None:
            plan = Plan.from_dict(going.plan)
            now = asdict(plan.rules)
            changed = [name for name, value in given.items() if now[name] != value]
            if args.stages and sizes_of(parse_stages(args.stages), len(plan.robots)) != plan.sizes:
                changed.append("stages")
            if changed:
                raise UserError(
                    f"rollout {going.id} of this policy is under way with other rules ({', '.join(changed)}); "
                    "end it with --abort, or leave them out to see where it stands"
                )
            rollout, progress = going, conduct(registry, going, by=whoami())
        elif known and args.stages is None and not given:
            rollout, progress = known[0], conduct(registry, known[0], by=whoami())
        else:
            rollout = begin(registry, policy, args.stages or STAGES, Rules(**given), by=whoami())
            progress = conduct(registry, rollout, by=whoami())
    answer = summary(rollout, progress)
    print(json.dumps(answer) if args.json else text(answer))
    return 1 if progress.state == "failed" and not args.abort else 0
