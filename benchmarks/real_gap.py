"""How far is the simulation from real arms, before and after identification, on episodes that the fit did not see?

Open-loop replay in the PyBullet world, RMS in degrees, mean over the arm's joints. Each data set is split in halves;
each half is fitted and tested on the other, and single episodes are fitted and tested on the rest. With a servo bench,
each run is left out once. The logs are found through SIM2REAL_REAL_DATA.

    SIM2REAL_REAL_DATA=DIR python benchmarks/real_gap.py [--sets so101_tape so101_cube] [--bench] [--singles 2] [--json]
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.identification.bench import BenchSet, fit_servo, parameters_of
from pipelines.identification.bench_logs import load_bench
from pipelines.identification.identify import identify_arm
from pipelines.identification.logs import ArmLog, load_arm_log
from pipelines.identification.replay import gap, replay_in_twin, replay_in_world
from sim2real.robot import Robot


def measure(train: ArmLog, test: ArmLog, robot: Robot, what: str) -> dict[str, Any]:
    """Fit on one log, replay the other: figures in degrees."""
    began = time.perf_counter()
    found = identify_arm(train, robot, what)
    seconds = time.perf_counter() - began
    nominal = found.model.table(found.fit.values)
    world = replay_in_world(test, robot, nominal)
    after = gap(test, world, robot)
    before = gap(test, replay_in_world(test, robot), robot)
    _, low, high = found.band(test)
    outcome = test.outcome()[:, robot.arm]
    known = np.isfinite(outcome)
    covered = ((outcome >= low[:, robot.arm]) & (outcome <= high[:, robot.arm]))[known].mean()
    twin = replay_in_twin(test, robot, nominal)
    difference = np.rad2deg(np.sqrt(np.mean((world - twin)[:, robot.arm] ** 2, axis=0))).mean()
    return {
        "fit": what,
        "trained_on": len(train.episodes),
        "tested_on": len(test.episodes),
        "before_deg": before.mean,
        "after_deg": after.mean,
        "rms_deg": {robot.joint_names[i]: float(after.rms[i]) for i in robot.arm},
        "band_90_covers": float(covered),
        "twin_from_world_deg": float(difference),
        "seconds": seconds,
    }


def splits(log: ArmLog, singles: int) -> list[tuple[str, list[int], list[int]]]:
    count = log.recording.episodes
    half = (count + 1) // 2
    first, second = list(range(half)), list(range(half, count))
    found = [("first half", first, second), ("second half", second, first)]
    if count > 2:
        for e in np.linspace(0, count - 1, singles).round().astype(int):
            found.append((f"episode {e}", [int(e)], [k for k in range(count) if k != e]))
    return found


def bench(folder: Path, servo: str) -> dict[str, Any]:
    runs = load_bench(folder, servo)
    errors: dict[str, float] = {}
    for i, run in enumerate(runs):
        found = fit_servo([other for j, other in enumerate(runs) if j != i])
        fields = dict(zip(found.names, map(float, found.values)))
        left_out = BenchSet.of([run])
        errors |= left_out.errors(left_out.simulate(parameters_of(fields, servo)[None])[0])
    return {
        "fit": f"{servo}, each run left out",
        "mean_deg": float(np.mean(list(errors.values()))),
        "runs": errors,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="*", default=["so101_tape", "so101_cube"])
    parser.add_argument("--bench", action="store_true", help="also the servo bench")
    parser.add_argument("--singles", type=int, default=2, help="fits on a single episode (default: 2)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    root = os.environ.get("SIM2REAL_REAL_DATA")
    if root is None:
        print("SIM2REAL_REAL_DATA is not set: no logs of real arms to measure with", file=sys.stderr)
        return 2
    robot = Robot.load("so101")
    results = []
    for name in args.sets:
        log = load_arm_log(Path(root) / name, robot)
        for what, train, test in splits(log, args.singles):
            results.append({"set": name} | measure(log.select(train), log.select(test), robot, what))
            if not args.json:
                r = results[-1]
                joints = " ".join(f"{v:.2f}" for v in r["rms_deg"].values())
                print(
                    f"{name:11} fit on {what:12} ({r['trained_on']:2} → {r['tested_on']:2} episodes): "
                    f"{r['before_deg']:.3f}° → {r['after_deg']:.3f}° ({joints})  90 % band covers "
                    f"{r['band_90_covers']:.0%}  twin–world {r['twin_from_world_deg']:.3f}°  {r['seconds']:.0f} s",
                    flush=True,
                )
    if args.bench:
        for servo in ("sts3215", "sts3250"):
            results.append(bench(Path(root) / "servo_bench", servo))
            if not args.json:
                print(f"{results[-1]['fit']}: {results[-1]['mean_deg']:.3f}° mean", flush=True)
    if args.json:
        print(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
