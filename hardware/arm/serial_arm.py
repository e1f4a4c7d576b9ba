"""An arm of bus servos as an `Arm`: angles in radians in, angles in radians out.

Everything that can disagree between file and servo is checked before anything moves; whatever is written
without acknowledgement (goals, torque) is read back; whatever is read is checked against what a servo can
physically do, because a bus's checksum is weak. What differs between servo families is in `family.py`.
"""

import numpy as np
from numpy.typing import NDArray

from hardware.arm.identity import (
    CALIBRATED,
    CHECK_TIMEOUT,
    ServoIdentity,
    compare,
    counted_beyond,
    identify,
    servo_settings,
    stored_calibration,
    write_settings,
)
from hardware.arm.plausibility import Plausibility
from hardware.servos.bus import ServoBus
from hardware.servos.family import family_of, joint_models, refuse_sliding
from hardware.servos.pace import usual
from hardware.servos.port_users import require_alone
from hardware.servos.spans import Span
from sim2real.arm import ArmState
from sim2real.calibration import RESOLUTION, Calibration
from sim2real.clock import Clock, RealClock
from sim2real.errors import BusError, HardwareError, UserError
from sim2real.robot import Robot
from sim2real.status import STATUS_NAMES, status_names

Array = NDArray[np.float64]
Ticks = NDArray[np.int64]

ARMING_TORQUE = (0.3, 0.5, 0.7, 1.0)
"""Shares of the torque limit that arming passes through."""

ARMING_STEP = 0.1  # s per share
ARMING_TOLERANCE = 0.12  # rad a joint may settle by while it is armed

BUS_WATCHDOG = 0.3
"""s without any request after which servos with a watchdog of their own stop."""

TRIPPED = 1 << next(bit for bit, name in STATUS_NAMES.items() if name == "bus watchdog")


