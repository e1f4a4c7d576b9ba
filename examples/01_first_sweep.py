"""A first sweep: how often does reaching succeed when everything that is uncertain varies, and what decides it?

    python examples/01_first_sweep.py [DRAWS]

Run it again and nothing is left to do; with more draws it goes on. The table is in runs/sweep/results.parquet.
"""

import sys

import sim2real as s2r
from pipelines import sweep

draws = int(sys.argv[1]) if len(sys.argv) > 1 else 256

robot, task = s2r.Robot.load("so101"), s2r.load_task("reach")
result = sweep(task, robot, policy="expert", draws=draws, out="runs/sweep")

print(result)
low, high = result.interval
print(f"{result.success_rate:.1%}, with 95 % confidence between {low:.1%} and {high:.1%}")
seconds = result.table["seconds"].to_numpy()
print(f"the slowest of {len(seconds)} episodes took {seconds.max():.1f} s")
