"""The process that lowers the arm when the control process cannot: standard library and port code only.

Feetech servos have no watchdog of their own: if the controlling process dies, they hold their last goal for
ever, torque on. Dynamixel servos can have one, which stops them and makes them refuse goals until it is cleared;
they too hold for ever. So control starts this process before the torque comes on, sends it a byte in every cycle, and
keeps a descent for it in shared memory: where the arm was last told to be, and a slow way from there to rest
that passed the gate, in ticks.

When the pipe ends (control died) or falls silent (control hangs: it is killed first), this process opens the
port, *never before control is gone*, holds the arm at its last goal, moves slowly to where the descent begins,
plays it, and switches the torque off. It reads nothing to do so, but to confirm that the torque is off.
"""

import argparse
import math
import mmap
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from hardware.servos.family import FAMILIES, FEETECH, ServoFamily
from hardware.servos.ports import Port, SerialPort
from sim2real.errors import PortError

LIMP, BUSY, ARMED, QUIT = b"L", b"B", b"A", b"Q"
"""Heartbeats: torque is off; a long exchange (arming, letting go) is under way; torque is on; we are done."""

SILENCE = 0.1
"""s without a heartbeat, while armed, after which a stopped control process is taken over."""

PATIENCE = 0.5
"""s without a heartbeat, while armed, after which one that is not stopped is taken over. Time in which this process
itself was kept from running does not count."""

STARVATION = 3.0
"""s without a heartbeat, while armed, after which one is taken over that wants to run and is not let: the arm holds its
last goal meanwhile, as it would with us."""

STARVED = 0.2
"""Share of the time that a process has had a processor, below which it was not let run."""

BUSY_SILENCE = 5.0
"""s without a heartbeat after which a control process is taken over while a long exchange is under way."""

LAST_WORDS = 10.0
"""s that a control process that closed the pipe itself has to end by itself; the arm holds still meanwhile. One
that was killed is gone at once."""

HOLD = 1.2
"""s to hold still before the arm is lowered."""

APPROACH = 0.25
"""rad/s, speed of the way to the beginning of the descent."""

RATE = 60.0
"""Hz at which goals are sent."""

MAX_POINTS = 1024
MAX_JOINTS = 16
_HEADER = struct.Struct("qqd")  # which descent counts (0: none yet), number of joints, s between its points
_LAST = struct.Struct(f"{MAX_JOINTS}q")
_POINTS = struct.Struct(f"q{MAX_POINTS * MAX_JOINTS}q")
SIZE = _HEADER.size + _LAST.size + 2 * _POINTS.size
"""Bytes of the shared memory: header, last goal, two descents (one counts while the other is written)."""


