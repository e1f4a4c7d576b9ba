"""`sim2real tasks`: what can be done."""

import argparse
import json
from typing import Any

from pipelines.commands._options import add

SUMMARY = "list the tasks"
GROUP = "setting up"
HELP = "List the tasks: what is to be achieved, in how much time, and what a policy observes."
EXAMPLES = """  sim2real tasks
  sim2real tasks --json
  sim2real tasks --task examples.04_own_task:ReachHigh     a task of your own
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(
        parser,
        task="only this one: a name, or your own as module:Class",
        robot="for which robot (default: %(default)s)",
    )
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    from sim2real.robot import Robot
    from sim2real.tasks.registry import load_task, task_names

    robot = Robot.load(args.robot)
    specs = [args.task] if args.task else task_names()
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
