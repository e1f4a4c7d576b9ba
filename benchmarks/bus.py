"""The servo bus: how long a cycle takes and what it costs, against the wire's minimum and the vendors' packages.

A cycle reads position, speed and load of six servos and writes six goals: 112 bytes with Feetech servos, 190 with
Dynamixel ones (156 by fast sync read). The other end is the emulator, in another process, with physics behind its
servos, pacing bytes as the wire would.

    python benchmarks/bus.py [--cycles N] [--only so101|koch] [--json]
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.arm.serial_arm import SerialArm, open_bus
from hardware.emulator.launch import EmulatorHandle, start_emulator
from hardware.servos.dynamixel import protocol as dynamixel
from hardware.servos.dynamixel.bus import DynamixelBus
from hardware.servos.feetech import protocol as feetech
from sim2real.calibration import Calibration
from sim2real.errors import BusError
from sim2real.robot import Robot

Figures = dict[str, float]

SPANS = {"feetech": (56, 6), "dynamixel": (126, 10)}
"""(address, bytes) of position, speed and load."""
GOALS = {"feetech": (42, 2), "dynamixel": (116, 4)}


def wire_time(robot: Robot, fast: bool = False) -> float:
    """Seconds that one cycle's bits need on the wire: request, replies, goals."""
    ids = [joint.servo_id for joint in robot.joints]
    (address, size), (goal, width) = SPANS[robot.protocol], GOALS[robot.protocol]
    packets: Any = feetech if robot.protocol == "feetech" else dynamixel
    if fast:
        request = dynamixel.fast_sync_read(address, size, ids)
        replies = len(dynamixel.fast_sync_reply([(id, 0, bytes(size)) for id in ids]))
    else:
        request = packets.sync_read(address, size, ids)
        replies = sum(len(packets.reply(id, 0, bytes(size))) for id in ids)
    goals = packets.sync_write(goal, width, [(id, bytes(width)) for id in ids])
    return (len(request) + replies + len(goals)) * 10 / robot.baud


def measure(cycle: Callable[[], None], cycles: int, wire: float) -> Figures:
    """Durations and processor time of `cycle`, repeated without pause."""
    for _ in range(50):
        cycle()
    durations = np.empty(cycles)
    processor = time.process_time()
    for k in range(cycles):
        start = time.perf_counter()
        cycle()
        durations[k] = time.perf_counter() - start
    processor = time.process_time() - processor
    return {
        "wire_ms": wire * 1e3,
        "median_ms": float(np.median(durations)) * 1e3,
        "p99_ms": float(np.percentile(durations, 99)) * 1e3,
        "max_ms": float(durations.max()) * 1e3,
        "times_wire": float(np.median(durations)) / wire,
        "processor_us": processor / cycles * 1e6,
    }


