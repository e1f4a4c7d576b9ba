"""`sim2real replay`: how far is the simulation from a recorded arm?"""

import argparse
import json

from pipelines.commands import _source
from pipelines.commands._options import add

SUMMARY = "replay recorded commands in simulation and measure the gap"
GROUP = "from recordings"
COMPILES = True
HELP = (
    "Replay the commands of a real recording open loop in the simulated world and measure, joint by joint, how far "
    "the simulated arm is from the recorded one; or a single servo's bench runs (--bench)."
)
EXAMPLES = """  sim2real replay --data recordings/tape
  sim2real replay --data recordings/tape --twin runs/twin/twin.toml --episodes 10: --json
  sim2real replay --bench servo_bench --twin runs/bench/twin.toml --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _source.add_arguments(parser)
    add(parser, twin="a twin.toml; default: the nominal arm")
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    if args.bench is not None:
        from pipelines.identification.bench import replay_bench

        result = replay_bench(args.bench, args.twin, args.runs)
        if args.json:
            print(json.dumps(result, indent=2))
        else:
            for name, degrees in result["runs"].items():
                print(f"{name:50} {degrees:7.3f}°")
            print(f"{'mean':50} {result['mean_deg']:7.3f}°")
        return 0

    from pipelines.identification.replay import pooled_gap, replay_in_world
    from sim2real.parameters import load_twin

    nominal = load_twin(args.twin) if args.twin else {}
    logs, robot = _source.load_all(args, nominal)
    found = pooled_gap([(log, replay_in_world(log, robot, nominal)) for log in logs], robot)
    rates = [log.recording.fps for log in logs]
    result = found.to_json() | {"units": logs[0].units, "units_reason": logs[0].reason, "fps": rates[0]}
    if len(rates) > 1:
        result["rates"] = {str(number): log.recording.fps for log in logs for number in log.episodes}
    if args.json:
        print(json.dumps(result, indent=2))
        return 0
    for name, degrees in result["rms_deg"].items():
        print(f"{name:16} {degrees:7.3f}°")
    for name, degrees in result.get("gripper_deg", {}).items():
        print(f"{name:16} {degrees:7.3f}°  (not in the mean)")
    print(f"{'mean':16} {found.mean:7.3f}°  over {found.episodes} episodes, {found.frames} frames")
    if len(rates) > 1:
        print(f"each episode at its own rate: {', '.join(f'{rate:g}' for rate in rates)} Hz")
    for line in found.standouts():
        print(line)
    return 0
