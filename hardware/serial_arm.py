"""An arm of bus servos as an `Arm`: angles in radians in, angles in radians out.

Everything that can disagree between file and servo is checked before anything moves; whatever is written
without acknowledgement (goals, torque) is read back; whatever is read is checked against what a servo can
physically do, because the bus's checksum is weak.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware.bus import ServoBus
from hardware.feetech.registers import MODEL, TICK, TORQUE_OFF, TORQUE_ON, status_names
from sim2real.arm import ArmState
from sim2real.calibration import Calibration
from sim2real.clock import Clock, RealClock
from sim2real.errors import BusError, HardwareError, UserError
from sim2real.robot import Robot

Array = NDArray[np.float64]

MAX_SPEED = 8.0
"""rad/s: no servo of the kind turns faster, whatever pushes it (no-load speed at 12 V: 4.8 rad/s)."""

JUMP_MARGIN = 0.06
"""rad that a reading may differ from the last good one besides real motion: noise, backlash, timing."""

JUMPED_AFTER = 5
"""Implausible readings in a row after which a joint's encoder counts as having jumped, until it is re-armed."""

CHECK_TIMEOUT = 0.3
"""s that a servo has for an answer, retries included, while nothing moves."""

ARMING_TORQUE = (0.3, 0.5, 0.7, 1.0)
"""Shares of the torque limit that arming passes through."""

ARMING_STEP = 0.1  # s per share
ARMING_TOLERANCE = 0.12  # rad a joint may settle by while it is armed

_FAST = ("present_position", "present_velocity", "present_load")
_WIDE = ("torque_enable", *_FAST, "present_voltage", "present_temperature", "status", "present_current")


@dataclass(frozen=True)
class ServoIdentity:
    """What one servo says about itself."""

    joint: str
    id: int
    model: int
    firmware: str
    registers: Mapping[str, int]