@dataclass
class Bench:
    """One emulated arm and how often to do what."""

    robot: Robot
    emulator: EmulatorHandle
    cycles: int

    @property
    def ids(self) -> list[int]:
        return [joint.servo_id for joint in self.robot.joints]

    def bus(self, fast: bool = False) -> Figures:
        """Our bus alone."""
        bus = open_bus(self.robot, self.emulator.port)
        ids, (address, size) = self.ids, SPANS[self.robot.protocol]
        if fast:
            assert isinstance(bus, DynamixelBus)
            bus.prepare(ids)
            assert bus.fast, "the emulated servos answer fast readings"
        goals = [bus.read(id, "present_position", 1.0) for id in ids]

        def cycle() -> None:
            bus.sync_read(ids, address, size)
            bus.sync_write("goal_position", ids, goals)

        figures = measure(cycle, self.cycles, wire_time(self.robot, fast))
        figures["incomplete"] = bus.statistics.incomplete
        bus.close()
        return figures

    def arm(self) -> Figures:
        """The whole arm: plausibility checks, radians, and now and then a reading with temperature and all."""
        robot = self.robot
        arm = SerialArm.connect(robot, self.emulator.port, Calibration.load(self.emulator.calibration, robot))
        goal = arm.observe().position.copy()
        silent = 0

        def cycle() -> None:
            nonlocal silent
            try:
                arm.observe()
            except BusError:
                silent += 1  # the machine let the emulator wait for too long
            arm.command(goal)

        figures = measure(cycle, self.cycles, wire_time(robot, robot.protocol == "dynamixel"))
        figures["silent"] = silent
        arm.close()
        return figures

    def feetech_sdk(self) -> Figures | None:
        """The same work through feetech-servo-sdk; None when it is not installed."""
        try:
            import scservo_sdk as sdk
        except ImportError:
            return None
        handle = sdk.PortHandler(self.emulator.port)
        handle.openPort()
        packets = sdk.protocol_packet_handler()
        ids = self.ids
        goals = {id: packets.read2ByteTxRx(handle, id, 56)[0] for id in ids}
        read = sdk.GroupSyncRead(handle, packets, 56, 6)
        for id in ids:
            read.addParam(id)
        write = sdk.GroupSyncWrite(handle, packets, 42, 2)

        def cycle() -> None:
            read.txRxPacket()
            for id in ids:
                for address in (56, 58, 60):
                    read.getData(id, address, 2)
            write.clearParam()
            for id in ids:
                write.addParam(id, [goals[id] & 0xFF, goals[id] >> 8])
            write.txPacket()

        figures = measure(cycle, self.cycles, wire_time(self.robot))
        handle.closePort()
        return figures

    def dynamixel_sdk(self, fast: bool) -> Figures | None:
        """The same work through dynamixel-sdk; None when it is not installed."""
        try:
            import dynamixel_sdk as sdk
        except ImportError:
            return None
        handle = sdk.PortHandler(self.emulator.port)
        handle.openPort()
        handle.setBaudRate(self.robot.baud)
        packets = sdk.PacketHandler(2.0)
        ids = self.ids
        goals = {id: packets.read4ByteTxRx(handle, id, 132)[0].to_bytes(4, "little") for id in ids}
        read = sdk.GroupSyncRead(handle, packets, 126, 10)
        for id in ids:
            read.addParam(id)
        write = sdk.GroupSyncWrite(handle, packets, 116, 4)

        def cycle() -> None:
            read.fastSyncRead() if fast else read.txRxPacket()
            for id in ids:
                for address, size in ((126, 2), (128, 4), (132, 4)):
                    read.getData(id, address, size)
            write.clearParam()
            for id in ids:
                write.addParam(id, list(goals[id]))
            write.txPacket()

        figures = measure(cycle, self.cycles, wire_time(self.robot, fast))
        handle.closePort()
        return figures

    def run(self) -> dict[str, Figures | None]:
        """All rows of this arm."""
        if self.robot.protocol == "feetech":
            return {"bus": self.bus(), "arm": self.arm(), "feetech-servo-sdk": self.feetech_sdk()}
        return {
            "bus, sync read": self.bus(),
            "bus, fast sync read": self.bus(fast=True),
            "arm": self.arm(),
            "dynamixel-sdk, sync": self.dynamixel_sdk(False),
            "dynamixel-sdk, fast": self.dynamixel_sdk(True),
        }


def at_baud(name: str, baud: int, folder: str) -> Path:
    """A robot's file with another speed of its bus."""
    robot = Robot.load(name)
    text = robot.urdf.with_suffix(".toml").read_text()
    text = text.replace("baud = 1_000_000", f"baud = {baud}")
    text = text.replace(f'urdf = "{robot.urdf.name}"', f'urdf = "{robot.urdf}"')
    path = Path(folder) / f"{name}-{baud}.toml"
    path.write_text(text)
    return path


def show(title: str, results: dict[str, Figures | None]) -> None:
    print(f"\n{title}")
    print("                        wire   median      p99       max   ×wire  processor per cycle")
    for name, figures in results.items():
        if figures is None:
            print(f"{name:20} not installed")
            continue
        print(
            f"{name:20} {figures['wire_ms']:5.2f} ms {figures['median_ms']:5.2f} ms {figures['p99_ms']:6.2f} ms"
            f" {figures['max_ms']:6.1f} ms {figures['times_wire']:6.2f} {figures['processor_us']:8.0f} µs"
        )
    ours = [figures for name, figures in results.items() if name.startswith("bus") and figures]
    theirs = [figures for name, figures in results.items() if "sdk" in name and figures]
    for mine, other in zip(ours, theirs):
        print(f"processor time: {mine['processor_us'] / other['processor_us']:.2f} × the vendor's")
    print(f"incomplete readings of ours: {sum(figures['incomplete'] for figures in ours):.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cycles", type=int, default=3000)
    parser.add_argument("--only", choices=["so101", "koch"])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, baud in (("so101", 1_000_000), ("koch", 1_000_000), ("koch", 4_000_000)):
            if args.only not in (None, name):
                continue
            path = at_baud(name, baud, folder)
            with start_emulator(str(path), camera=False) as emulator:
                title = f"{name} at {baud / 1e6:g} Mbit/s"
                results[title] = Bench(Robot.load(path), emulator, args.cycles).run()
            if not args.json:
                show(title, results[title])
    if args.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
