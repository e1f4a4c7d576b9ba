"""The scripted experts under the default randomization: success, where the rest ended, time, gate interventions.

Each expert runs on the true state, as teachers and sweeps use it, and on what the arm's sensors and the camera's
detector say, as on an arm.

    python benchmarks/experts.py [--draws 500] [--seed 0] [--tasks reach push lift place stack] [--workers N] [--json]
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.sweeps.evaluate import evaluate
from pipelines.sweeps.simulated import make_plan, worker_count
from sim2real.tasks.registry import task_names


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", nargs="+", default=task_names())
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results: list[dict[str, Any]] = []
    for task in args.tasks:
        for privileged in (True, False):
            plan = make_plan(task=task, draws=args.draws, seed=args.seed, privileged=privileged)
            figures = evaluate(plan, workers=worker_count(args.workers))
            results.append({"task": task, "sees": "truth" if privileged else "sensors", **figures})
            if not args.json:
                print(line(results[-1]), flush=True)
    if args.json:
        print(json.dumps(results, indent=2))


def line(result: dict[str, Any]) -> str:
    low, high = result["wilson_95"]
    stages = ", ".join(f"{stage} {count}" for stage, count in result["stages"].items())
    return (
        f"{result['task']:6} sees {result['sees']:8} {result['success_rate']:7.1%} "
        f"(95 %: {low:.1%} … {high:.1%}) of {result['draws']} draws, "
        f"mean {result['mean_seconds'] or float('nan'):.2f} s; furthest stage: {stages}; "
        f"failed draws: {result['failures'][:20]}"
    )


if __name__ == "__main__":
    main()
