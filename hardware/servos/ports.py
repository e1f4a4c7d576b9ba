"""Serial ports: opened exclusively, read against monotonic deadlines, one exception for every way to die.

`Port` is what a bus needs; `SerialPort` is pyserial underneath (which opens and configures), with reads and
writes straight on its file descriptor, because those are the hot path of the control loop.
"""

import errno
import os
import select
import stat
import termios
import time
from math import ceil
from pathlib import Path
from typing import Protocol

from hardware.servos.echo import PROBE, Echo
from hardware.servos.port_users import programs_on
from sim2real.errors import PortError, UserError

_DEATHS = (OSError, termios.error)
"""What the system raises when a port has gone away (pyserial's own exception is an OSError)."""

WATCH = 60e-6
"""s before and after the earliest moment at which all that is asked for can have arrived, in which the port is
watched without sleeping: waking up, and finding everything where the processor left it, takes as long."""

ECHO_TIME = 0.1
"""s in which what an adapter sends back has come back, latency timer and a busy machine included."""

_SELECTABLE = 1024
"""Descriptors that select() can take; it counts in microseconds, poll() in milliseconds."""

_UNABLE = (*_DEATHS, ValueError, TypeError, NotImplementedError, AttributeError)
"""What pyserial raises when a device cannot do, or no longer do, what it is asked for."""


class PortUnavailable(PortError, UserError):
    """The port cannot be opened: missing, busy or not permitted. The message says which and what to do."""

    exit_code = UserError.exit_code


class Port(Protocol):
    """A byte stream to a bus. Every method raises PortError once the port is gone."""

    name: str
    baud: int

    def write(self, data: bytes) -> None:
        """Send all of `data`."""

    def read(self, size: int, deadline: float) -> bytes:
        """Bytes as soon as there are any, at most `size`; empty when `deadline` (`now()`) passes first."""

    def discard_input(self) -> int:
        """Throw away what has arrived; returns how many bytes that was."""

    def now(self) -> float:
        """Monotonic seconds, the time base of deadlines."""

    def close(self) -> None:
        """Release the port; safe to call again."""


class SerialPort:
    """A serial device (or pty) opened for this process alone."""

    def __init__(self, name: str, baud: int = 1_000_000, *, echoes: bool | None = None) -> None:
        """`echoes` says whether the adapter sends back what it is sent; None: find out, which takes 0.1 s."""
        import serial  # deferred: command-line help must not pay for it

        self.name = name
        self.baud = baud
        try:
            self._serial = serial.Serial(name, baudrate=baud, timeout=0, write_timeout=0.1, exclusive=True)
        except _UNABLE as error:
            raise PortUnavailable(_why_not(name, baud, error)) from error
        self._fd: int = self._serial.fileno()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._byte_time = 10 / baud
        self._passed = (
            0.0  # when what was written last, and what was read since, has passed the wire at the earliest
        )
        self._can_write = select.poll()
        self._can_write.register(self._fd, select.POLLOUT)
        self.low_latency = self._set_low_latency()
        self.taken = 0
        """How often bytes had arrived and another program took them."""
        self._echo: Echo | None = None
        self.discard_input()
        if self._find_echo() if echoes is None else echoes:
            self._echo = Echo()

    def _set_low_latency(self) -> bool:
        # FTDI adapters wait 16 ms for more bytes unless asked not to; ptys and CDC devices know no such mode.
        try:
            self._serial.set_low_latency_mode(True)
        except _UNABLE:
            return False
        return True

    @property
    def echoes(self) -> bool:
        """Whether the adapter sends back what it is sent. What comes back is left out of what is read."""
        return self._echo is not None

    def _find_echo(self) -> bool:
        try:
            self.write(PROBE)
        except PortError:
            return False  # the first real exchange finds out
        heard = b""
        deadline = time.monotonic() + ECHO_TIME + len(PROBE) * self._byte_time
        while PROBE not in heard and (data := self.read(256, deadline)):
            heard = heard[-len(PROBE) :] + data
        return PROBE in heard

    def now(self) -> float:
        return time.monotonic()

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        now = time.monotonic()
        self._passed = max(now, self._passed) + len(data) * self._byte_time
        if self._echo is not None:
            self._echo.sent(data, now)
        give_up = now + 0.1
        try:
            while view:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:
                    if time.monotonic() > give_up:
                        raise PortError(f"{self.name} accepts no more bytes: is the adapter stuck?") from None
                    self._can_write.poll(10)
        except _DEATHS as error:
            raise self._gone(error) from error

    def read(self, size: int, deadline: float) -> bytes:
        try:
            while self._await(self._passed + size * self._byte_time, deadline):
                echo = self._echo
                try:
                    data = os.read(self._fd, size if echo is None else size + echo.missing)
                except BlockingIOError:
                    continue
                if not data:
                    self._explain_nothing()
                    continue
                if echo is not None and not (data := echo.strip(data)):
                    continue
                self._passed += len(data) * self._byte_time
                return data
            return b""
        except _DEATHS as error:
            raise self._gone(error) from error

    def _explain_nothing(self) -> None:
        """Explain why nothing was read though bytes had arrived: raises OSError when the line has been hung up, else
        counts bytes that another program has taken."""
        if any(
            event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in self._poll.poll(0)
        ):
            raise OSError(errno.EIO, "hung up")
        self.taken += 1

    def _await(self, expected: float, deadline: float) -> bool:
        """Whether there is something to read before `deadline`. Wakes up shortly before `expected`."""
        now = time.monotonic()
        early = min(expected - WATCH, deadline) - now
        if early > 0 and self._ready(early):
            return True
        end = min(expected + WATCH, deadline)
        while True:
            if self._poll.poll(0):
                return True
            now = time.monotonic()
            if now >= end:
                return now < deadline and self._ready(deadline - now)

    def _ready(self, timeout: float) -> bool:
        """Whether there is something to read, or the port has gone, within `timeout` s."""
        if 0 <= self._fd < _SELECTABLE:
            return bool(select.select([self._fd], [], [], timeout)[0])
        return bool(self._poll.poll(ceil(1000 * timeout)))

    def discard_input(self) -> int:
        dropped = 0
        if self._fd < 0:
            raise PortError(f"{self.name} is closed")
        try:
            # Bounded: a device that talks without end must not hold us here.
            for _ in range(64):
                if not self._poll.poll(0):
                    break
                data = os.read(self._fd, 4096)
                if not data:
                    self._explain_nothing()
                    break
                dropped += len(data if self._echo is None else self._echo.strip(data))
        except BlockingIOError:
            pass
        except _DEATHS as error:
            raise self._gone(error) from error
        return dropped

    def close(self) -> None:
        self._fd = -1
        try:
            self._serial.close()
        except _UNABLE:
            # A port that was pulled out cannot be closed politely; the descriptor still has to go.
            descriptor = getattr(self._serial, "fd", None)
            if descriptor is not None:
                try:
                    os.close(descriptor)
                except OSError:
                    pass
                self._serial.fd = None
                self._serial.is_open = False

    def _gone(self, error: BaseException) -> PortError:
        return PortError(
            f"{self.name} has gone away ({error}): check plug and power, then connect again"
            if self._fd >= 0
            else f"{self.name} is closed"
        )


