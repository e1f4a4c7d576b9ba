"""Does an arm pay? Ranges in, chances out; then the same with a success that was measured.

usage: python 17_cost.py [DRAWS]
"""

import sys

from pipelines import cost

draws = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000

cell = {
    "demand": (250_000, 300_000, 380_000),  # items a year: low, most likely, high
    "wage": (22, 28, 35),  # USD/h
    "cycle_time": "9:11:15 s",
    "help_time": "0.3:0.5:1 min",
}
assumed = cost(cell, draws=draws, out="runs/cost")
print(assumed)

better = cost(cell, settings={"success": "93:96:98%"}, draws=draws)
print(f"with a success of 96 %: pays with {better.probability_npv_positive:.0%}")
for name, choice in better.decisions.items():
    regret = better.result["decisions"][name]["probability_of_regret"]
    print(f"  {name}: {choice} (regret {regret:.0%})")
