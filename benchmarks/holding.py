"""Whether a policy keeps what it has achieved: episodes that succeed, and those in which it still holds a while later.

An episode in simulation ends with its success, after half a second; on an arm it goes on until somebody is sure.

    python benchmarks/holding.py --policy runs/lift/policy.onnx [--task lift] [--draws 100] [--seconds 1] [--seed 0]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.sweeps.simulated import make_plan
from sim2real.policies.load import load_policy
from sim2real.robot import Robot
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.statistics import wilson_interval
from sim2real.tasks.registry import load_task


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", default="expert")
    parser.add_argument("--task", default="lift")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    robot, task = Robot.load("so101"), load_task(args.task)
    plan = make_plan(task=args.task, policy=args.policy, draws=args.draws, seed=args.seed, privileged=False)
    policy = load_policy(args.policy, task, robot)
    succeeded = kept = 0
    with World(robot, task) as world:
        for draw in plan.make_draws(plan.bind())[0]:
            if rollout(world, policy, draw, linger=args.seconds).success:
                succeeded += 1
                kept += task.satisfied(world.truth())
    low, high = wilson_interval(kept, succeeded)
    print(
        f"{args.task}: {succeeded} of {args.draws} episodes succeeded; {args.seconds:g} s later it still held in "
        f"{kept} of these (95 %: {low:.0%} … {high:.0%})"
    )


if __name__ == "__main__":
    main()
