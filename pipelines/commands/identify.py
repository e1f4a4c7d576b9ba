"""`sim2real identify`: fit the simulated arm to recorded data."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from pipelines.commands import _source
from pipelines.commands._options import add

SUMMARY = "fit the simulated arm to recorded data"
GROUP = "from recordings"
COMPILES = True
HELP = (
    "Fit the simulated arm to a recording of the real one: servo parameters, delays, joint offsets and masses, with "
    "their uncertainty. Writes twin.toml (the arm) and space.toml (the ranges to train under)."
)
EXAMPLES = """  sim2real identify --data recordings/tape --out runs/twin
  sim2real identify --data recordings/tape --episodes :13 --out runs/twin --json
  sim2real replay --data recordings/tape --episodes 13: --twin runs/twin/twin.toml
  sim2real pretrain --task lift --space runs/twin/space.toml --out runs/lift
  sim2real identify --bench servo_bench --out runs/bench
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _source.add_arguments(parser)
    add(parser, "out", "json")


def run(args: argparse.Namespace) -> int:
    from pipelines.reports.report import try_report
    from pipelines.runs import require_own

    names = ("config.json", "twin.toml", "space.toml", "identify.json", "report.html")
    require_own(args.out, ("identify",), names)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if args.bench is not None:
        from pipelines.identification.bench import identify_bench

        summary = identify_bench(args.bench, args.out, args.runs, say)
    else:
        summary = _identify_arm(args, say)
    try_report(args.out)
    if args.json:
        print(json.dumps(summary, indent=2))
    return 0


def _identify_arm(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    from pathlib import Path

    from pipelines.identification.identify import identify_arm
    from pipelines.identification.results import write_results

    log, robot = _source.load(args)
    found = identify_arm(log, robot, str(args.data), say)
    summary = write_results(found, args.out, str(args.data))
    for name in robot.joint_names:
        say(f"{name:16} {summary['before_deg'][name]:7.3f}° → {summary['after_deg'][name]:7.3f}°")
    say(
        f"{'mean (arm)':16} {summary['mean_before_deg']:7.3f}° → {summary['mean_deg']:7.3f}°  "
        f"in {summary['seconds']} s"
    )
    for line in summary["standouts"]:
        say(line)
    for line in summary["bounds"]:
        say(f"note: {line}")
    if summary["undetermined"]:
        say(f"the data say little about: {', '.join(summary['undetermined'])}")
        for line in summary["advice"]:
            say(f"  {line}")
        say(f"or let the arm do it: {summary['excite']}")
    say(f"written: {Path(args.out) / 'twin.toml'}, {Path(args.out) / 'space.toml'}")
    return summary