class SerialArm:
    """An `Arm` on a servo bus.

    `calibration` None takes what the servos store (their own limits and offsets), if that is plausible.
    `observe` reads position, speed and load of all servos; every `wide_every`-th time also voltage,
    temperature, current and whether the torque is really on.
    """

    def __init__(
        self,
        robot: Robot,
        bus: ServoBus,
        calibration: Calibration | None = None,
        *,
        clock: Clock | None = None,
        wide_every: int = 10,
    ) -> None:
        self.robot = robot
        self.bus = bus
        self.clock = clock or RealClock()
        self.wide_every = wide_every
        self.ids = tuple(joint.servo_id for joint in robot.joints)
        self._calibration = calibration
        self.identities: tuple[ServoIdentity, ...] = ()
        self.enabled = np.zeros(robot.n, dtype=bool)
        """(n,) whether each servo said its torque is on when it was last asked."""
        self.torque_limit = np.ones(robot.n)
        """(n,) share of full duty that each servo is configured for."""
        n = robot.n
        self._good = np.full(n, np.nan)  # last good position, rad
        self._good_velocity = np.zeros(n)
        self._good_load = np.zeros(n)
        self._good_at = np.full(n, -np.inf)
        self._heard_at = np.full(n, -np.inf)
        self._rejected = np.zeros(n, dtype=np.int64)
        self._voltage = np.full(n, np.nan)
        self._temperature = np.full(n, np.nan)
        self._current = np.full(n, np.nan)
        self._status = np.zeros(n, dtype=np.int64)
        self._cycle = 0
        self._fast = _Block(bus, _FAST)
        self._wide = _Block(bus, _WIDE)

    @classmethod
    def connect(cls, robot: Robot, port: str, calibration: Calibration | None = None) -> "SerialArm":
        """Open `port`, check that it is this robot's arm, and configure its servos (torque off).

        Raises PortUnavailable (missing, busy, not permitted), UserError (another arm, another calibration),
        BusError (servos that do not answer). The port is released again on any error.
        """
        bus = open_bus(robot, port)
        try:
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
        missing, found = [], []
        for joint in self.robot.joints:
            try:
                self.bus.ping(joint.servo_id, CHECK_TIMEOUT)
                found.append(f"{joint.name} (ID {joint.servo_id})")
            except BusError:
                missing.append(f"{joint.name} (ID {joint.servo_id})")
        if missing:
            raise BusError(
                f"no answer from {', '.join(missing)}; found {', '.join(found) or 'no servo at all'}; check "
                f"power and cables, that the bus runs at {self.robot.baud} baud, and that the IDs are as expected"
            )
        identities = tuple(self._identify(joint.name, joint.servo_id) for joint in self.robot.joints)
        wrong = [
            f"{one.joint} (ID {one.id}) is model {one.model}" for one in identities if one.model != MODEL
        ]
        if wrong:
            raise UserError(
                f"{', '.join(wrong)}; {self.robot.name} needs STS3215 servos (model {MODEL}): "
                "is this another robot's bus?"
            )
        if self._calibration is None:
            self._calibration = self._stored_calibration(identities)
        else:
            self._compare(identities, self._calibration)
        self.identities = identities
        return identities

    def _identify(self, joint: str, id: int) -> ServoIdentity:
        names = (
            "firmware_major_version", "firmware_minor_version", "model_number", "min_position_limit",
            "max_position_limit", "homing_offset", "operating_mode",
        )  # fmt: skip
        block = _Block(self.bus, names)
        values = block.decode(self.bus.read_block(id, block.address, block.size, CHECK_TIMEOUT))
        firmware = f"{values['firmware_major_version']}.{values['firmware_minor_version']}"
        if values["operating_mode"] != 0:
            raise UserError(
                f"{joint} (ID {id}) is in operating mode {values['operating_mode']}, not in position mode (0): "
                "set register operating_mode to 0"
            )
        return ServoIdentity(joint, id, values["model_number"], firmware, values)

    def _compare(self, identities: tuple[ServoIdentity, ...], calibration: Calibration) -> None:
        wrong = []
        for one, entry in zip(identities, calibration.table().values(), strict=True):
            for register, key in _CALIBRATED.items():
                if one.registers[register] != entry[key]:
                    wrong.append(
                        f"{one.joint}: {register} is {one.registers[register]} in the servo, "
                        f"{key} is {entry[key]} in the file"
                    )
        if wrong:
            raise UserError(
                "the servos' stored limits disagree with the calibration file (" + "; ".join(wrong) + "): "
                "use the file that was made with this arm, leave it out to use what the servos store, "
                "or calibrate again"
            )

    def _stored_calibration(self, identities: tuple[ServoIdentity, ...]) -> Calibration:
        table = {
            one.joint: {
                "id": one.id,
                "drive_mode": 0,
                **{key: one.registers[register] for register, key in _CALIBRATED.items()},
            }
            for one in identities
        }
        try:
            return Calibration.create(table, self.robot, "what the servos store")
        except UserError as error:
            raise UserError(f"{error}; or give this arm's calibration file (--calibration)") from None

    def configure(self) -> None:
        """Torque off, then the robot's servo settings, each verified. EEPROM is written only where it differs."""
        self.relax()
        table = self.bus.table
        for i, joint in enumerate(self.robot.joints):
            settings = {
                **self.robot.servo_settings.get("all", {}),
                **self.robot.servo_settings.get(joint.name, {}),
            }
            id = joint.servo_id
            differing = {
                name: value
                for name, value in settings.items()
                if self.bus.read(id, name, CHECK_TIMEOUT) != value
            }
            permanent = {name: value for name, value in differing.items() if table[name].area == "eeprom"}
            if permanent:
                self.bus.write_permanently(id, permanent)
            for name, value in differing.items():
                if name not in permanent:
                    self.bus.write(id, name, value, CHECK_TIMEOUT, verify=True)
            # The firmware copies this limit only when power comes on.
            limit = self.bus.read(id, "max_torque_limit", CHECK_TIMEOUT)
            self.bus.write(id, "torque_limit", limit, CHECK_TIMEOUT, verify=True)
            self.torque_limit[i] = limit * table["torque_limit"].scale

    # The Arm protocol

    def observe(self) -> ArmState:
        """One reading of all joints; waits for the servos at most a few ms longer than the wire needs.

        Raises BusError when no servo gave a usable answer, PortError when the port is gone.
        """
        wide = self._cycle % self.wide_every == 0
        self._cycle += 1
        block = self._wide if wide else self._fast
        reading = self.bus.sync_read(self.ids, block.address, block.size)
        now, valid = reading.time, reading.valid.copy()
        columns = block.columns(reading.data)
        position = self.calibration.ticks_to_radians(columns["present_position"])
        sign = self._sign()
        velocity = sign * columns["present_velocity"] * TICK
        load = sign * columns["present_load"] * 0.001
        self._status = np.where(valid, reading.error, self._status)
        valid &= self._plausible(position, velocity, now, valid)
        self._good = np.where(valid, position, self._good)
        self._good_velocity = np.where(valid, velocity, self._good_velocity)
        self._good_load = np.where(valid, load, self._good_load)
        self._good_at = np.where(valid, now, self._good_at)
        if wide:
            answered = reading.valid
            self._voltage = np.where(answered, columns["present_voltage"] * 0.1, self._voltage)
            self._temperature = np.where(answered, columns["present_temperature"], self._temperature)
            self._current = np.where(answered, sign * columns["present_current"] * 0.0065, self._current)
            self.enabled = np.where(answered, columns["torque_enable"] == TORQUE_ON, self.enabled)
        if not valid.any():
            raise BusError(
                "no servo gave a usable answer"
                + (
                    ""
                    if reading.valid.any()
                    else ": the bus is silent; check power, cable and emergency stop"
                )
            )
        return ArmState(
            time=now,
            position=self._good,
            velocity=self._good_velocity,
            load=self._good_load,
            valid=valid,
            age=now - self._good_at,
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
        self.bus.sync_write("goal_position", self.ids, ticks.tolist())
        return self.calibration.ticks_to_radians(ticks)

    def enable(self) -> None:
        """Torque on with the present position as goal; takes about 0.4 s.

        Goals are verified before the torque comes on, the torque limit rises in steps, and the arm must stay
        where it is. Raises HardwareError, with all torque off again, when it does not.
        """
        try:
            self._arm()
        except BaseException:
            self._relax_quietly()
            raise

    def _arm(self) -> None:
        self._forget()
        before = self._fresh_reading()
        ticks = self.calibration.radians_to_ticks(before)
        full = np.round(self.torque_limit * 1000).astype(int)
        self.bus.sync_write("torque_limit", self.ids, (full * ARMING_TORQUE[0]).astype(int).tolist())
        self._write_verified("goal_position", ticks)
        self._write_verified("torque_enable", np.full(self.robot.n, TORQUE_ON))
        for share in ARMING_TORQUE:
            self.bus.sync_write("torque_limit", self.ids, (full * share).astype(int).tolist())
            self.clock.sleep_until(self.clock.now() + ARMING_STEP)
            moved = np.abs(self._fresh_reading() - before)
            if (moved > ARMING_TOLERANCE).any():
                joint = int(np.argmax(moved))
                raise HardwareError(
                    f"{self.robot.joints[joint].name} moved by {np.degrees(moved[joint]):.1f}° while it was armed, "
                    f"allowed are {np.degrees(ARMING_TOLERANCE):.0f}°; torque is off again: support the arm, check "
                    "that the joint is free and the calibration belongs to this arm"
                )
        self._write_verified("torque_limit", full)
        self.enabled[:] = True

    def relax(self) -> None:
        """Torque off: all at once, then each servo until it confirms, whatever the others do.

        Raises HardwareError naming the joints that did not confirm.
        """
        stubborn = []
        for _ in range(2):
            self.bus.sync_write("torque_enable", self.ids, [TORQUE_OFF] * len(self.ids))
        for i, joint in enumerate(self.robot.joints):
            try:
                if self.bus.read(joint.servo_id, "torque_enable", 0.1) != TORQUE_OFF:
                    self.bus.write(joint.servo_id, "torque_enable", TORQUE_OFF, 0.1, verify=True)
                self.enabled[i] = False
            except BusError:
                stubborn.append(f"{joint.name} (ID {joint.servo_id})")
        if stubborn:
            raise HardwareError(
                f"could not confirm that the torque is off on {', '.join(stubborn)}: switch the arm's power off"
            )

    def stop(self) -> None:
        """Hold: the present position becomes the goal of every joint that can be read; the others keep theirs.

        Raises BusError when no joint can be read, or one does not take its goal.
        """
        state = self.observe()
        if not state.valid.all():
            state = self.observe()
        ticks = self.calibration.radians_to_ticks(np.where(state.valid, state.position, 0.0))
        self._write_verified("goal_position", ticks, only=state.valid)

    def close(self) -> None:
        """Release the port; torque stays as it is."""
        self.bus.close()

    # Beyond the protocol

    def write_calibration(self, calibration: Calibration) -> None:
        """Store the limits and offsets of `calibration` in the servos (torque off), each verified."""
        self.relax()
        for joint, entry in zip(self.robot.joints, calibration.table().values(), strict=True):
            self.bus.write_permanently(
                joint.servo_id, {register: entry[key] for register, key in _CALIBRATED.items()}
            )
        self._calibration = calibration

    def alarms(self) -> dict[str, tuple[str, ...]]:
        """Joints whose servo reports a fault, with the names of the faults."""
        return {
            joint.name: status_names(int(bits))
            for joint, bits in zip(self.robot.joints, self._status, strict=True)
            if bits
        }

    # Inside

    def _sign(self) -> Array:
        return np.where(self.calibration.drive_mode == 1, -1.0, 1.0)

    def _forget(self) -> None:
        """Take the next reading as it comes: the arm may have been moved by hand."""
        self._good_at[:] = -np.inf
        self._heard_at[:] = -np.inf
        self._rejected[:] = 0

    def _plausible(
        self, position: Array, velocity: Array, now: float, answered: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Which readings a servo can really have taken, given the last good one."""
        low, high = self.calibration.ticks_to_radians(np.array([-4096, 8192])[:, None])
        possible = (position >= np.minimum(low, high)) & (position <= np.maximum(low, high))
        possible &= np.abs(velocity) <= 2 * MAX_SPEED
        # While a joint is silent it may go anywhere at full speed; while it is heard but not believed, no
        # further than its speed says: otherwise a jump would become plausible by waiting.
        unheard = np.minimum(now - self._heard_at, 1e3)
        first = ~np.isfinite(self._good_at)
        disbelieved = np.where(first, 0.0, np.maximum(now - self._good_at - unheard, 0.0))
        speed = np.minimum(1.5 * np.maximum(np.abs(self._good_velocity), np.abs(velocity)), MAX_SPEED)
        bound = MAX_SPEED * unheard + speed * disbelieved + JUMP_MARGIN
        near = first | (np.abs(position - self._good) <= bound)
        good = answered & possible & near & (self._rejected < JUMPED_AFTER)
        refused = answered & ~good
        self._rejected = np.where(good, 0, self._rejected + refused)
        self._heard_at = np.where(answered, now, self._heard_at)
        for i in np.flatnonzero(refused):
            self.bus.statistics.servos[self.ids[i]].implausible += 1
        return good

    def _fresh_reading(self, timeout: float = 0.1) -> Array:
        """(n,) rad, positions just read from every servo. Raises BusError when one cannot be read."""
        deadline = self.bus.now() + timeout
        while True:
            start = self.bus.now()
            try:
                state = self.observe()
                if (self._good_at >= start).all():
                    return state.position
            except BusError:
                pass
            if self.bus.now() >= deadline:
                silent = [
                    joint.name
                    for joint, at in zip(self.robot.joints, self._good_at, strict=True)
                    if not at >= start
                ]
                raise BusError(
                    f"cannot read the position of {', '.join(silent)} within {timeout * 1000:.0f} ms; "
                    "check cables and power"
                )

    def _write_verified(
        self,
        register: str,
        values: NDArray[np.int64],
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
            for i, value, got in zip(chosen, wanted, stored)
            if value != got
        ]
        raise BusError(f"register {register} was not taken ({'; '.join(wrong)}); check cables and power")

    def _relax_quietly(self) -> None:
        try:
            self.relax()
        except HardwareError:
            pass  # the error that led here is the one to report


_CALIBRATED = {
    "min_position_limit": "range_min",
    "max_position_limit": "range_max",
    "homing_offset": "homing_offset",
}
"""Register by the calibration file's key that it must equal."""


class _Block:
    """Registers that are read together: their span, and how to cut it up."""

    def __init__(self, bus: ServoBus, names: tuple[str, ...]) -> None:
        self.registers = tuple(bus.table[name] for name in names)
        self.address = min(register.address for register in self.registers)
        self.size = max(register.end for register in self.registers) - self.address

    def decode(self, data: bytes) -> dict[str, int]:
        return {
            r.name: r.decode(data[r.address - self.address : r.end - self.address]) for r in self.registers
        }

    def columns(self, data: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
        """(k, size) bytes → (k,) signed raw values by register."""
        result = {}
        for r in self.registers:
            at = r.address - self.address
            raw = data[:, at].astype(np.int64)
            for byte in range(1, r.size):
                raw |= data[:, at + byte].astype(np.int64) << 8 * byte
            if r.sign_bit is not None:
                magnitude = raw & ((1 << r.sign_bit) - 1)
                raw = np.where(raw >> r.sign_bit & 1, -magnitude, magnitude)
            result[r.name] = raw
        return result


def open_bus(robot: Robot, port: str) -> ServoBus:
    """The bus of `robot` on a serial port. Raises UserError for a protocol without driver, PortUnavailable."""
    from hardware.feetech.bus import FeetechBus
    from hardware.ports import SerialPort, latency_timer

    if robot.protocol != "feetech":
        raise UserError(
            f"{robot.name} speaks the protocol '{robot.protocol}'; there is a driver for 'feetech'"
        )
    # An adapter that holds bytes back does so once per exchange.
    return FeetechBus(SerialPort(port, robot.baud), allowance=0.006 + (latency_timer(port) or 0.0))
