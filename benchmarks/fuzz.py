"""Random and damaged bytes for both protocols: nothing raises, hangs, or is accepted with a wrong checksum.

Ten million bytes per protocol for the parsers, in slices of a hundred thousand with a seed each, then damaged
replies on the line of a whole arm (what the arm believes is compared with where its joints are). What passes the
checksum all the same is reported. With --state the work goes on where it was interrupted.

    python benchmarks/fuzz.py [--bytes 10000000] [--line-bytes 1000000] [--state FILE] [--json]
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.arm.serial_arm import SerialArm
from hardware.emulator.assembly import build_servos, emulated_calibration
from hardware.emulator.faults.fuzzing import FuzzReport, fuzz_arm, fuzz_parser
from hardware.emulator.plant import IdealPlant
from hardware.emulator.stepped import SteppedPort
from hardware.emulator.wire import EmulatedBus
from hardware.servos.family import FAMILIES, family_of
from sim2real.clock import SimulatedClock
from sim2real.robot import Robot

SLICE = 100_000


class Guided(IdealPlant):
    """An arm whose joints are where somebody puts them."""

    def advance(self, time: float) -> None:
        pass


def line_slice(robot: Robot, size: int, seed: int) -> FuzzReport:
    """Damaged replies on the line of `robot`'s arm."""
    calibration = emulated_calibration(robot)
    plant, clock = Guided(robot.n, np.array(robot.home)), SimulatedClock()
    line = EmulatedBus(build_servos(robot, plant, calibration), plant)
    bus = family_of(robot).open_port(SteppedPort(line, clock, baud=robot.baud), 0.0)
    arm = SerialArm(robot, bus, calibration, clock=clock)
    arm.identify()
    arm.configure()
    return fuzz_arm(arm, line, plant, clock, size, seed)


def robots() -> dict[str, Robot]:
    """A robot of each family, of those that come with the project."""
    from sim2real.robot import robot_names

    found: dict[str, Robot] = {}
    for name in robot_names():
        robot = Robot.load(name)
        found.setdefault(robot.protocol, robot)
    return found


def describe(name: str, report: FuzzReport) -> list[str]:
    damaged, passed = sum(report.damaged.values()), sum(report.passed.values())
    lines = [f"{name}: {report.bytes:,} bytes, {damaged:,} packets damaged"]
    if report.intact:
        lines.append(
            f"  {report.recovered:,} packets found of {report.intact:,} sent whole (and what damage spared)"
        )
        lines.append(
            f"  {passed:,} passed their checksum with another content ({passed / max(damaged, 1):.2e})"
        )
        kinds = [
            f"{kind} {report.passed[kind] / count:.1e}"
            for kind, count in sorted(report.damaged.items())
            if report.passed[kind]
        ]
        lines.append("  by kind of damage: " + (", ".join(kinds) or "none"))
    if report.readings:
        lines.append(
            f"  {report.wrong:,} of {report.readings:,} believed positions wrong by more than 0.06 rad "
            f"({report.wrong / report.readings:.2e}), the worst by {report.worst:.3f} rad"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description="fuzz parsers and arms")
    parser.add_argument("--bytes", type=int, default=10_000_000, help="per protocol, for the parsers")
    parser.add_argument("--line-bytes", type=int, default=1_000_000, help="per protocol, on an arm's line")
    parser.add_argument("--state", help="file that keeps what is done, to go on from")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    state = None if options.state is None else Path(options.state)
    done: dict[str, Any] = json.loads(state.read_text()) if state is not None and state.exists() else {}
    arms = robots()
    begin = time.monotonic()
    for name, family in FAMILIES.items():
        for what, size in (("parser", options.bytes), ("line", options.line_bytes)):
            if what == "line" and name not in arms:
                print(f"{name}: no robot of this family; its line is left out", file=sys.stderr)
                continue
            key = f"{name} {what}"
            report = FuzzReport.from_dict(done[key]) if key in done else FuzzReport()
            while report.bytes < size:
                seed = report.bytes // SLICE
                one = min(SLICE, size - report.bytes)
                report.add(
                    fuzz_parser(family, one, seed) if what == "parser" else line_slice(arms[name], one, seed)
                )
                done[key] = report.as_dict()
                if state is not None:
                    state.write_text(json.dumps(done))
            done[key] = report.as_dict()
    if options.json:
        print(json.dumps(done))
    else:
        for key, plain in done.items():
            print("\n".join(describe(key, FuzzReport.from_dict(plain))))
        print(f"no exception, no packet out of nothing; {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
