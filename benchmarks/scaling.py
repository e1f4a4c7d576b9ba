"""How failures fall with demonstrations, network size or training time: a ladder of policies, and the law over it.

Every step of the ladder is a `sim2real pretrain` that differs from the others in one thing alone and is measured by
`sim2real benchmark`; `sim2real benchmark --scaling` fits the law without the largest one and predicts it. Goes on in
--out.

    python benchmarks/scaling.py --out DIR [--task lift] [--over demonstrations|width|minutes]
        [--values 20 40 80 160 320 640] [--trials 200] [-- FLAGS…]

FLAGS after `--` are handed to `pretrain`.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

LADDERS = {
    "demonstrations": ("--episodes", (20, 40, 80, 160, 320, 640)),
    "width": ("--width", (8, 16, 32, 64, 128, 256)),
    "minutes": ("--max-minutes", (0.5, 1, 2, 4, 8, 16)),
}
"""What differs: the flag of `pretrain`, and its values."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--task", default="lift")
    parser.add_argument("--over", choices=tuple(LADDERS), default="demonstrations")
    parser.add_argument("--values", nargs="+", type=float)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("flags", nargs="*", help="handed to pretrain, after --")
    args = parser.parse_args()
    flag, values = LADDERS[args.over]
    measured = []
    for value in args.values or values:
        policy, out = args.out / f"policy-{value:g}", args.out / f"measured-{value:g}"
        command(
            "pretrain", "--task", args.task, "--seed", args.seed, "--evaluate", 0, flag, f"{value:g}", "--out", policy,
            *args.flags,
        )  # fmt: skip
        command(
            "benchmark",
            "--policy",
            policy / "policy.onnx",
            "--trials",
            args.trials,
            "--clips",
            0,
            "--out",
            out,
        )
        measured.append(out)
    command("benchmark", "--scaling", *measured)


def command(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "pipelines", *map(str, words)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
