"""`sim2real finetune`: adapt a policy to recorded data."""

import argparse

from pipelines.commands import _seeing, _source, _suite, _trained
from pipelines.commands._options import add
from sim2real.errors import UserError

SUMMARY = "adapt a policy to recorded data"
GROUP = "from recordings"
COMPILES = True
HELP = (
    "Adapt a pretrained policy to a small LeRobot data set, mixed with simulated episodes so that it does not "
    "forget. Successful episodes only, unless told otherwise. Writes DIR/policy.onnx and metrics.json with the "
    "error on held-out recorded episodes and the success in simulation, before and after. A policy for many tasks "
    "(`pretrain --suite`) is taught further ones, by their experts (--tasks) or from a recording, while it rehearses "
    "the old; what it learned and forgot is measured."
)
EXAMPLES = """  sim2real finetune --policy runs/lift/policy.onnx --data runs/recorded --out runs/tuned
  sim2real finetune --policy runs/lift/policy.onnx --data runs/recorded \\
                    --space runs/twin/space.toml --simulated 200 --out runs/tuned
  sim2real finetune --policy runs/lift/policy.onnx --data runs/recorded --train all --learning-rate 1e-4 \\
                    --simulated 0 --out runs/tuned
  sim2real finetune --policy runs/pixels/policy.onnx --data recorded --map observation.images.wrist=wrist \
                    --out runs/tuned        (a policy that sees: on 1, 3, 10 and all episodes, and from scratch)
  sim2real finetune --policy runs/table/policy.onnx --tasks tile_at_mark --demonstrations 10 --out runs/taught
  sim2real finetune --policy runs/table/policy.onnx --data recorded --task own.toml#tidy --out runs/taught"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, policy={"required": True, "metavar": "FILE", "help": "the policy to start from"})
    parser.add_argument("--data", metavar="DIR", help="a LeRobot data set (v3.0 or v2.x)")
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="ID",
        help="for a policy of a suite, instead of --data: new tasks, which their experts show",
    )
    parser.add_argument("--demonstrations", type=int, metavar="N", help="with --tasks: of each (10)")
    add(parser, "out")
    parser.add_argument(
        "--simulated",
        type=int,
        metavar="N",
        help="simulated episodes to mix in; for a policy of a suite: of its old tasks",
    )
    add(
        parser,
        space="what varies in them: a file, 'default', or 'identified' from the recordings (default, where they tell)",
    )
    add(parser, "twin", "cameras", "object", task="task (default: the policy's own); module:Class for yours")
    _source.add_reading(parser)
    parser.add_argument(
        "--all-episodes",
        action="store_true",
        dest="every_episode",
        help="failed episodes as if they had succeeded",
    )
    parser.add_argument(
        "--failures",
        choices=("leave-out", "avoid"),
        help="failed episodes: not used, or with what the expert would do",
    )
    parser.add_argument(
        "--labels", choices=("auto", "recorded", "expert"), help="what is learned in recorded states"
    )
    parser.add_argument(
        "--lead", type=float, metavar="L", help="periods by which recorded actions trail (default: estimated)"
    )
    parser.add_argument(
        "--mix",
        "--real-share",
        type=mix,
        dest="mix",
        metavar="R",
        help="recorded share of every batch, or auto",
    )
    parser.add_argument(
        "--rehearsal",
        type=float,
        metavar="F",
        help="share of the rest that comes from the default space; for a policy of a suite: of every batch, from its "
        "old tasks",
    )
    parser.add_argument("--train", choices=("head", "adapters", "all"), help="what is trained")
    parser.add_argument(
        "--thaw", type=float, metavar="F", help="with --train all: the head alone for this share"
    )
    parser.add_argument(
        "--patience", type=int, metavar="N", help="epochs without gain before the end (0: never)"
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="for a policy that sees: steps of training on each number of episodes",
    )
    parser.add_argument(
        "--curve", type=counts, metavar="0,5,10", help="measure success after so many recorded episodes, too"
    )
    add(parser, "epochs", "learning_rate", "evaluate", "seed", "workers")
    add(parser, "accelerator", "devices", "nodes", "strategy", "precision")


def counts(text: str) -> tuple[int, ...]:
    """--curve: counts of episodes."""
    return tuple(int(part) for part in text.split(","))


def mix(text: str) -> "float | str":
    """--mix: a share, or auto."""
    return text if text == "auto" else float(text)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from pipelines.identification.source import robot_of
    from pipelines.learning.comparing import change_text
    from pipelines.learning.finetune import FinetuneSettings, finetune
    from pipelines.learning.trainer import options_from, settings_from
    from pipelines.sweeps.simulated import task_for, worker_count

    if args.tasks is not None or _suite.is_of_suite(args.policy):
        return _suite.run(args)
    if args.data is None or args.demonstrations is not None:
        raise UserError(
            f"{args.policy} is for one task and is adapted to recordings: give --data DIR (--tasks and "
            "--demonstrations are for policies of `sim2real pretrain --suite`)"
        )
    # Which robot it is, the data say; --robot may be a file, whose name alone the robot does not keep.
    robot, remarks = robot_of(args.robot, args.data)
    args.robot = args.robot or robot.name
    if _seeing.sees(args.policy):
        return _seeing.run(args, remarks)
    if args.steps is not None:
        raise UserError(f"--steps is for policies that see; {args.policy} takes no pictures")
    for remark in remarks:
        _trained.say(f"note: {remark}")
    args.names = _source.names_of(args)
    if args.object:
        args.task = task_for(args.task, args.policy, args.robot, args.object)
    result = finetune(
        settings_from(FinetuneSettings, args),
        Path(args.out),
        workers=worker_count(args.workers),
        options=options_from(args),
        say=_trained.say,
    )
    before, after = result["held_out_deg"]["before"], result["held_out_deg"]["after"]
    if before is not None:
        _trained.say(f"error on held-out recorded episodes: {before:.2f}° → {after:.2f}°")
    if "simulation" in result:
        _trained.say(f"success in simulation of this arm: {change_text(result['simulation'])}")
        _trained.say(f"success in the default space: {change_text(result['forgetting'])}")
        if result["forgotten"]:
            _trained.say(
                "warning: the policy has forgotten some of what it could; give it more --rehearsal or --simulated"
            )
    if result["interrupted"]:
        return _trained.stopped_early(args.out)
    return _trained.finished(args.out)