def available_ports() -> list[str]:
    """The serial devices this machine has."""
    from serial.tools import list_ports

    return sorted(port.device for port in list_ports.comports())


def echo_remark(port: Port) -> str:
    """Said where nobody answers behind an adapter that sends back what it is sent."""
    if not getattr(port, "echoes", False):
        return ""
    return " (the adapter sends back what it is sent, which is left out of account: it hears itself, and no servo)"


def latency_timer(name: str) -> float | None:
    """How long the adapter waits for more bytes before it passes on what it has, s; None if unknown."""
    path = Path("/sys/bus/usb-serial/devices") / Path(os.path.realpath(name)).name / "latency_timer"
    try:
        return int(path.read_text()) / 1000
    except (OSError, ValueError):
        return None


def require_port(name: str) -> None:
    """Raise UserError, with the ports that there are, unless the path of a port exists."""
    if not Path(name).exists():
        raise UserError(_why_not(name, 0, FileNotFoundError(name)))


def _why_not(name: str, baud: int, error: BaseException) -> str:
    """One message for a port that cannot be opened: what is wrong and what to do about it."""
    # pyserial puts what the system said about a device that is no terminal into a text.
    number = getattr(error, "errno", None) or next(iter((error.__context__ or error).args), None)
    path = Path(name)
    if not path.exists():
        dangling = " (a link to a device that is gone)" if path.is_symlink() else ""
        ports = ", ".join(available_ports()) or "none: is the adapter plugged in?"
        return f"there is no serial port {name}{dangling}; ports on this machine: {ports}"
    if not os.access(name, os.R_OK | os.W_OK) or number in (errno.EACCES, errno.EPERM):
        return f"no permission to use {name}; {_how_to_permit(name)}"
    if not stat.S_ISCHR(path.stat().st_mode) or number == errno.ENOTTY:
        return f"{name} is not a serial port; ports on this machine: {', '.join(available_ports()) or 'none'}"
    if number in (errno.EBUSY, errno.EAGAIN) or "lock" in str(error):
        others = "; ".join(map(str, programs_on(name)))
        by = f" (open in {others})" if others else ""
        return f"{name} is busy{by}: another program uses it; close that program and try again"
    return f"cannot open {name} at {baud} baud: {error}"


def _how_to_permit(name: str) -> str:
    import grp

    try:
        group = grp.getgrgid(os.stat(name).st_gid).gr_name
    except (OSError, KeyError):
        group = "dialout"
    if group == "root":
        return f"it belongs to root alone: sudo chmod a+rw {name} (until it is plugged in again)"
    return f"join its group: sudo usermod -aG {group} $USER, then log out and in again"
