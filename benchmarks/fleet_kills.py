"""Kills of hub, agents and link at random moments: are episodes lost, or there twice?

    python benchmarks/fleet_kills.py [KILLS] [SEED]

1,000 kills take about twenty minutes of two cores.
"""

import json
import sys
import tempfile
from pathlib import Path

from pipelines.reliability.fleet_kills import fleet_kills

if __name__ == "__main__":
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(fleet_kills(Path(folder), kills, seed)))
