"""Pretraining: a policy that learns from the task's expert in simulation, under randomization.

    python examples/08_pretrain.py [EPISODES]

runs/reach then holds the policy file, curves and a report.
"""

import sys

import sim2real as s2r
from pipelines import pretrain

episodes = int(sys.argv[1]) if len(sys.argv) > 1 else 500
small = {} if episodes >= 100 else {"rounds": 1, "epochs": 2, "batches": 10, "evaluate": 4}

trained = pretrain("reach", s2r.Robot.load("so101"), episodes=episodes, out="runs/reach", **small)
print(trained)
print(
    f"{trained.policy}: {trained.success_rate:.0%} of {trained.metrics['evaluation']['draws']} unseen draws"
)
