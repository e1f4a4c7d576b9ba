"""Inputs that press the emergency stop: a modem line of a serial port, or a file such as a GPIO's value.

`SPEC` is a path. A serial port's CTS line is watched (`/dev/ttyUSB1`, or `/dev/ttyUSB1:dsr`): wire a normally
closed button from RTS (DTR for dsr) to it, so that a broken wire counts as pressed. Of any other file the first
character is read every time: `0` means pressed (`/sys/class/gpio/gpio17/value` with a normally closed button to the
supply). Whatever cannot be read counts as pressed.

A process of its own looks every few milliseconds; what it sees reaches the control loop through shared memory. When
that process dies or hangs (a read that does not return), that counts as pressed as well.
"""

import fcntl
import os
import signal
import struct
import termios
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from hardware.children import ENDING
from sim2real.errors import UserError
from sim2real.spawning import context, end_process

PERIOD: Final = 0.005
"""s between two looks."""

SILENT: Final = 0.25
"""s without a look after which the input counts as pressed."""

_LINES: Final = {"cts": (termios.TIOCM_CTS, termios.TIOCM_RTS), "dsr": (termios.TIOCM_DSR, termios.TIOCM_DTR)}
_TIME, _PRESSED, _PRESSES = range(3)


def reader(spec: str) -> Callable[[], bool]:
    """A function that says whether the input is pressed now. Raises UserError when it cannot be read at all."""
    path, _, line = spec.rpartition(":")
    if line.lower() in _LINES and path:
        return _modem_line(path, line.lower(), spec)
    try:
        with open(spec, "rb", buffering=0) as file:
            if file.isatty():
                return _modem_line(spec, "cts", spec)
            # Every look opens it anew: a file that was replaced, or a GPIO that is gone, must not go unnoticed.
            first = file.read(1)
    except OSError as error:
        raise UserError(f"--estop {spec} cannot be read: {error.strerror}") from None
    if not first:
        raise UserError(f"--estop {spec} is empty; its first character must say 0 (pressed) or 1 (released)")
    return lambda: _file_pressed(spec)


def _file_pressed(path: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(1) in (b"0", b"")
    except OSError:
        return True


def _modem_line(path: str, line: str, spec: str) -> Callable[[], bool]:
    wanted, drive = _LINES[line]
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, termios.TIOCMBIS, struct.pack("i", drive))
        fcntl.ioctl(descriptor, termios.TIOCMGET, b"\0" * 4)
    except OSError as error:
        raise UserError(
            f"--estop {spec}: the {line.upper()} line cannot be read: {error.strerror}; it takes a serial port "
            "with modem lines, or a file whose first character is 0 while the stop is pressed"
        ) from None

    def pressed() -> bool:
        try:
            state = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCMGET, b"\0" * 4))[0]
        except OSError:
            return True
        return not state & wanted

    return pressed


class LineWatcher:
    """An `estop.StopInput` with the process that watches it. Raises UserError when it cannot be read, or is pressed."""

    def __init__(self, spec: str) -> None:
        if reader(spec)():
            raise UserError(f"the emergency stop {spec} is pressed: release it first")
        self.name = spec
        self._memory = context.RawArray("d", 3)
        self._shared = np.frombuffer(self._memory)
        self._process = context.Process(
            target=_watch, args=(spec, self._memory, os.getpid()), daemon=True, name="sim2real-estop"
        )
        self._process.start()

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until it looks. Raises UserError when it does not come to that."""
        end = time.monotonic() + timeout
        while not self._shared[_TIME]:
            if time.monotonic() > end or not self._process.is_alive():
                raise UserError(f"the emergency stop {self.name} cannot be watched: its process ended")
            time.sleep(0.005)

    def state(self, now: float) -> tuple[bool, int]:
        """See `estop.StopInput`; `now` in s of CLOCK_MONOTONIC."""
        silent = now - float(self._shared[_TIME]) > SILENT
        return silent or bool(self._shared[_PRESSED]), int(self._shared[_PRESSES]) + silent

    def close(self) -> None:
        """End the process; from then on the input counts as pressed."""
        end_process(self._process, 0.0)


def _watch(spec: str, memory: Any, parent: int) -> None:
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    shared = np.frombuffer(memory)
    pressed = reader(spec)
    before = False
    while os.getppid() == parent:
        now = pressed()
        shared[_PRESSED] = now
        shared[_PRESSES] += now and not before
        shared[_TIME] = time.monotonic()
        before = now
        time.sleep(PERIOD)
