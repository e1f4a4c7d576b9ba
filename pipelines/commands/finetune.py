"""`sim2real finetune`: adapt a policy to recorded data."""

import argparse

from pipelines.commands import _source
from pipelines.commands._options import add

SUMMARY = "adapt a policy to recorded data"
GROUP = "from recordings"
COMPILES = True
HELP = (
    "Adapt a pretrained policy to a small LeRobot data set, mixed with simulated episodes so that it does not "
    "forget. Successful episodes only, unless told otherwise. Writes DIR/policy.onnx and metrics.json with the "
    "error on held-out recorded episodes and the success in simulation, before and after."
)
EXAMPLES = """  sim2real finetune --policy runs/lift/policy.onnx --data runs/recorded --out runs/tuned
  sim2real finetune --policy runs/lift/policy.onnx --data runs/recorded \\
                    --space runs/twin/space.toml --simulated 200 --out runs/tuned
  sim2real finetune --policy runs/lift/policy.onnx --data runs/recorded --train all --learning-rate 1e-4 \\
                    --simulated 0 --out runs/tuned"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, policy={"required": True, "metavar": "FILE", "help": "the policy to start from"})
    parser.add_argument("--data", required=True, metavar="DIR", help="a LeRobot data set (v3.0 or v2.x)")
    add(parser, "out")
    parser.add_argument("--simulated", type=int, metavar="N", help="simulated episodes to mix in")
    add(parser, space="what varies in them, as `identify` wrote it")
    add(parser, "twin", task="task (default: the policy's own); module:Class for yours")
    _source.add_reading(parser)
    parser.add_argument(
        "--all-episodes", action="store_true", dest="every_episode", help="use failed episodes, too"
    )
    parser.add_argument(
        "--lead", type=float, metavar="L", help="periods by which recorded actions trail (default: estimated)"
    )
    parser.add_argument("--real-share", type=float, metavar="F", help="recorded share of every batch")
    parser.add_argument("--train", choices=("head", "all"), help="what is trained")
    add(parser, "epochs", "learning_rate", "evaluate", "seed", "workers")
    add(parser, "accelerator", "devices", "precision")


def run(args: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from pipelines.identification.source import robot_of
    from pipelines.learning.finetune import FinetuneSettings, finetune, forgotten
    from pipelines.learning.trainer import TrainerOptions, main_process, settings_from
    from pipelines.reports.report import try_report
    from pipelines.sweeps.simulated import worker_count

    # Which robot it is, the data say; --robot may be a file, whose name alone the robot does not keep.
    robot, remarks = robot_of(args.robot, args.data)
    args.robot = args.robot or robot.name
    result = finetune(
        settings_from(FinetuneSettings, args),
        Path(args.out),
        workers=worker_count(args.workers),
        options=TrainerOptions(args.accelerator, args.devices, args.precision),
    )
    used = result["recorded"]
    for remark in (*remarks, *used["remarks"]):
        print(f"note: {remark}", file=sys.stderr)
    print(
        f"used {used['episodes']} of {used['episodes_in_set']} recorded episodes, {used['pairs']} frames "
        f"({used['units']}); actions trail by {used['lead_periods']:g} periods",
        file=sys.stderr,
    )
    before, after = result["held_out_deg"]["before"], result["held_out_deg"]["after"]
    if before is not None:
        print(f"error on held-out recorded episodes: {before:.2f}° → {after:.2f}°", file=sys.stderr)
    if "simulation" in result:
        rates = [result["simulation"][key]["success_rate"] for key in ("before", "after")]
        print(f"success in simulation: {rates[0]:.1%} → {rates[1]:.1%}", file=sys.stderr)
        if forgotten(result["simulation"]):
            print(
                "warning: the policy has got worse in simulation; use more --simulated episodes",
                file=sys.stderr,
            )
    if result["interrupted"]:
        print(f"stopped early; the policy so far is {args.out}/policy.onnx", file=sys.stderr)
        return 130
    if main_process():
        try_report(args.out)
        print(f"{args.out}/policy.onnx")
    return 0