class DescentMemory:
    """What control leaves for the watchdog. Written by one process, read after that one is gone."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SIZE)

    def start(self, joints: int, period: float) -> None:
        """Clear everything; `period` is the time between the points of a descent, s."""
        _HEADER.pack_into(self._map, 0, 0, joints, period)
        _LAST.pack_into(self._map, _HEADER.size, *[0] * MAX_JOINTS)

    def set_last(self, ticks: Sequence[int]) -> None:
        """The goal that was last sent."""
        struct.pack_into(f"{len(ticks)}q", self._map, _HEADER.size, *ticks)

    def set_descent(self, points: Sequence[Sequence[int]]) -> None:
        """Replace the descent: at most MAX_POINTS points. What is there counts until this is complete."""
        which, joints, period = _HEADER.unpack_from(self._map, 0)
        following = 2 if which == 1 else 1
        flat = [int(tick) for point in points for tick in point]
        offset = _HEADER.size + _LAST.size + (following - 1) * _POINTS.size
        struct.pack_into(f"q{len(flat)}q", self._map, offset, len(points), *flat)
        _HEADER.pack_into(self._map, 0, following, joints, period)

    def read(self) -> tuple[list[int], list[list[int]], float]:
        """(last goal, descent, period); the descent is empty when there is none."""
        which, joints, period = _HEADER.unpack_from(self._map, 0)
        last = list(_LAST.unpack_from(self._map, _HEADER.size))[:joints]
        if which not in (1, 2):
            return last, [], period
        values = _POINTS.unpack_from(self._map, _HEADER.size + _LAST.size + (which - 1) * _POINTS.size)
        count = min(max(values[0], 0), MAX_POINTS)
        return last, [list(values[1 + i * joints : 1 + (i + 1) * joints]) for i in range(count)], period


class Takeover:
    """Takes an arm over and lowers it. `say` gets one line per step."""

    def __init__(
        self, port: Port, ids: Sequence[int], say: Callable[[str], None], family: ServoFamily = FEETECH
    ) -> None:
        self.port, self.ids, self.say = port, list(ids), say
        self.family = family
        self._goal = family.table["goal_position"]
        self._torque = family.table["torque_enable"]

    def run(self, last: Sequence[int], points: Sequence[Sequence[int]], period: float) -> bool:
        """Hold, lower, let go; returns whether every servo confirmed that its torque is off."""
        self.say("holding")
        if self.family.watchdog is not None:
            # A servo's own watchdog stops it on the spot; from now on holding the last goal is this process's job.
            for _ in range(3):
                self._send_all(self.family.watchdog, 0)
                time.sleep(0.01)
        # The servos hold the goal they have; ours may be a cycle older, and sending it would move the arm.
        time.sleep(HOLD)
        if points:
            self.say("lowering the arm")
            steps = max(abs(a - b) for a, b in zip(last, points[0])) * self.family.tick / APPROACH * RATE
            self._move(last, points[0], int(steps) + 1)
            for a, b in pairwise(points):
                self._move(a, b, max(round(period * RATE), 1))
            time.sleep(0.5)
        return self._let_go()

    def _send(self, ticks: Sequence[int]) -> None:
        data = [(i, self._goal.encode(int(tick))) for i, tick in zip(self.ids, ticks)]
        self.port.write(self.family.packets.sync_write(self._goal.address, self._goal.size, data))

    def _send_all(self, register: str, value: int) -> None:
        entry = self.family.table[register]
        data = [(i, entry.encode(value)) for i in self.ids]
        self.port.write(self.family.packets.sync_write(entry.address, entry.size, data))

    def _move(self, start: Sequence[int], end: Sequence[int], steps: int) -> None:
        for k in range(1, steps + 1):
            self._send([round(a + (b - a) * k / steps) for a, b in zip(start, end)])
            time.sleep(1 / RATE)

    def _let_go(self) -> bool:
        for _ in range(3):
            self._send_all("torque_enable", self.family.torque_off)
            time.sleep(0.01)
        stubborn = [i for i in self.ids if not self._is_off(i)]
        self.say(f"torque is NOT off on servos {stubborn}" if stubborn else "torque is off")
        return not stubborn

    def _is_off(self, servo: int) -> bool:
        packets, address, off = self.family.packets, self._torque.address, self.family.torque_off
        parser = packets.Parser()
        for _ in range(10):
            self.port.discard_input()
            self.port.write(packets.read(servo, address, 1))
            deadline = self.port.now() + 0.03
            while data := self.port.read(64, deadline):
                for packet in parser.feed(data):
                    if packet.id == servo and len(packet.data) == 1:
                        if packet.data[0] == off:
                            return True
                        self.port.write(packets.write(servo, address, bytes([off])))
        return False


class Scheduling(NamedTuple):
    """What the system says about a process: one letter (R wants to run, S sleeps, T stopped, Z dead; "" when there
    is none) and how long its main thread has run in all, s (infinite where the system does not say)."""

    state: str
    ran: float


def _scheduling(pid: int) -> Scheduling:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return Scheduling("", math.inf)
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return Scheduling(state, int(file.read().split()[0]) / 1e9)
    except (OSError, IndexError, ValueError):
        return Scheduling(state, math.inf)


def overdue(mode: bytes, silent: float, slept: float, state: str, share: float) -> bool:
    """Whether a control process that has been silent for `silent` s is to be taken over.

    For `slept` s of them this process was not let run itself. `share` is how much of the time control has had a
    processor since it fell silent.
    """
    if mode == LIMP or silent < (BUSY_SILENCE if mode == BUSY else SILENCE):
        return False
    if state not in ("R", "S", "D", "I"):
        return True
    starved = state == "R" and share < STARVED
    return silent - slept >= (STARVATION if starved else PATIENCE)


def watch(pipe: int, pid: int) -> str:
    """Wait until control ends or hangs. Returns "quit", "limp" (it ended with torque off) or why to take over."""
    poller = select.poll()
    poller.register(pipe, select.POLLIN | select.POLLHUP)
    mode, heard, slept = LIMP, time.monotonic(), 0.0
    first: tuple[float, float] | None = None
    """When control had just fallen silent, and how long it had run by then, s."""
    while True:
        pause, asked = 0.05 if mode == ARMED else 0.5, time.monotonic()
        if poller.poll(1000 * pause):
            data = os.read(pipe, 65536)
            if not data:
                return "limp" if mode == LIMP else "control died"
            mode, heard, slept, first = data[-1:], time.monotonic(), 0.0, None
            if mode == QUIT:
                return "quit"
            continue
        now = time.monotonic()
        slept += max(now - asked - pause, 0.0)
        found = _scheduling(pid)
        if first is None:
            first = now, found.ran
        share = (found.ran - first[1]) / max(now - first[0], 1e-3)
        if overdue(mode, now - heard, slept, found.state, share):
            return f"control has been silent for {1000 * (now - heard):.0f} ms"


def end_process(descriptor: int, grace: float, timeout: float = 5.0) -> bool:
    """Wait `grace` s for the process behind a pidfd to end by itself, then kill it; whether it is gone."""
    if select.select([descriptor], [], [], grace)[0]:
        return True
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return True
    return bool(select.select([descriptor], [], [], timeout)[0])


def _open(name: str, baud: int, timeout: float = 5.0) -> SerialPort:
    end = time.monotonic() + timeout
    while True:
        try:
            return SerialPort(name, baud)
        except PortError:
            # The dead process's lock may take the system a moment to drop.
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 nothing to do, or the arm is limp at rest; 3 torque off not confirmed; 4 no port."""
    parser = argparse.ArgumentParser(description="started by the control process; not a command of its own")
    parser.add_argument("--port", required=True)
    parser.add_argument("--baud", type=int, required=True)
    parser.add_argument("--protocol", choices=list(FAMILIES), required=True)
    parser.add_argument("--ids", required=True)
    parser.add_argument("--pipe", type=int, required=True)
    parser.add_argument("--memory", type=int, required=True)
    parser.add_argument("--ready", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        # This process ends when control says so, or when the arm is at rest; nothing else ends it.
        signal.signal(number, signal.SIG_IGN)

    def say(text: str) -> None:
        try:
            os.write(2, f"watchdog: {text}\n".encode())
        except OSError:
            pass

    import serial  # noqa: F401  (now, not when it is needed)

    try:
        control = os.pidfd_open(options.parent)
    except ProcessLookupError:
        return 0
    memory = DescentMemory(options.memory)
    os.write(options.ready, b"R")
    os.close(options.ready)
    why = watch(options.pipe, options.parent)
    if why in ("quit", "limp"):
        return 0
    say(f"{why}; taking over")
    # A process that closed the pipe is on its way out and may finish its last words.
    if not end_process(control, LAST_WORDS if why == "control died" else 0.0):
        say("control cannot be ended, so the port is not opened: switch the arm's power off")
        return 4
    last, points, period = memory.read()
    try:
        port = _open(options.port, options.baud)
        try:
            ids = [int(i) for i in options.ids.split(",")]
            done = Takeover(port, ids, say, FAMILIES[options.protocol]).run(last, points, period)
        finally:
            port.close()
    except PortError as error:
        say(f"{error}: switch the arm's power off")
        return 4
    return 0 if done else 3


if __name__ == "__main__":
    sys.exit(main())