class SerialArm:
    """An `Arm` on a servo bus.

    `calibration` None takes what the servos store (their own limits and offsets), if that is plausible.
    `observe` reads position, speed and load of all servos; every `wide_every`-th time (default: the family's)
    also one of the readings with voltage, temperature, status and whether the torque is really on.
    """

    def __init__(
        self,
        robot: Robot,
        bus: ServoBus,
        calibration: Calibration | None = None,
        *,
        clock: Clock | None = None,
        wide_every: int | None = None,
    ) -> None:
        self.robot = robot
        self.bus = bus
        self.clock = clock or RealClock()
        refuse_sliding(robot)
        self.family = family_of(robot)
        self.models = joint_models(robot)
        self.wide_every = self.family.wide_every if wide_every is None else wide_every
        self.ids = tuple(joint.servo_id for joint in robot.joints)
        self._calibration = calibration
        self.identities: tuple[ServoIdentity, ...] = ()
        n = robot.n
        self.enabled = np.zeros(n, dtype=bool)
        """(n,) whether each servo said its torque is on when it was last asked."""
        self._doubted = np.zeros(n, dtype=bool)  # said once that it is off, and is asked again
        self.torque_limit = np.ones(n)
        """(n,) share of full duty that each servo is configured for."""
        self._full_torque = np.zeros(n, dtype=np.int64)  # `torque_limit` as the register takes it
        self._modes: list[int] = []  # the servos' operating modes
        self._beyond = np.zeros(n, dtype=np.int64)  # `counted_beyond`
        self._feedback = Plausibility(np.array([model.max_speed for model in self.models]))
        self._load = np.full(n, np.nan)
        self._voltage = np.full(n, np.nan)
        self._temperature = np.full(n, np.nan)
        self._current = np.full(n, np.nan)
        self._status = np.zeros(n, dtype=np.int64)
        self._common_status = np.array(self.family.common_status)
        self._full_current = np.array([model.full_current or np.nan for model in self.models])
        self._cycle = 0
        self._turn = 0  # which of the wide readings comes next
        tables = tuple(model.table for model in self.models)
        bus.tables.update(zip(self.ids, tables))
        bus.pace(1.0 / robot.command_rate)
        self._fast = Span(tables, self.family.fast)
        self._wide = tuple(Span(tables, names) for names in self.family.wide)

    @classmethod
    def connect(cls, robot: Robot, port: str, calibration: Calibration | None = None) -> "SerialArm":
        """Open `port`, check that it is this robot's arm, and configure its servos (torque off).

        Raises PortUnavailable (missing, busy, not permitted), UserError (another arm, another calibration),
        BusError (servos that do not answer), PortShared (another program has the port open). The port is released
        again on any error.
        """
        bus = open_bus(robot, port)
        try:
            require_alone(port)
            arm = cls(robot, bus, calibration)
            arm.identify()
            arm.configure()
        except BaseException:
            bus.close()
            raise
        return arm

    @property
    def calibration(self) -> Calibration:
        """The calibration in use; without a file it is known only after `identify`."""
        if self._calibration is None:
            raise HardwareError("the arm has no calibration yet: call identify() first")
        return self._calibration

    # Before anything moves

    def identify(self) -> tuple[ServoIdentity, ...]:
        """Check that every servo is there, of the right kind, and stores the limits of the calibration.

        Raises BusError that lists which servos answered and which did not, UserError that names joint,
        register and both values where a servo disagrees with the calibration.
        """
        identities = identify(self.robot, self.bus)
        if self._calibration is None:
            self._calibration = stored_calibration(self.robot, identities)
        else:
            compare(identities, self._calibration)
        self.identities = identities
        self._modes = [one.registers["operating_mode"] for one in identities]
        self._find_turns()
        return identities

    def configure(self) -> None:
        """Torque off, then the robot's servo settings, each verified. EEPROM is written only where it differs."""
        self.relax()
        write_settings(self.robot, self.bus, self.calibration, permanent=True)
        wanted = [servo_settings(self.robot, name, self.calibration) for name in self.robot.joint_names]
        self._modes = [
            settings.get("operating_mode", mode) for settings, mode in zip(wanted, self._modes, strict=True)
        ]
        self._find_turns()
        # The firmware takes this limit over only when power comes on.
        for i, id in enumerate(self.ids):
            limit = self.bus.read(id, self.family.max_torque, CHECK_TIMEOUT)
            self.bus.write(id, self.family.torque_limit, limit, CHECK_TIMEOUT, verify=True)
            self._full_torque[i] = limit
            self.torque_limit[i] = limit * self.models[i].table[self.family.max_torque].scale

    def _find_turns(self) -> None:
        """To be called when the servos may have been restarted since: they forget how often they had turned."""
        self._beyond = counted_beyond(self.robot, self.bus, self.calibration, self._modes)

    # The Arm protocol

    def observe(self) -> ArmState:
        """One reading of all joints; waits for the servos at most a few ms longer than the wire needs.

        Raises BusError when no servo gave a usable answer, PortError when the port is gone.
        """
        wide = self._next_wide()
        span = wide if wide is not None and "present_position" in wide else self._fast
        reading = self.bus.sync_read(self.ids, span.address, span.size)
        now, answered, data = reading.time, reading.valid, reading.data
        ticks = span.raw(data, "present_position") - self._beyond
        sign = self.calibration.sign
        position = self.calibration.ticks_to_radians(ticks)
        velocity = sign * span.value(data, "present_velocity")
        low, high = self.calibration.ticks_to_radians(_ENCODER)
        valid = self._feedback.judge(
            position, velocity, now, answered, np.minimum(low, high), np.maximum(low, high)
        )
        for i in np.flatnonzero(answered & ~valid):
            self.bus.statistics.servos[self.ids[i]].implausible += 1
        self._load = np.where(valid, sign * self._duty(span, data), self._load)
        self._note_errors(answered, reading.error)
        if wide is span:
            self._note(wide, data, answered)
        elif wide is not None:
            extra = self.bus.sync_read(self.ids, wide.address, wide.size)
            self._note(wide, extra.data, extra.valid)
        if not valid.any():
            raise BusError(
                "no servo gave a usable answer"
                + ("" if answered.any() else ": the bus is silent; check power, cable and emergency stop")
            )
        return ArmState(
            time=now,
            position=self._feedback.position,
            velocity=self._feedback.velocity,
            load=self._load,
            valid=valid,
            age=now - self._feedback.at,
            voltage=self._voltage,
            temperature=self._temperature,
            current=self._current,
            status=self._status,
        )

    def command(self, position: Array) -> Array:
        """Send joint goals (n,), rad; returns what was really sent: whole ticks within the calibrated range.

        Raises UserError, and sends nothing, unless all n values are finite.
        """
        wanted = np.asarray(position, dtype=np.float64)
        if wanted.shape != (self.robot.n,) or not np.isfinite(wanted).all():
            raise UserError(f"a command needs {self.robot.n} finite joint angles in rad, got {position}")
        ticks = self.calibration.radians_to_ticks(wanted)
        self.bus.sync_write("goal_position", self.ids, (ticks + self._beyond).tolist())
        return self.calibration.ticks_to_radians(ticks)

    def servo_goals(self, position: Array) -> Ticks:
        """(..., n) rad → (..., n) ticks within the calibrated range, as register `goal_position` takes them now."""
        return self.calibration.radians_to_ticks(position) + self._beyond

    def enable(self) -> Array:
        """Torque on with the present position as goal, which is returned, (n,) rad; takes about 0.4 s.

        Goals are verified before the torque comes on, the torque limit rises in steps, and the arm must stay
        where it is. Servos with a watchdog of their own have it set. Raises HardwareError, with all torque
        off again, when any of it fails.
        """
        try:
            return self._arm()
        except BaseException:
            self._relax_quietly()
            raise

    def _arm(self) -> Array:
        self._feedback.forget()
        self._find_turns()
        before = self._fresh_reading()
        ticks = self.servo_goals(before)
        if self.family.watchdog is not None:
            # While it has tripped, the servo refuses goals.
            self._write_all(self.family.watchdog, 0)
        # What power-up resets may have been lost since `configure`.
        write_settings(self.robot, self.bus, self.calibration, permanent=False)
        self._limit_torque(ARMING_TORQUE[0])
        self._write_verified("goal_position", ticks)
        self._write_all("torque_enable", self.family.torque_on)
        if self.family.watchdog is not None:
            self._write_all(self.family.watchdog, round(BUS_WATCHDOG / self.family.watchdog_unit))
        for share in ARMING_TORQUE:
            self._limit_torque(share)
            self.clock.sleep_until(self.clock.now() + ARMING_STEP)
            moved = np.abs(self._fresh_reading() - before)
            if (moved > ARMING_TOLERANCE).any():
                joint = int(np.argmax(moved))
                raise HardwareError(
                    f"{self.robot.joints[joint].name} moved by {np.degrees(moved[joint]):.1f}° while it was armed, "
                    f"allowed are {np.degrees(ARMING_TOLERANCE):.0f}°; torque is off again: support the arm, check "
                    "that the joint is free and the calibration belongs to this arm"
                )
        self._write_verified(self.family.torque_limit, self._full_torque)
        self.enabled[:] = True
        self._status &= ~TRIPPED
        return self.calibration.ticks_to_radians(ticks - self._beyond)

    def relax(self) -> None:
        """Torque off: all at once, then each servo until it confirms, whatever the others do.

        Raises HardwareError naming the joints that did not confirm.
        """
        stubborn = []
        off = self.family.torque_off
        for _ in range(2):
            self.bus.sync_write("torque_enable", self.ids, [off] * len(self.ids))
        for i, joint in enumerate(self.robot.joints):
            try:
                if self.bus.read(joint.servo_id, "torque_enable", 0.1) != off:
                    self.bus.write(joint.servo_id, "torque_enable", off, 0.1, verify=True)
                self.enabled[i] = False
            except BusError:
                stubborn.append(f"{joint.name} (ID {joint.servo_id})")
        if stubborn:
            raise HardwareError(
                f"could not confirm that the torque is off on {', '.join(stubborn)}: switch the arm's power off"
            )
        if self.family.watchdog is not None:
            # A limp arm may be left alone for as long as anybody likes.
            self.bus.sync_write(self.family.watchdog, self.ids, [0] * len(self.ids))

    def stop(self) -> None:
        """Hold: the present position becomes the goal of every joint that can be read; the others keep theirs.

        Raises BusError when no joint can be read, or one does not take its goal.
        """
        state = self.observe()
        if not state.valid.all():
            state = self.observe()
        ticks = self.servo_goals(np.where(state.valid, state.position, 0.0))
        self._write_verified("goal_position", ticks, only=state.valid)

    def close(self) -> None:
        """Release the port; torque stays as it is."""
        self.bus.close()

    # Beyond the protocol

    def write_calibration(self, calibration: Calibration) -> None:
        """Store the limits and offsets of `calibration` in the servos (torque off), each verified, and the operating
        modes that it needs."""
        self.relax()
        for joint, entry in zip(self.robot.joints, calibration.table().values(), strict=True):
            values = {register: entry[key] for register, key in CALIBRATED.items()}
            if "drive_mode" in self.bus.table:
                mode = self.bus.read(joint.servo_id, "drive_mode", CHECK_TIMEOUT)
                values["drive_mode"] = mode & ~1 | entry["drive_mode"]
            if self.family.extended_mode is not None:
                values["operating_mode"] = servo_settings(self.robot, joint.name, calibration)[
                    "operating_mode"
                ]
            self.bus.write_permanently(joint.servo_id, values)
        self._calibration = calibration

    def time_readings(self, count: int) -> tuple[float, float]:
        """(how long a reading of all joints usually takes, of `count`; what the wire needs of that), s."""
        address, size = self._fast.address, self._fast.size
        times = []
        for _ in range(count):
            start = self.bus.now()
            self.bus.sync_read(self.ids, address, size)
            times.append(self.bus.now() - start)
        return usual(times), self.bus.reading_time(self.ids, address, size)

    def forget_readings(self) -> None:
        """Take the next readings as they come: a hand has moved the arm faster than its servos could."""
        self._feedback.forget()

    def alarms(self) -> dict[str, tuple[str, ...]]:
        """Joints whose servo reports a fault, with the names of the faults."""
        return {
            joint.name: status_names(int(bits))
            for joint, bits in zip(self.robot.joints, self._status, strict=True)
            if bits
        }

    def acknowledge(self) -> tuple[str, ...]:
        """Take back the faults that servos latch until they restart: only on a person's word.

        The torque of all joints goes off first. Returns the joints that were restarted. Raises HardwareError
        when the torque of one stays on, BusError when one does not come back.
        """
        latched = [i for i, bits in enumerate(self._status) if self._latches(int(bits))]
        if not latched:
            return ()
        self.relax()
        for i in latched:
            self.bus.reboot(self.ids[i])
            self._status[i] = 0
        self.configure()
        return tuple(self.robot.joints[i].name for i in latched)

    def _latches(self, bits: int) -> bool:
        return bool(self.family.latching.intersection(status_names(bits)))

    # Inside

    def _next_wide(self) -> Span | None:
        """The wide reading that is due in this cycle, if any."""
        due = self._cycle % self.wide_every == 0
        self._cycle += 1
        if not due:
            return None
        span = self._wide[self._turn]
        self._turn = (self._turn + 1) % len(self._wide)
        return span

    def _duty(self, span: Span, data: NDArray[np.uint8]) -> Array:
        """(n,) share of full effort, from the load or else the current."""
        load = span.value(data, "present_load")
        if "present_current" not in span or not np.isnan(load).any():
            return load
        return np.where(np.isnan(load), span.value(data, "present_current") / self._full_current, load)

    def _note_errors(self, answered: NDArray[np.bool_], error: Ticks) -> None:
        """Status from what came with a reading."""
        alert = self.family.alert
        if alert is None:
            self._status = np.where(answered, self._common_status[error], self._status)
            return
        raised = answered & (error & alert != 0)
        self._status = np.where(answered & ~raised, self._status & TRIPPED, self._status)
        if (raised & (self._status & ~TRIPPED == 0)).any():
            self._ask_next("status")

    def _ask_next(self, register: str) -> None:
        """Read `register` in the next cycle, out of its turn."""
        self._cycle = 0
        self._turn = next(k for k, span in enumerate(self._wide) if register in span)

    def _note(self, span: Span, data: NDArray[np.uint8], answered: NDArray[np.bool_]) -> None:
        """What a wide reading says besides position and speed."""
        if "present_voltage" in span:
            self._voltage = np.where(answered, span.value(data, "present_voltage"), self._voltage)
            self._temperature = np.where(answered, span.value(data, "present_temperature"), self._temperature)
            current = self.calibration.sign * span.value(data, "present_current")
            self._current = np.where(answered, current, self._current)
        if "torque_enable" in span:
            on = span.raw(data, "torque_enable") == self.family.torque_on
            # One byte in one reading must not end a run: torque that has gone is asked for twice.
            self._doubted = answered & self.enabled & ~on & ~self._doubted
            self.enabled = np.where(answered & ~self._doubted, on, self.enabled)
            if self._doubted.any():
                self._ask_next("torque_enable")
        if "status" in span and self.family.alert is not None:
            status = self._common_status[span.raw(data, "status") & 0xFF]
            self._status = np.where(answered, status | self._status & TRIPPED, self._status)
        if self.family.watchdog is not None and self.family.watchdog in span:
            tripped = np.where(span.raw(data, self.family.watchdog) < 0, TRIPPED, 0)
            self._status = np.where(answered, self._status & ~TRIPPED | tripped, self._status)

    def _fresh_reading(self, timeout: float = 0.1) -> Array:
        """(n,) rad, positions just read from every servo. Raises BusError when one cannot be read."""
        deadline = self.bus.now() + timeout
        while True:
            start = self.bus.now()
            try:
                state = self.observe()
                if (self._feedback.at >= start).all():
                    return state.position
            except BusError:
                pass
            if self.bus.now() >= deadline:
                silent = [
                    joint.name
                    for joint, at in zip(self.robot.joints, self._feedback.at, strict=True)
                    if not at >= start
                ]
                raise BusError(
                    f"cannot read the position of {', '.join(silent)} within {timeout * 1000:.0f} ms; "
                    "check cables and power"
                )

    def _limit_torque(self, share: float) -> None:
        limits = (self._full_torque * share).astype(int)
        self.bus.sync_write(self.family.torque_limit, self.ids, limits.tolist())

    def _write_all(self, register: str, value: int) -> None:
        self._write_verified(register, np.full(self.robot.n, value))

    def _write_verified(
        self,
        register: str,
        values: Ticks,
        *,
        only: NDArray[np.bool_] | None = None,
        attempts: int = 3,
    ) -> None:
        """Sync write, then read back: nobody acknowledges a sync write. Raises BusError naming joint and values."""
        entry = self.bus.table[register]
        chosen = [i for i in range(self.robot.n) if only is None or only[i]]
        ids = [self.ids[i] for i in chosen]
        wanted = [int(values[i]) for i in chosen]
        stored: list[int | None] = []
        for _ in range(attempts):
            self.bus.sync_write(register, ids, wanted)
            reading = self.bus.sync_read(ids, entry.address, entry.size)
            stored = [
                entry.decode(row.tobytes()) if ok else None for row, ok in zip(reading.data, reading.valid)
            ]
            if stored == wanted:
                return
        wrong = [
            f"{self.robot.joints[i].name}: wrote {value}, {'no answer' if got is None else f'reads back {got}'}"
            f"{self._reason(i)}"
            for i, value, got in zip(chosen, wanted, stored)
            if value != got
        ]
        raise BusError(f"register {register} was not taken ({'; '.join(wrong)}); check cables and power")

    def _reason(self, joint: int) -> str:
        """Why a servo may refuse what it is told, as far as it says."""
        names = status_names(int(self._status[joint]))
        if not names:
            return ""
        cure = ": acknowledge the fault to restart it" if self._latches(int(self._status[joint])) else ""
        return f" (it reports {', '.join(names)}{cure})"

    def _relax_quietly(self) -> None:
        try:
            self.relax()
        except HardwareError:
            pass  # the error that led here is the one to report


_ENCODER = np.array([[-RESOLUTION], [2 * RESOLUTION]])
"""Ticks between which a position can lie, offsets included."""


def open_bus(robot: Robot, port: str) -> ServoBus:
    """The bus of `robot` on a serial port. Raises UserError for a protocol without driver, PortUnavailable."""
    return family_of(robot).open_bus(port, robot.baud)
