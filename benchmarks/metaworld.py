"""Meta-World as a user runs it: one policy from 50 demonstrations a task, then all 50 goals of every task.

Needs the extra `metaworld`. `sim2real pretrain --suite …` from an empty directory, `sim2real benchmark` with the goals
of the demonstrations (how Meta-World judges) and with as many new ones, and Meta-World's own experts on the same goals.
The processor's minutes count, not the clock's: the machine may be shared. Goes on in --out.

    python benchmarks/metaworld.py [--suite metaworld-mt10] [--trials 50] [--new 20] [--out DIR] [-- FLAGS…]

FLAGS after `--` are handed to `pretrain`, for example `-- --epochs 8`.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", default="metaworld-mt10")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument(
        "--new", type=int, default=20, help="trials of each task at goals that nobody was shown"
    )
    parser.add_argument("--out", help="keep the runs here (default: a temporary directory)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("flags", nargs="*", help="handed to pretrain, after --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = measure(Path(args.out or temporary), args)
    if args.json:
        print(json.dumps(results, indent=2))


def measure(out: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and measure; prints a line a measurement unless JSON is wanted."""
    policy = out / "policy" / "policy.onnx"
    begin = processor()
    command("pretrain", "--suite", args.suite, "--evaluate", 0, "--out", policy.parent, *args.flags)
    minutes = (processor() - begin) / 60
    if not args.json:
        print(f"collected and trained with {minutes:.1f} processor minutes")
    results = []
    for name, who, split, trials in (
        ("policy", policy, "seen", args.trials),
        ("policy, new goals", policy, "new", args.new),
        ("experts", "expert", "seen", args.trials),
    ):
        answer = json.loads(
            command(
                "benchmark", "--policy", who, "--suite", args.suite, "--split", split, "--trials", trials, "--out",
                out / f"{name.replace(', ', '-').replace(' ', '-')}-measured", "--json",
            )
        )  # fmt: skip
        results.append({"what": name, "training_minutes": minutes, **answer})
        if not args.json:
            low, high = answer["interval_95"]
            print(
                f"{name:18} {answer['success_rate']:6.1%} (95 %: {low:.1%} … {high:.1%}) of {answer['trials']} trials; "
                f"hardest: {', '.join(answer['hardest'][:3])}"
            )
    return results


def processor() -> float:
    """s of processor time of the commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    main()
