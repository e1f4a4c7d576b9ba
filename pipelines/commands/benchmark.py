"""`sim2real benchmark`: a policy on a suite of tasks, with intervals, a comparison, and why trials fail."""

import argparse

from pipelines.commands._options import add

SUMMARY = "measure a policy so that the figure holds: intervals, comparisons, why trials fail"
GROUP = "in simulation"
COMPILES = True
HELP = (
    "Try a policy many times on one task or on each of several, and say how often it succeeds with an interval, which "
    "tasks are hardest and why trials fail; with --against, whether it is better than another policy on the same "
    "draws. The same command in the same --out goes on. --plan only says how many trials a question needs. Writes "
    "trials.parquet, summary.json and report.html."
)
EXAMPLES = """  sim2real benchmark --policy runs/lift/policy.onnx --trials 200 --out runs/benchmark
  sim2real benchmark --policy runs/tuned/policy.onnx --against runs/lift/policy.onnx --trials 200 --out runs/better
  sim2real benchmark --policy expert --suite tasks --trials 50 --out runs/experts
  sim2real benchmark --policy runs/lift/policy.onnx --at-least 0.9 --trials 400 --out runs/enough  # ends when clear
  sim2real benchmark --policy runs/lift/policy.onnx --robustness --out runs/alone     # each randomization alone
  sim2real benchmark --policy runs/mt10/policy.onnx --suite metaworld-mt10 --trials 50 --out runs/mt10-measured
  sim2real benchmark --policy runs/lift/policy.onnx --port emulated --trials 20 --out runs/on-the-arm
  sim2real benchmark --scaling runs/lift-*/ --out runs/scaling      # error = a N^-b + c, the largest held out
  sim2real benchmark --plan --from 0.8 --to 0.9"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "policy")
    parser.add_argument(
        "--against",
        metavar="P",
        action="append",
        help="another policy, tried on the same draws; may be repeated",
    )
    add(
        parser, task={"action": "append", "help": "may be repeated (default: the policy's own task or suite)"}
    )
    parser.add_argument(
        "--suite",
        metavar="S",
        help="a suite of tasks instead of --task: tasks, table, metaworld-mt10, metaworld-mt50",
    )
    parser.add_argument("--split", metavar="S", help="only the tasks of this part of the suite")
    parser.add_argument("--trials", type=int, default=50, metavar="N", help="of each task (%(default)s)")
    parser.add_argument(
        "--at-least",
        type=float,
        metavar="P",
        help="end as soon as it is clear whether the mean success is above P",
    )
    parser.add_argument(
        "--robustness",
        action="store_true",
        help="also with each group of randomization alone: servo, sensing, delay, objects, camera, …",
    )
    parser.add_argument(
        "--speed",
        action="store_true",
        help="also with shorter chunks, lower rates, more latency, a slower arm, one at a time",
    )
    parser.add_argument(
        "--clips",
        type=int,
        default=3,
        metavar="N",
        help="moving pictures of so many causes of failure (%(default)s)",
    )
    add(parser, "object", "robot", "space", "twin", "cameras", "seed", "sees", "workers")
    parser.add_argument(
        "--engine",
        default="local",
        choices=("local", "ray"),
        help="this machine, or the cluster that RAY_ADDRESS names",
    )
    arm = parser.add_argument_group("on an arm instead of in simulation")
    arm.add_argument(
        "--port", metavar="P", help="of the arm, or 'emulated': sessions of `deploy`, which go on"
    )
    arm.add_argument("--yes", action="store_true", help="do not ask before the first motion")
    laws = parser.add_argument_group("how an error falls with demonstrations, tasks, network size or time")
    laws.add_argument(
        "--scaling",
        nargs="+",
        metavar="DIR",
        help="fit laws over the policies that these run directories (of benchmark, or of pretrain with its "
        "evaluation) measured, and run nothing",
    )
    plan = parser.add_argument_group("how many trials a question needs")
    plan.add_argument("--plan", action="store_true", help="say so, and run nothing")
    plan.add_argument("--from", dest="before", type=float, metavar="P", help="success of the one policy")
    plan.add_argument("--to", dest="after", type=float, metavar="P", help="success of the other")
    plan.add_argument("--alpha", type=float, default=0.05, metavar="A", help="one-sided (%(default)s)")
    plan.add_argument("--power", type=float, default=0.8, metavar="B", help="(%(default)s)")
    add(parser, out={"required": False})
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json

    from sim2real.errors import UserError

    if args.plan:
        from pipelines.benchmarks.trials import plan_trials

        if args.before is None or args.after is None:
            raise UserError("--plan needs the two rates to tell apart: --from 0.8 --to 0.9")
        needed = plan_trials(args.before, args.after, alpha=args.alpha, power=args.power)
        print(json.dumps(needed.to_dict()) if args.json else needed)
        return 0
    if args.scaling is not None:
        from pipelines.api.scaling import scaling

        if args.policy is not None or args.task or args.suite is not None:
            raise UserError("--scaling reads runs that are there; leave out --policy, --task and --suite")
        laws = scaling(args.scaling, out=args.out)
        print(json.dumps(dict(laws.summary)) if args.json else laws)
        return 0
    if args.before is not None or args.after is not None:
        raise UserError("--from and --to say what --plan is to plan; add --plan")
    for flag, value in (("--policy", args.policy), ("--out", args.out)):
        if value is None:
            raise UserError(f"{flag} is missing (only --plan and --scaling do without)")
    from pipelines.api.benchmark import benchmark

    result = benchmark(
        args.policy,
        args.task,
        args.robot,
        suite=args.suite,
        split=args.split,
        against=args.against,
        trials=args.trials,
        out=args.out,
        seed=args.seed,
        space=args.space,
        twin=args.twin,
        cameras=args.cameras,
        objects=args.object,
        sees=args.sees,
        at_least=args.at_least,
        robustness=args.robustness,
        speed=args.speed,
        clips=args.clips,
        workers=args.workers,
        engine=args.engine,
        port=args.port,
        yes=args.yes,
    )
    print(json.dumps(dict(result.summary)) if args.json else result)
    return 0
