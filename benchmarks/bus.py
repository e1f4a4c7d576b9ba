"""The servo bus: how long a cycle takes and what it costs, against the wire's minimum and the vendor's package.

A cycle reads position, speed and load of six servos and writes six goals: 112 bytes, 1.12 ms at 1 Mbit/s. The
other end is the emulator, in another process, with physics behind its servos, pacing bytes as the wire would.

    python benchmarks/bus.py [--cycles N] [--json]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.emulator.launch import start_emulator
from hardware.feetech.registers import STS3215
from hardware.serial_arm import SerialArm, open_bus
from sim2real.calibration import Calibration
from sim2real.errors import BusError
from sim2real.robot import Robot

WIRE = (14 + 6 * 12 + 26) * 10 / 1e6
"""Bits on the wire at 1 Mbit/s: request, six replies, goals; s."""

Figures = dict[str, float]


def measure(cycle: Callable[[], None], cycles: int) -> Figures:
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
        "median_ms": float(np.median(durations)) * 1e3,
        "p99_ms": float(np.percentile(durations, 99)) * 1e3,
        "max_ms": float(durations.max()) * 1e3,
        "processor_us": processor / cycles * 1e6,
    }


def ours(port: str, robot: Robot, cycles: int) -> Figures:
    """The bus alone."""
    bus = open_bus(robot, port)
    ids = [joint.servo_id for joint in robot.joints]
    goals = [bus.read(id, "present_position") for id in ids]
    address = STS3215["present_position"].address

    def cycle() -> None:
        bus.sync_read(ids, address, 6)
        bus.sync_write("goal_position", ids, goals)

    figures = measure(cycle, cycles)
    figures["incomplete"] = bus.statistics.incomplete
    bus.close()
    return figures


def arm(port: str, calibration: str, robot: Robot, cycles: int) -> Figures:
    """The whole arm: plausibility checks, radians, and every tenth reading with temperature and all."""
    serial_arm = SerialArm.connect(robot, port, Calibration.load(calibration, robot))
    goal = serial_arm.observe().position.copy()

    silent = 0

    def cycle() -> None:
        nonlocal silent
        try:
            serial_arm.observe()
        except BusError:
            silent += 1  # the machine let the emulator wait for too long
        serial_arm.command(goal)

    figures = measure(cycle, cycles)
    figures["silent"] = silent
    serial_arm.close()
    return figures


def vendor(port: str, robot: Robot, cycles: int) -> Figures | None:
    """The same work through feetech-servo-sdk; None when it is not installed."""
    try:
        import scservo_sdk as sdk
    except ImportError:
        return None
    handle = sdk.PortHandler(port)
    handle.openPort()
    packets = sdk.protocol_packet_handler()
    ids = [joint.servo_id for joint in robot.joints]
    goals = {id: packets.read2ByteTxRx(handle, id, 56)[0] for id in ids}
    read = sdk.GroupSyncRead(handle, packets, 56, 6)
    for id in ids:
        read.addParam(id)
    write = sdk.GroupSyncWrite(handle, packets, 42, 2)

    def cycle() -> None:
        read.txRxPacket()
        for id in ids:
            read.getData(id, 56, 2)
            read.getData(id, 58, 2)
            read.getData(id, 60, 2)
        write.clearParam()
        for id in ids:
            write.addParam(id, [goals[id] & 0xFF, goals[id] >> 8])
        write.txPacket()

    figures = measure(cycle, cycles)
    handle.closePort()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cycles", type=int, default=3000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    robot = Robot.load("so101")
    with start_emulator("so101", camera=False) as emulator:
        results = {
            "bus": ours(emulator.port, robot, args.cycles),
            "arm": arm(emulator.port, emulator.calibration, robot, args.cycles),
            "feetech-servo-sdk": vendor(emulator.port, robot, args.cycles),
        }
    if args.json:
        print(json.dumps({"wire_ms": WIRE * 1e3, **results}, indent=2))
        return
    print(f"wire minimum {WIRE * 1e3:.2f} ms per cycle\n")
    print("                     median    p99      max     ×wire   processor per cycle")
    for name, figures in results.items():
        if figures is None:
            print(f"{name:18} not installed")
            continue
        print(
            f"{name:18} {figures['median_ms']:6.2f} ms {figures['p99_ms']:6.2f} ms {figures['max_ms']:6.1f} ms"
            f" {figures['median_ms'] / WIRE / 1e3:6.2f} {figures['processor_us']:10.0f} µs"
        )
    bus, other = results["bus"], results["feetech-servo-sdk"]
    assert bus is not None
    print(f"\nincomplete readings of ours: {bus['incomplete']:.0f} of {args.cycles + 50}")
    if other is not None:
        print(f"processor time: {bus['processor_us'] / other['processor_us']:.2f} × the vendor's")


if __name__ == "__main__":
    main()
