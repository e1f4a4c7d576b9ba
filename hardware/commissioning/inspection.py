"""A look at a servo bus without moving anything: who is there, how they are, how well the line works."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hardware.servos.bus import ServoBus
from hardware.servos.family import ServoFamily, ServoModel, family_of, joint_models
from hardware.servos.pace import usual
from hardware.servos.spans import Span
from sim2real.errors import BusError
from sim2real.robot import Robot
from sim2real.status import report

CYCLES = 300
"""Readings of all servos that the error rates are taken from."""

ONE_PING = 0.004
"""s for one servo of many that may not be there, besides what the line is known to need."""

LATE = 0.1
"""s that a reading may take longer than usual before what is missing counts as lost."""

MAX_ERRORS = 0.05
"""Share of unanswered requests above which something is wrong with the line."""

_STATE = ("torque_enable", "present_position", "present_voltage", "present_temperature", "status")


_FAILURES = ("timeouts", "checksum", "wrong_length", "late")


@dataclass(frozen=True)
class ServoReport:
    """One servo: identity, stored limits (ticks), state, and its error rate over all readings. `model_name` is ""
    for a kind that nobody has declared."""

    id: int
    joint: str | None
    model: int
    model_name: str
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
    failures: dict[str, int]
    """Kinds of failed exchanges, by how many: those that there were."""


@dataclass(frozen=True)
class BusReport:
    """What is on a bus, and how long an exchange takes, s: `latency` is what an answer takes beyond its time on the
    wire (None: nobody answers)."""

    latency: float | None
    servos: tuple[ServoReport, ...]
    missing: tuple[str, ...]
    reads: int
    cycle_median: float | None
    cycle_usual: float | None
    cycle_worst: float | None
    cycle_wire: float
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
    family = family_of(robot)
    names = {joint.servo_id: joint.name for joint in robot.joints}
    latency = bus.settle(sorted(names))
    present = _present(bus, sorted(names), 0.2)
    if scan or not present:
        if progress is not None:
            progress("looking for servos with other IDs")
        others = [id for id in range(family.max_id + 1) if id not in names]
        present |= _present(bus, others, bus.allowance + ONE_PING)
    facts: dict[int, dict[str, int]] = {}
    for id, error in sorted(present.items()):
        try:
            facts[id] = {name: bus.read(id, name, 0.3) for name in (*family.settings, *_STATE)}
            if family.alert is None:
                # What a servo says with every answer is its status, too.
                facts[id]["status"] |= error
        except BusError:
            continue  # it answered a ping and then fell silent: listed as missing
    durations, wire = _cycle(family, bus, sorted(facts), cycles)
    servos = tuple(_report(family, id, values, names.get(id), bus) for id, values in sorted(facts.items()))
    missing = tuple(f"{name} (ID {id})" for id, name in names.items() if id not in facts)
    return BusReport(
        latency=latency,
        servos=servos,
        missing=missing,
        reads=len(durations),
        cycle_median=float(np.median(durations)) if durations else None,
        cycle_usual=usual(durations) if durations else None,
        cycle_worst=max(durations) if durations else None,
        cycle_wire=wire,
        problems=(*_unreadable(names, present, facts), *_problems(servos, missing, robot, bus.remark)),
    )


def _present(bus: ServoBus, ids: list[int], timeout: float) -> dict[int, int]:
    """The error byte of every servo that answers, by ID."""
    found = {}
    for id in ids:
        try:
            found[id] = bus.ping(id, timeout)
        except BusError:
            continue
    return found


def _cycle(family: ServoFamily, bus: ServoBus, ids: list[int], cycles: int) -> tuple[list[float], float]:
    """Durations of `cycles` readings of what a control loop reads, s, and what one needs on the wire; the bus counts
    the failures."""
    if not ids:
        return [], 0.0
    for id in ids:
        bus.statistics.servos.pop(id, None)
    bus.prepare(ids)
    span = Span([bus.tables.get(id, bus.table) for id in ids], family.fast)
    address, size = span.address, span.size
    # Late is not lost: how late is what the durations say.
    wire = bus.reading_time(ids, address, size)
    timeout = wire + bus.allowance + LATE
    durations = []
    for _ in range(cycles):
        start = time.perf_counter()
        bus.sync_read(ids, address, size, timeout)
        durations.append(time.perf_counter() - start)
    return durations, wire


def _report(
    family: ServoFamily, id: int, facts: dict[str, int], joint: str | None, bus: ServoBus
) -> ServoReport:
    model = family.model_by_number(facts["model_number"])
    counts = asdict(bus.statistics.servos[id])
    return ServoReport(
        id=id,
        joint=joint,
        model=facts["model_number"],
        model_name=model.name if model else "",
        firmware=".".join(str(facts[name]) for name in family.firmware),
        min_position_limit=facts["min_position_limit"],
        max_position_limit=facts["max_position_limit"],
        homing_offset=facts["homing_offset"],
        operating_mode=facts["operating_mode"],
        torque_enable=facts["torque_enable"],
        present_position=facts["present_position"],
        voltage=round(facts["present_voltage"] * bus.table["present_voltage"].scale, 1),
        temperature=facts["present_temperature"],
        alarms=family.status_names(facts["status"]),
        error_rate=bus.statistics.servos[id].error_rate,
        failures={kind: counts[kind] for kind in _FAILURES if counts[kind]},
    )


def _problems(
    servos: tuple[ServoReport, ...], missing: tuple[str, ...], robot: Robot, remark: str
) -> tuple[str, ...]:
    """`remark`: what is peculiar about the port, for where nobody answers."""
    problems = []
    expected = {joint.name: model for joint, model in zip(robot.joints, joint_models(robot), strict=True)}
    if missing:
        problems.append(
            f"no answer from {', '.join(missing)}{'' if servos else remark}: "
            f"check power, cables, IDs and baud rate ({robot.baud}); `sim2real setup` looks for servos with any ID "
            "at any baud rate"
        )
    for servo in servos:
        who = f"{servo.joint or 'servo'} (ID {servo.id})"
        if servo.joint is None:
            problems.append(f"{who} belongs to no joint of {robot.name}")
            continue
        problems += _wrong(who, servo, expected[servo.joint], family_of(robot))
        if servo.error_rate > MAX_ERRORS:
            kinds = ", ".join(f"{count} {kind}" for kind, count in servo.failures.items())
            problems.append(
                f"{who} failed to answer {100 * servo.error_rate:.0f} % of requests ({kinds}): "
                f"{_suspect(servo.failures, servo.error_rate)}"
            )
    return tuple(problems)


def _unreadable(
    names: Mapping[int, str], present: Mapping[int, int], facts: Mapping[int, object]
) -> Iterator[str]:
    """Servos that are there and yet cannot be read."""
    for id in present:
        if id not in facts:
            yield (
                f"{names.get(id, 'servo')} (ID {id}) answers a ping, but no question comes back whole: several "
                "servos with one ID do so (`sim2real setup` tells), or its cable is bad"
            )


def _suspect(failures: Mapping[str, int], error_rate: float) -> str:
    """What to look at, by the kinds of failed exchanges."""
    if error_rate >= 1.0 and set(failures) == {"timeouts"}:
        return "it answers when it is asked alone, but not to one question for all (sync read): look at its firmware"
    lost, late = failures.get("timeouts", 0), failures.get("late", 0)
    if late and 2 * late >= lost:
        return "it does answer, but late: the adapter or this computer is slow"
    if failures.get("checksum", 0) + failures.get("wrong_length", 0) > lost / 2:
        return "its answers come damaged: check its cable, and that no other servo has its ID"
    return "check its cable"


def _wrong(who: str, servo: ServoReport, model: ServoModel, family: ServoFamily) -> list[str]:
    """What is wrong with one servo of the robot, by what its model should be and can take."""
    problems = []
    if servo.model != model.number:
        problems.append(f"{who} is model {servo.model}, expected {model.number} ({model.name})")
    modes = {family.position_mode: "position", family.extended_mode: "extended position"}
    if servo.operating_mode not in modes:
        known = " or ".join(f"{mode} ({name})" for mode, name in modes.items() if mode is not None)
        problems.append(f"{who} is in operating mode {servo.operating_mode}, expected {known}")
    if servo.alarms:
        problems.append(f"{who} reports {report(servo.alarms)}")
    if servo.temperature > model.max_temperature:
        problems.append(f"{who} is at {servo.temperature} °C: let it cool down")
    low, high = model.voltage
    if not low <= servo.voltage <= high:
        problems.append(f"{who} has {servo.voltage} V, expected {low:g} to {high:g}: check the supply")
    return problems
