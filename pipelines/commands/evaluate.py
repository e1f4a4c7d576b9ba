"""`sim2real evaluate`: success of a policy in simulation."""

import argparse

from pipelines.commands._options import add, follow_instruction

SUMMARY = "measure a policy in simulation"
GROUP = "in simulation"
COMPILES = True
HELP = (
    "Measure a policy in simulation under randomization: how often it succeeds on draws it has not seen. A "
    "policy sees what the sensors and the camera's detector show, the expert the true state."
)
EXAMPLES = """  sim2real evaluate --policy runs/lift/policy.onnx --draws 500
  sim2real evaluate --policy runs/lift/policy.onnx --draws 200 --space runs/twin/space.toml --json
  sim2real evaluate --policy runs/lift/policy.onnx --cameras cameras.toml           (seen by your own camera)
  sim2real evaluate --policy expert --task push --draws 200 --sees sensors
  sim2real evaluate --policy tcp://127.0.0.1:5555 --task reach --draws 50      (a policy server, without an arm)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(
        parser,
        policy={
            "required": True,
            "help": "a policy file, expert, zero, random, module:Class, or tcp://HOST:PORT for a policy server",
        },
    )
    add(parser, "task", "object", draws={"default": 200})
    add(parser, "instruction")
    add(parser, "robot", "space", "twin", "cameras", seed="which draws (%(default)s)")
    add(parser, "workers", "sees", "json")


def run(args: argparse.Namespace) -> int:
    follow_instruction(args)
    import json

    from pipelines.api.evaluate import evaluate
    from pipelines.sweeps.simulated import task_for

    result = evaluate(
        args.policy,
        task_for(args.task, args.policy, args.robot, args.object),
        args.robot,
        draws=args.draws,
        space=args.space,
        twin=args.twin,
        cameras=args.cameras,
        seed=args.seed,
        sees=args.sees,
        workers=args.workers,
    )
    print(json.dumps(result.result) if args.json else result)
    return 0
