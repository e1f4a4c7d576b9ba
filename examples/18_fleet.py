"""How many arms can one person look after? A fleet as discrete events.

pip install 'sim2real-transfer[fleet]'
python examples/18_fleet.py [DAYS]
"""

import sys

from pipelines import simulate_fleet

days = float(sys.argv[1]) if len(sys.argv) > 1 else 30
print(simulate_fleet(10, days, out="runs/fleet"))

day_shift = {"success": 0.9, "operators": 1, "operator_hours": 8, "hours": 8}
for robots in (5, 20, 80):
    found = simulate_fleet(robots, days, settings=day_shift)
    wait = found.result["help_wait_min"]["mean"]
    print(
        f"{robots} robots, one person: {found.effective_per_day:.0f} episodes a day, a wait of {wait:.0f} min"
    )
