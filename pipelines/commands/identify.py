"""`sim2real identify`: fit the simulated arm to recorded data."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

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
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="DIR", help="a LeRobot data set of teleoperation or of a policy")
    source.add_argument("--bench", metavar="DIR", help="runs of single servos with a pendulum (index.csv)")
    parser.add_argument("--robot", default="so101", help="name or TOML file (default: so101)")
    parser.add_argument("--calibration", metavar="FILE", help="default: DIR/calibration.json")
    parser.add_argument("--units", default="auto", choices=["auto", "normalised", "degrees"])
    parser.add_argument("--episodes", metavar="A:B", help="as in Python; default: all")
    parser.add_argument("--runs", metavar="WORD", help="with --bench: only files whose name contains this")
    parser.add_argument("--out", metavar="DIR", required=True)
    parser.add_argument("--json", action="store_true", help="the summary as JSON on standard output")


def run(args: argparse.Namespace) -> int:
    from pipelines.report import try_report

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if args.bench is not None:
        from pipelines.bench import identify_bench

        summary = identify_bench(args.bench, args.out, args.runs, say)
    else:
        summary = _identify_arm(args, say)
    try_report(args.out)
    if args.json:
        print(json.dumps(summary, indent=2))
    return 0


def _identify_arm(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    from pathlib import Path

    from pipelines.identify import identify_arm, write_results
    from pipelines.logs import load_arm_log
    from sim2real.errors import UserError
    from sim2real.robot import Robot

    if args.runs is not None:
        raise UserError("--runs selects bench runs and needs --bench; with --data use --episodes A:B")
    robot = Robot.load(args.robot)
    log = load_arm_log(
        args.data, robot, calibration=args.calibration, units=args.units, episodes=args.episodes
    )
    say(f"units: {log.units} ({log.reason})")
    for remark in log.remarks:
        say(f"note: {remark}")
    found = identify_arm(log, robot, str(args.data), say)
    summary = write_results(found, args.out, str(args.data))
    for name in robot.joint_names:
        say(f"{name:16} {summary['before_deg'][name]:7.3f}° → {summary['after_deg'][name]:7.3f}°")
    say(
        f"{'mean (arm)':16} {summary['mean_before_deg']:7.3f}° → {summary['mean_deg']:7.3f}°  "
        f"in {summary['seconds']} s; profile: {summary['profile']}"
    )
    if summary["undetermined"]:
        say(f"the data say little about: {', '.join(summary['undetermined'])}")
        for line in summary["advice"]:
            say(f"  {line}")
    say(f"written: {Path(args.out) / 'twin.toml'}, {Path(args.out) / 'space.toml'}")
    return summary
