"""`sim2real tasks`: what can be done."""

import argparse
import json
from typing import Any

from pipelines.commands._options import add

SUMMARY = "list the tasks"
GROUP = "setting up"
HELP = (
    "List the tasks: what is to be achieved, in how much time, and what a policy observes. With --suite those of a "
    "suite, and with --check how often their experts succeed: a task is fit for the suite when Wilson's interval of "
    "its expert lies above 90 %."
)
EXAMPLES = """  sim2real tasks
  sim2real tasks --suite table --json
  sim2real tasks --suite table --check --out runs/table        (goes on where it was interrupted)
  sim2real tasks --json
  sim2real tasks --task examples.04_own_task:ReachHigh     a task of your own
"""


FIT = 0.9
"""Where the lower end of an expert's interval must lie."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", metavar="S", help="the tasks of a suite: table")
    parser.add_argument(
        "--check", action="store_true", help="measure the experts of the suite's tasks; needs --out"
    )
    add(parser, out={"required": False, "help": "where --check keeps its trials"})
    parser.add_argument(
        "--trials", type=int, default=40, metavar="N", help="of each task with --check (%(default)s)"
    )
    add(parser, "workers")
    add(
        parser,
        task="only this one: a name, or your own as module:Class",
        robot="for which robot (default: %(default)s)",
    )
    add(parser, "object", "json")


def run(args: argparse.Namespace) -> int:
    from sim2real.errors import UserError
    from sim2real.robot import Robot
    from sim2real.tasks.registry import load_task, task_names, with_flags

    if args.suite is not None:
        if args.task is not None:
            raise UserError("give --suite or --task, not both")
        return _check(args) if args.check else _suite(args)
    if args.check:
        raise UserError("--check measures the experts of a suite; add --suite table")

    robot = Robot.load(args.robot)
    if args.object and not args.task:
        raise UserError("--object changes the objects of one task: add --task")
    specs = [with_flags(args.task, args.object)] if args.task else task_names()
    tasks: list[dict[str, Any]] = []
    for spec in specs:
        task = load_task(spec, joints=robot.n)
        tasks.append(
            {
                "task": spec,
                "name": task.name,
                "description": task.description,
                "duration_s": task.duration,
                "objects": [spec.to_json() for spec in task.objects],
                "features": [{"name": feature.name, "size": feature.size} for feature in task.features],
                "stages": list(task.stages),
                "parameters": [
                    {"name": p.name, "unit": p.unit, "low": p.low, "high": p.high, "nominal": p.nominal}
                    for p in task.parameters(robot).values()
                ],
            }
        )
    if args.json:
        print(json.dumps(tasks, indent=2))
        return 0
    for entry in tasks:
        print(f"{entry['task']}: {entry['description']}")
        print(f"  time     {entry['duration_s']:g} s; success is holding the condition for 0.5 s")
        print(f"  objects  {', '.join(map(_about, entry['objects'])) or 'none'}")
        print(f"  observes {', '.join(f['name'] for f in entry['features'])}")
        for p in entry["parameters"]:
            if not p["name"].startswith("task.start."):
                print(f"  {p['name']:20} {p['low']:8.3g} … {p['high']:<8.3g} {p['unit']}")
    return 0


def _about(entry: dict[str, Any]) -> str:
    """One object in words: "cube (red cube, 25 mm)"."""
    size = " × ".join(f"{1000 * value:g}" for value in entry["size"])
    colour = entry["colour"] if isinstance(entry["colour"], str) else "coloured"
    return f"{entry['name']} ({colour} {entry['kind']}, {size} mm)"


def _suite(args: argparse.Namespace) -> int:
    from sim2real.tasks.suite.registry import load_suite

    tasks = load_suite(args.suite)
    if args.json:
        listed = [
            {
                "id": spec.id,
                "family": spec.family,
                "split": spec.split,
                "language": spec.language[0],
                "horizon": spec.horizon,
            }
            for spec in tasks.values()
        ]
        print(json.dumps(listed, indent=2))
        return 0
    for spec in tasks.values():
        print(f"{spec.id:44} {spec.family:8} {spec.split:4} {spec.horizon:4.0f} s  {spec.language[0]}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from pipelines.api.benchmark import benchmark
    from sim2real.errors import UserError

    if args.out is None:
        raise UserError("--check needs --out, where its trials are kept")
    result = benchmark(
        "expert",
        suite=args.suite,
        trials=args.trials,
        robot=args.robot,
        sees="truth",
        out=args.out,
        workers=args.workers,
    )
    unfit = [task["id"] for task in result.summary["per_task"] if task["wilson_95"][0] < FIT]
    if args.json:
        print(json.dumps(dict(result.summary) | {"fit": result.tasks - len(unfit), "unfit": unfit}))
    else:
        print(result)
        print(
            f"{result.tasks - len(unfit)} of {result.tasks} tasks are fit: their expert's interval lies above {FIT:.0%}"
        )
    return 0
