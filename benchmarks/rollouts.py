"""Staged rollouts over simulated fleets whose true success is known: how often the plan is right, and how soon.

python benchmarks/rollouts.py [--rollouts 200] [--robots 100] [--json]
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from pipelines.fleet.rollout.plan import STAGES, Rules
from pipelines.fleet.rollout.simulate import simulate, simulated_fleet

CASES: dict[str, dict] = {
    "equal": {"difference": 0.0},
    "bad: 10 points worse": {"difference": -0.1},
    "very bad: 40 points worse": {"difference": -0.4},
    "bad with one firmware: 30 points worse there, equal elsewhere": {
        "difference": 0.0,
        "worse_where": {"firmware=1.2": -0.3},
    },
    "dangerous: equal, a safety event in 1 of 100 episodes": {"difference": 0.0, "danger": 0.01},
}

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rollouts", type=int, default=200, help="of each case (%(default)s)")
parser.add_argument("--robots", type=int, default=100, help="(%(default)s)")
parser.add_argument("--stable", type=float, default=0.85, help="success of the stable policy (%(default)s)")
parser.add_argument("--stages", default=STAGES, help="(%(default)s)")
parser.add_argument("--delta", type=float, default=Rules().delta, help="(%(default)s)")
parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
parser.add_argument("--json", action="store_true")
args = parser.parse_args()

robots, rows = simulated_fleet(args.robots), []
for name, case in CASES.items():
    ends = [
        simulate(
            np.random.default_rng([args.seed, i]),
            robots=robots,
            stable=args.stable,
            stages=args.stages,
            rules=Rules(delta=args.delta),
            **case,
        )
        for i in range(args.rollouts)
    ]
    states = [end.state for end in ends]
    rows.append(
        {
            "case": name,
            "rollouts": len(ends),
            "rolled_back": states.count("failed") / len(ends),
            "passed": states.count("passed") / len(ends),
            "undecided": (len(ends) - states.count("failed") - states.count("passed")) / len(ends),
            "only_canary": sum(end.ran <= end.canary for end in ends) / len(ends),
            "episodes_median": float(np.median([end.episodes for end in ends])),
            "episodes_p90": float(np.quantile([end.episodes for end in ends], 0.9)),
        }
    )
    if not args.json:
        row = rows[-1]
        print(
            f"{name}: rolled back {row['rolled_back']:.1%}, passed {row['passed']:.1%}, undecided "
            f"{row['undecided']:.1%}; ran on the canary's robots alone {row['only_canary']:.1%}; episodes of the "
            f"candidate until the end {row['episodes_median']:.0f} (median), {row['episodes_p90']:.0f} (9 of 10)"
        )
if args.json:
    print(json.dumps({"robots": args.robots, "stable": args.stable, "delta": args.delta, "cases": rows}))
