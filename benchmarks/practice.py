"""Practice as a user runs it: success of PPO from nothing over practised episodes.

    python benchmarks/practice.py [--task reach] [--practice 1000] [--draws 200] [--seed 0] [--out DIR]

Trains with `sim2real pretrain --algorithm ppo`, then measures with `sim2real evaluate` on unseen draws. Whether PPO
after cloning pays is `benchmarks/ablations.py practice`.
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
    parser.add_argument("--task", default="reach")
    parser.add_argument("--practice", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="keep the run here (default: a temporary directory)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(args.out or temporary) / args.task
        begin = time.monotonic()
        command(
            "pretrain", "--task", args.task, "--algorithm", "ppo", "--practice", args.practice, "--seed", args.seed,
            "--evaluate", 0, "--out", out,
        )  # fmt: skip
        minutes = (time.monotonic() - begin) / 60
        for row in json.loads((out / "metrics.json").read_text())["practice"]:
            if "measured_success_rate" in row:
                print(f"{row['episodes']:6} episodes  {row['measured_success_rate']:6.1%} while learning")
        answer = json.loads(
            command(
                "evaluate", "--policy", out / "policy.onnx", "--task", args.task, "--draws", args.draws, "--seed",
                args.seed, "--json",
            )
        )  # fmt: skip
    low, high = answer["wilson_95"]
    print(
        f"{args.task}: {answer['success_rate']:.1%} (95 %: {low:.1%} … {high:.1%}) of {answer['draws']} unseen draws "
        f"after {args.practice} episodes from nothing, {minutes:.1f} min"
    )


def command(*words: Any) -> str:
    """Run a command of the package and return its standard output; its progress goes to the terminal."""
    arguments = [sys.executable, "-m", "pipelines", *map(str, words)]
    return subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout


if __name__ == "__main__":
    main()
