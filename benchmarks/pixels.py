"""Policies that see: minutes to train one, success on unseen draws under visual randomization, how long it thinks.

The policy is trained with `sim2real pretrain --observe pixels` and its defaults, then measured with `sim2real evaluate`
on draws that it has not seen (camera anywhere around the table, lens, light, colours, textures, distractors, noise and
compression as everything else), and with `bench-policy` on one thread. With --data it is also fine-tuned on a LeRobot
data set with pictures, beside a network that begins from nothing.

    python benchmarks/pixels.py [--task lift] [--draws 500] [--seed 0] [--policy FILE] [--out DIR] [-- FLAGS…]
    python benchmarks/pixels.py --policy wrist.onnx --data DIR --map observation.images.wrist=wrist

FLAGS after `--` are handed to `pretrain`; --policy measures one that is there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="lift")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policy", help="measure this one; nothing is trained")
    parser.add_argument("--data", help="a LeRobot data set with pictures to fine-tune on")
    parser.add_argument("--map", help="FEATURE=CAMERA, for --data")
    parser.add_argument("--out", help="keep the runs here (default: a temporary directory)")
    parser.add_argument("flags", nargs="*", help="handed to pretrain, after --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(args.out or temporary)
        policy = Path(args.policy) if args.policy else trained(args, out / args.task)
        if args.data:
            finetuned(policy, args, out / "finetuned")
        else:
            measured(policy, args)
        thinking(policy)


def trained(args: argparse.Namespace, out: Path) -> Path:
    """Train with the defaults; prints the learning curve."""
    begin = time.monotonic()
    command(
        "pretrain", "--task", args.task, "--observe", "pixels", "--seed", args.seed, "--evaluate", 0,
        "--out", out, *args.flags,
    )  # fmt: skip
    metrics = json.loads((out / "metrics.json").read_text())
    for i, entry in enumerate(metrics["rounds"]):
        print(
            f"round {i + 1}: {entry['episodes']} episodes, {entry['pairs']} pictures, success "
            f"{entry['success_rate']:.0%} with the student driving {entry['student_share']:.0%} of the time"
        )
    for row in metrics["curve"]:
        print(
            f"  epoch {row['epoch'] + 1:3}: {row['seconds'] / 60:5.1f} min, chunks {row.get('val_error_deg', 0):.2f}° "
            f"off on held-out episodes, objects {row.get('val_seen_mm', 0):.1f} mm"
        )
    print(f"{args.task}: trained in {(time.monotonic() - begin) / 60:.1f} min")
    return out / "policy.onnx"


def measured(policy: Path, args: argparse.Namespace) -> None:
    answer = json.loads(
        command("evaluate", "--policy", policy, "--draws", args.draws, "--seed", 77_000 + args.seed, "--json")
    )
    low, high = answer["wilson_95"]
    print(
        f"success on {answer['draws']} unseen draws: {answer['success_rate']:.1%} [{low:.1%}, {high:.1%}]; "
        f"ended in {answer['stages']}"
    )


def finetuned(policy: Path, args: argparse.Namespace, out: Path) -> None:
    words = ("--map", args.map) if args.map else ()
    command("finetune", "--policy", policy, "--data", args.data, *words, "--seed", args.seed, "--out", out)
    metrics = json.loads((out / "metrics.json").read_text())
    error = metrics["held_out_deg"]
    print(
        f"held-out real actions: {error['before']:.2f}° before, {error['still']:.2f}° for an arm that stays where it is"
    )
    for row in metrics["learning_curve"]:
        print(
            f"  {row['episodes']:3} episodes ({row['pairs']} pictures): {row['pretrained_deg']:.2f}°, "
            f"from nothing {row['scratch_deg']:.2f}°"
        )


def thinking(policy: Path) -> None:
    answer = json.loads(command("bench-policy", policy, "--json"))
    idle, load = answer["idle"], answer["load"]
    print(f"one thread: {idle}; beside {load['processes']} busy processes: {load}")


def command(*words: Any) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *map(str, words)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return done.stdout


if __name__ == "__main__":
    main()
