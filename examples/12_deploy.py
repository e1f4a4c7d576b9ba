"""Deployment: a policy on an arm behind gate, supervisor and watchdog. Here on an emulated one.

    python examples/12_deploy.py [POLICY] [EPISODES]

With port="/dev/ttyACM0" it is a real one: read docs/first-arm.md first.
"""

import sys

from pipelines import deploy

policy = sys.argv[1] if len(sys.argv) > 1 else "runs/tuned/policy.onnx"
episodes = int(sys.argv[2]) if len(sys.argv) > 2 else 3

outcome = deploy(policy, port="emulated", episodes=episodes, out="runs/arm")
print(outcome)
if not outcome.ok:
    print("it did not go well:", outcome.faults or outcome.stopped)
