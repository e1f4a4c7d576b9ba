"""Pretraining as a user runs it: minutes it takes, and success of the policy on unseen draws.

Every task is trained with `sim2real pretrain` and its defaults, from an empty directory, then measured with
`sim2real evaluate`. Run it with nothing else on the machine; `cores` says how busy the processes kept it.

    python benchmarks/pretrain.py [--tasks reach push lift place stack] [--draws 500] [--seed 0] [--out DIR] [-- FLAGS…]

FLAGS after `--` are handed to `pretrain`, for example `-- --max-minutes 2`.
"""

import argparse
import json
import resource
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
    parser.add_argument("--tasks", nargs="+", default=["reach", "push", "lift", "place", "stack"])
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="keep the runs here (default: a temporary directory)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("flags", nargs="*", help="handed to pretrain, after --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = [measure(task, Path(args.out or temporary) / task, args) for task in args.tasks]
    if args.json:
        print(json.dumps(results, indent=2))


def measure(task: str, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train and measure one task; prints a line unless JSON is wanted."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    # The quick measurement at the end of `pretrain` would count as training; the long one follows.
    command("pretrain", "--task", task, "--seed", args.seed, "--evaluate", 0, "--out", out, *args.flags)
    seconds = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    policy = out / "policy.onnx"
    answer = json.loads(
        command(
            "evaluate",
            "--policy",
            policy,
            "--task",
            task,
            "--draws",
            args.draws,
            "--seed",
            args.seed,
            "--json",
        )
    )
    metrics = json.loads((out / "metrics.json").read_text())
    result = {
        "task": task,
        "minutes": seconds / 60,
        "cores": busy / seconds,
        "episodes": sum(entry["episodes"] for entry in metrics["rounds"]),
        "pairs": sum(entry["pairs"] for entry in metrics["rounds"]),
        "val_error_deg": metrics["curve"][-1].get("val_error_deg"),
        # Of the largest process, KiB on Linux.
        "peak_gib": after.ru_maxrss / 2**20,
        **answer,
    }
    if not args.json:
        low, high = result["wilson_95"]
        print(
            f"{task:6} {result['success_rate']:6.1%} (95 %: {low:.1%} … {high:.1%}) of {result['draws']} unseen "
            f"draws; pretrained in {result['minutes']:.1f} min on {result['cores']:.2f} cores, "
            f"{result['episodes']} episodes, {result['pairs']} pairs, peak {result['peak_gib']:.2f} GiB; "
            f"stages: {', '.join(f'{stage} {count}' for stage, count in result['stages'].items())}",
            flush=True,
        )
    return result


def command(*words: Any) -> str:
    """Run a command of the package and return its standard output; its progress goes to the terminal."""
    arguments = [sys.executable, "-m", "pipelines", *map(str, words)]
    return subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout


if __name__ == "__main__":
    main()
