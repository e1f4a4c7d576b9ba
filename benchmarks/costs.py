"""How long `cost` and `fleet simulate` compute, reports left out.

python benchmarks/costs.py
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines import cost, simulate_fleet

cost(draws=100)  # what has to be imported
start, worked = time.perf_counter(), time.process_time()
found = cost(draws=10_000)
print(
    f"cost, 10,000 draws of {len(found.result['inputs'])} inputs with tornado, Sobol indices and decisions: "
    f"{time.perf_counter() - start:.2f} s ({time.process_time() - worked:.2f} s of the processor)"
)
for robots in (1, 10, 100, 1000):
    start, worked = time.perf_counter(), time.process_time()
    fleet = simulate_fleet(robots, 30)
    print(
        f"fleet simulate, {robots} robots, 30 days, with all comparisons: {time.perf_counter() - start:.1f} s "
        f"({time.process_time() - worked:.1f} s of the processor); {fleet.effective_per_day:,.1f} effective a day"
    )
