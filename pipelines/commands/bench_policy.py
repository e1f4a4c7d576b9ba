"""`sim2real bench-policy`: is a policy fast enough for its arm?"""

import argparse

from pipelines.commands._options import add

SUMMARY = "is a policy fast enough for its arm?"
GROUP = "on an arm"
COMPILES = True
HELP = (
    "Measure how long a policy takes for an answer on this machine, alone and with the other cores busy, against what "
    "its rate and the length of its chunks allow. The exit status is 0 when it can be deployed: when no more than one "
    "answer in a hundred, at load, comes after the chunk before has run out. Nothing moves, and no arm is needed. "
    "--quantize makes a file with 8-bit weights, compares its actions and its speed with the file's, and writes it "
    "where that pays; the exit status then says whether it was written."
)
EXAMPLES = """  sim2real bench-policy runs/lift/policy.onnx
  sim2real bench-policy runs/lift/policy.onnx --threads 2 --load 4 --json
  sim2real bench-policy runs/pixels/policy.onnx --quantize runs/pixels/policy8.onnx --data runs/recorded
  sim2real bench-policy my.module:MyPolicy --task reach
  sim2real bench-policy tcp://127.0.0.1:5555 --task reach      (a policy server, its network included)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "policy",
        metavar="POLICY",
        help="a policy file, expert, zero, random, module:Class or tcp://HOST:PORT",
    )
    add(parser, "task", robot={"default": None, "help": "robot or its TOML (default: the policy's own)"})
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N",
        help="of a file's network (%(default)s, as on an arm)",
    )  # fmt: skip
    parser.add_argument(
        "--load", type=int, metavar="N", help="busy processes beside it (default: one per other core)"
    )
    add(parser, seconds={"default": 5.0, "help": "for each of the two measurements (%(default)s)"})
    parser.add_argument("--quantize", metavar="OUT.onnx", help="write it with 8-bit weights, where they pay")
    parser.add_argument(
        "--data", metavar="DIR",
        help="with --quantize: compare on the observations of this LeRobot data set (default: simulated episodes)",
    )  # fmt: skip
    parser.add_argument(
        "--anyway", action="store_true", help="with --quantize: write it also where it does not pay"
    )
    add(parser, seed="with --quantize: of the simulated episodes (%(default)s)")
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.api.bench import bench_policy, quantize_policy
    from sim2real.errors import UserError

    if args.quantize is None and (args.anyway or args.data is not None):
        raise UserError("--anyway and --data say how to make 8-bit weights: give --quantize OUT.onnx")
    found = bench_policy(
        args.policy, args.task, args.robot, threads=args.threads, load=args.load, seconds=args.seconds
    )
    result = dict(found.result)
    if not args.json:
        print(found)
    if args.quantize is None:
        if args.json:
            print(json.dumps(result))
        return 0 if found.deployable else 1
    made = quantize_policy(
        args.policy, args.quantize, args.robot, data=args.data, anyway=args.anyway, seed=args.seed,
        seconds=args.seconds,
    )  # fmt: skip
    print(json.dumps(result | {"quantized": dict(made.result)}) if args.json else made)
    return 0 if made.path is not None else 1
