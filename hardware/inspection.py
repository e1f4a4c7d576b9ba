"""A look at a servo bus without moving anything: who is there, how they are, how well the line works."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hardware.bus import ServoBus
from hardware.feetech.registers import MODEL, STS3215, status_names
from sim2real.errors import BusError
from sim2real.robot import Robot

CYCLES = 100
"""Readings of all servos that the error rates are taken from."""

MAX_TEMPERATURE = 60  # °C; servos cut their torque at 70
VOLTAGE = (6.0, 13.0)  # V that STS3215 servos of either kind run at

MAX_ERRORS = 0.05
"""Share of unanswered requests above which something is wrong with the line."""

_FACTS = (
    "firmware_major_version",
    "firmware_minor_version",
    "model_number",
    "min_position_limit",
    "max_position_limit",
    "homing_offset",
    "operating_mode",
    "torque_enable",
    "present_position",
    "present_voltage",
    "present_temperature",
    "status",
)


@dataclass(frozen=True)
class ServoReport:
    """One servo: identity, stored limits (ticks), state, and its error rate over `CYCLES` readings."""

    id: int
    joint: str | None
    model: int
    firmware: str
    min_position_limit: int
    max_position_limit: int
    homing_offset: int
    operating_mode: int
    torque_enable: int
    present_position: int
    voltage: float
    temperature: int
    alarms: tuple[str, ...]
    error_rate: float


@dataclass(frozen=True)
class BusReport:
    """What is on a bus, and how long an exchange takes, s."""

    servos: tuple[ServoReport, ...]
    missing: tuple[str, ...]
    cycle_median: float | None
    cycle_worst: float | None
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def inspect_bus(
    robot: Robot,
    bus: ServoBus,
    *,
    cycles: int = CYCLES,
    scan: bool = False,
    progress: Callable[[str], None] | None = None,
) -> BusReport:
    """Ask the robot's servos (with `scan`: every ID) for what they are and how they are; writes nothing."""
    names = {joint.servo_id: joint.name for joint in robot.joints}
    present = _present(bus, sorted(names), 0.2)
    if scan or not present:
        if progress is not None:
            progress("looking for servos with other IDs")
        present = sorted({*present, *_present(bus, [id for id in range(254) if id not in names], 0.01)})
    facts: dict[int, dict[str, int]] = {}
    for id in present:
        try:
            facts[id] = {name: bus.read(id, name, 0.3) for name in _FACTS}
        except BusError:
            continue  # it answered a ping and then fell silent: listed as missing
    durations = _cycle(bus, sorted(facts), cycles)
    servos = tuple(_report(id, values, names.get(id), bus) for id, values in sorted(facts.items()))
    missing = tuple(f"{name} (ID {id})" for id, name in names.items() if id not in facts)
    return BusReport(
        servos=servos,
        missing=missing,
        cycle_median=float(np.median(durations)) if durations else None,
        cycle_worst=max(durations) if durations else None,
        problems=_problems(servos, missing, robot),
    )


def _present(bus: ServoBus, ids: list[int], timeout: float) -> list[int]:
    found = []
    for id in ids:
        try:
            bus.ping(id, timeout)
            found.append(id)
        except BusError:
            continue
    return found


def _cycle(bus: ServoBus, ids: list[int], cycles: int) -> list[float]:
    """Durations of `cycles` readings of position, speed and load; the bus counts the failures."""
    if not ids:
        return []
    for id in ids:
        bus.statistics.servos.pop(id, None)
    address = STS3215["present_position"].address
    durations = []
    for _ in range(cycles):
        start = time.perf_counter()
        bus.sync_read(ids, address, 6)
        durations.append(time.perf_counter() - start)
    return durations


def _report(id: int, facts: dict[str, int], joint: str | None, bus: ServoBus) -> ServoReport:
    return ServoReport(
        id=id,
        joint=joint,
        model=facts["model_number"],
        firmware=f"{facts['firmware_major_version']}.{facts['firmware_minor_version']}",
        min_position_limit=facts["min_position_limit"],
        max_position_limit=facts["max_position_limit"],
        homing_offset=facts["homing_offset"],
        operating_mode=facts["operating_mode"],
        torque_enable=facts["torque_enable"],
        present_position=facts["present_position"],
        voltage=round(facts["present_voltage"] * STS3215["present_voltage"].scale, 1),
        temperature=facts["present_temperature"],
        alarms=status_names(facts["status"]),
        error_rate=bus.statistics.servos[id].error_rate,
    )


def _problems(servos: tuple[ServoReport, ...], missing: tuple[str, ...], robot: Robot) -> tuple[str, ...]:
    problems = []
    if missing:
        problems.append(
            f"no answer from {', '.join(missing)}: check power, cables, IDs and baud rate ({robot.baud})"
        )
    for servo in servos:
        who = f"{servo.joint or 'servo'} (ID {servo.id})"
        if servo.joint is None:
            problems.append(f"{who} belongs to no joint of {robot.name}")
            continue
        if servo.model != MODEL:
            problems.append(f"{who} is model {servo.model}, expected {MODEL} (STS3215)")
        if servo.operating_mode != 0:
            problems.append(f"{who} is in operating mode {servo.operating_mode}, expected 0 (position)")
        if servo.alarms:
            problems.append(f"{who} reports {', '.join(servo.alarms)}")
        if servo.temperature > MAX_TEMPERATURE:
            problems.append(f"{who} is at {servo.temperature} °C: let it cool down")
        if not VOLTAGE[0] <= servo.voltage <= VOLTAGE[1]:
            problems.append(
                f"{who} has {servo.voltage} V, expected {VOLTAGE[0]:g} to {VOLTAGE[1]:g}: check the supply"
            )
        if servo.error_rate > MAX_ERRORS:
            problems.append(
                f"{who} failed to answer {100 * servo.error_rate:.0f} % of requests: check its cable"
            )
    return tuple(problems)
