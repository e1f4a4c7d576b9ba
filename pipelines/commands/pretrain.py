"""`sim2real pretrain`: train a policy in simulation."""

import argparse

from pipelines.commands import _trained
from pipelines.commands._options import add

SUMMARY = "train a policy in simulation under randomization"
GROUP = "in simulation"
COMPILES = True
HELP = (
    "Train a policy in simulation under randomization. A scripted expert shows the task in many drawn worlds, "
    "a network learns to do the same from what sensors and camera show, drives itself, and is corrected where "
    "it goes wrong. With --observe pixels it is given pictures instead of what a detector finds in them. Writes "
    "DIR/policy.onnx, logs, checkpoints and metrics.json. Ctrl-C leaves the policy as it is at that moment; the same "
    "command goes on."
)
EXAMPLES = """  sim2real pretrain --task reach --out runs/reach
  sim2real pretrain --task lift --space runs/twin/space.toml --seed 1 --out runs/lift
  sim2real pretrain --task lift --cameras cameras.toml --out runs/lift     (for your own camera, where it stands)
  sim2real pretrain --task push --max-minutes 2 --out runs/quick
  sim2real pretrain --task my_tasks:Pour --algorithm ppo --out runs/pour  (a task without an expert)
  sim2real pretrain --suite table --minutes 60 --out runs/table          (one policy for many tasks)
  sim2real pretrain --suite metaworld-mt10 --minutes 15 --out runs/mt10  (on the tables of Meta-World)
  sim2real pretrain --task lift --observe pixels --out runs/lift-pixels
  sim2real pretrain --task lift --out runs/lift   (again after Ctrl-C: goes on where it was)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--suite",
        metavar="S",
        help="one policy for the tasks of a suite, instead of --task: table, metaworld-mt10, metaworld-mt50",
    )
    parser.add_argument("--split", metavar="S", help="with --suite: which part of it (seen)")
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="PATTERN",
        help="with --suite: only these, '*_in_bowl' (all of the split)",
    )
    parser.add_argument(
        "--balance",
        type=float,
        metavar="F",
        help="with --suite: share of a round's episodes that goes where the policy failed (0.7)",
    )
    add(parser, task={"help": "reach, push, lift, place, stack or module:Class"})
    add(parser, "object", "out", "robot", "space", "twin", "cameras")
    parser.add_argument(
        "--algorithm",
        metavar="A",
        help="cloning (default), ppo, cloning+ppo, or a class of your own that practises as my.module:MyAlgorithm",
    )
    parser.add_argument("--practice", type=int, metavar="N", help="with ppo: practised episodes in all")
    parser.add_argument(
        "--latency",
        type=float,
        metavar="S",
        help="train for answers that take up to S seconds (at most 0.3): the policy is told what the arm will do until "
        "then (default: the latencies of the space, and it is not told)",
    )
    parser.add_argument("--expert", metavar="P", help="who demonstrates (default: the task's expert)")
    parser.add_argument("--episodes", type=int, metavar="N", help="demonstrated episodes in all")
    add(parser, "seed")
    parser.add_argument("--rounds", type=int, metavar="R", help="rounds of collection")
    add(parser, epochs="epochs of training in all")
    parser.add_argument("--batches", type=int, metavar="B", help="batches per epoch")
    parser.add_argument("--batch-size", type=int, metavar="B", help="pairs per batch")
    add(parser, "learning_rate")
    parser.add_argument(
        "--observe",
        choices=("state", "pixels"),
        default="state",
        help="what the policy sees: the objects' places as a detector gives them, or pictures (%(default)s)",
    )
    parser.add_argument(
        "--picture",
        dest="pictures",
        action="append",
        metavar="CAMERA=VIEW[:WxH]",
        help="with --observe pixels: what it sees of a camera, 'table' (from above; default: front=table) or "
        "'frame' (the whole picture); once for each camera",
    )
    parser.add_argument(
        "--background",
        dest="backgrounds",
        action="append",
        metavar="FILE",
        help="with --observe pixels: a photograph of your empty table; with --cameras it must be from that camera",
    )
    parser.add_argument(
        "--history",
        type=int,
        metavar="K",
        help="observations in a row that the policy is given (1; for pixels 4): from what changes over them it learns "
        "to tell delay, friction and mass",
    )
    parser.add_argument(
        "--channels", type=int, metavar="C", help="with --observe pixels: of the convolutions"
    )
    parser.add_argument(
        "--keep",
        type=float,
        metavar="SHARE",
        help="with --observe pixels: share of the pictures learned from",
    )
    parser.add_argument("--network", metavar="KIND", help="kind of network (mlp; cnn for pixels)")
    parser.add_argument("--width", type=int, metavar="W", help="units per layer of the network")
    parser.add_argument("--depth", type=int, metavar="D", help="layers of the network")
    parser.add_argument("--noise", type=float, metavar="RAD", help="noise on what is executed, in bursts")
    parser.add_argument(
        "--labels",
        choices=("sensors", "truth", "objects"),
        help="what the demonstrating expert looks at (default: sensors; for pixels objects: the sensors' joints and "
        "the true places of the objects)",
    )
    add(parser, evaluate="episodes of the measurement at the end")
    parser.add_argument(
        "--max-minutes", "--minutes", type=float, metavar="M", help="fit collection and training into this"
    )
    add(parser, "workers")
    parser.add_argument("--resume", action="store_true", help="go on in DIR, and refuse to begin anew")
    add(parser, "accelerator", "devices", "nodes", "strategy", "precision")


def run(args: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from pipelines.learning.pretrain import pretrain
    from pipelines.learning.ranks import main_process
    from pipelines.learning.settings import kind_of_settings
    from pipelines.learning.trainer import options_from, settings_from
    from pipelines.sweeps.simulated import worker_count
    from sim2real.errors import UserError
    from sim2real.tasks.registry import with_flags

    if (args.task is None) == (args.suite is None):
        raise UserError("give --task, or --suite for one policy for many tasks")
    if args.task is not None:
        args.task = with_flags(args.task, args.object)
    elif args.object:
        raise UserError("--object changes the objects of one task: give --task instead of --suite")
    kind = kind_of_settings(args.observe, vars(args), suite=args.suite)
    if args.suite is not None:
        args.task = args.suite
    for name in ("pictures", "backgrounds", "tasks"):
        if getattr(args, name) is not None:
            setattr(args, name, tuple(getattr(args, name)))
    result = pretrain(
        settings_from(kind, args),
        Path(args.out),
        workers=worker_count(args.workers),
        options=options_from(args),
        max_minutes=args.max_minutes,
        resume=args.resume,
    )
    if result["interrupted"]:
        return _trained.stopped_early(args.out)
    if args.max_minutes is not None and main_process():
        pairs = sum(entry["pairs"] for entry in result["rounds"])
        practised = max((row["episodes"] for row in result.get("practice", [])), default=0)
        print(
            f"within {args.max_minutes:g} min: {pairs} pairs, {result['steps']} training steps"
            + (f", {practised} practised episodes" if practised else ""),
            file=sys.stderr,
        )
    if "evaluation" in result:
        low, high = result["evaluation"]["wilson_95"]
        rate, draws = result["evaluation"]["success_rate"], result["evaluation"]["draws"]
        print(
            f"success in simulation: {rate:.1%} [{low:.0%}, {high:.0%}] of {draws} "
            f"{result['evaluation'].get('on', 'unseen draws')}",
            file=sys.stderr,
        )
    return _trained.finished(args.out)
