"""An emulated bus on a pseudo-terminal: any program that opens a serial port can talk to it, in real time."""

import fcntl
import os
import pty
import select
import struct
import time
import tty
from collections.abc import Callable
from pathlib import Path

from hardware.emulator.traces import RENAMED, make_link
from hardware.emulator.wire import EmulatedBus
from sim2real.errors import UserError

_TCGETS2 = 0x802C542A
_BURST = 0.001
"""Replies that follow one another within this time, s, are handed over together: fewer wake-ups, same end."""

_IDLE = 1 / 300
"""How often the arm is attended to while nobody talks to it, s: a step of its physics."""

_ROOM = 0.0005
"""Physics and housekeeping are done when so much time is left until the next reply is due, or nobody has spoken
for so long: who has just been answered speaks again at once, s."""

_OVERDUE = 0.01
"""s after which physics and housekeeping are done in any case."""

_BACKLOG = 0.05
"""A port takes no more bytes when the line needs so long for those it has, s: what an adapter can buffer."""

_REHEARSED = 10
"""Steps of physics before the first client may come."""

_SPIN = 50e-6
"""The last stretch before a reply is due is waited out busily: the system's sleep is not that precise, s."""


class Pty:
    """A pty whose slave end is the port of `bus`.

    `link` is an optional symbolic link to it, removed again by `close`. The slave stays open here, so that
    clients come and go without the master noticing. `unplug` and `plug` are what their names say. For one thread:
    nothing here may be called by another one while `serve` runs.
    """

    def __init__(self, bus: EmulatedBus, *, link: str | Path | None = None) -> None:
        self.bus = bus
        self._poller = select.poll()
        self._open()
        self.link: Path | None = None
        self._start = time.monotonic()
        if link is not None:
            try:
                self.show(link)
            except UserError:
                self.hang_up()
                raise

    def show(self, link: str | Path) -> None:
        """Make the link by which clients find the port. Raises UserError where something is in its place."""
        make_link(Path(link), self.port)
        self.link = Path(link)

    def _open(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._poller.register(self._master, select.POLLIN)

    @property
    def name(self) -> str:
        """What clients open: the link if there is one."""
        return self.port if self.link is None else str(self.link)

    def now(self) -> float:
        """Seconds since the bus began."""
        return time.monotonic() - self._start

    def baud(self) -> int:
        """The rate that the client has set, bit/s."""
        answer = fcntl.ioctl(self._master, _TCGETS2, bytes(44))
        return int(struct.unpack_from("I", answer, 40)[0])

    def rehearse(self) -> None:
        """Let the arm live for a moment with nobody looking: its physics are compiled at the first steps."""
        for _ in range(_REHEARSED):
            time.sleep(_IDLE)
            self.bus.advance(self.now())

    def serve(self, *, until: Callable[[], bool], watch: dict[int, Callable[[], None]] | None = None) -> None:
        """Handle requests in real time until `until()` is true (asked at least every 10 ms or so).

        `watch` maps further file descriptors to what is called when they can be read.
        """
        watch = watch or {}
        poller = self._poller
        for descriptor in watch:
            poller.register(descriptor, select.POLLIN | select.POLLHUP)
        flush: float | None = None  # when `ready` has passed the wire
        ready = b""
        attended = spoken = -_OVERDUE
        listening = True
        while True:
            if flush is None:
                flush = self.bus.burst_end(_BURST)
                ready = b"" if flush is None else self.bus.due(flush)
            now = self.now()
            free = now - spoken if flush is None else flush - now
            if free >= _ROOM or now - attended >= _OVERDUE:
                if until():
                    break
                now = self.now()
                self.bus.advance(now)
                attended = now
            if flush is None:
                wait = _IDLE if free >= _ROOM else 2 * _ROOM
            else:
                wait = flush - self.now()
            if listening != (self.bus.backlog(now) < _BACKLOG) and self._master >= 0:
                listening = not listening
                poller.modify(self._master, select.POLLIN if listening else 0)
            # poll() counts in milliseconds; select() would not, but cannot take large descriptors.
            events = poller.poll(0 if wait < 0.001 else int(wait * 1000))
            if not events and flush is not None:
                self._sleep_until(flush)
            for descriptor, _ in events:
                if descriptor == self._master:
                    self._take()
                    spoken = self.now()
                elif descriptor in watch:  # else it was a port that has been hung up meanwhile
                    watch[descriptor]()
            if flush is not None and self.now() >= flush:
                self._put(ready)
                flush = None
                spoken = self.now()

    def _take(self) -> None:
        try:
            rate = self.baud()
            data = os.read(self._master, max(int(_BACKLOG * rate / 10), 1))
        except (BlockingIOError, OSError):
            return
        self.bus.receive(data, self.now(), rate)

    def _put(self, data: bytes) -> None:
        while data and self._master >= 0:
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                return  # nobody reads: the bytes are lost, as on a real line

    def _sleep_until(self, deadline: float) -> None:
        remaining = deadline - self.now() - _SPIN
        if remaining > 0:
            time.sleep(remaining)
        while self.now() < deadline:
            pass

    def unplug(self) -> None:
        """The port disappears, and the link to it; a client finds it gone."""
        self.hang_up()
        self._remove_link()

    def plug(self, *, renamed: bool) -> None:
        """The port is back, as another device; its link too, under another name if `renamed`."""
        if self._master >= 0:
            return
        self._open()
        if self.link is not None:
            if renamed:
                self.link = self.link.with_name(self.link.name + RENAMED)
            make_link(self.link, self.port)

    def hang_up(self) -> None:
        """Close both ends: clients find the port gone."""
        if self._master >= 0:
            self._poller.unregister(self._master)
        for descriptor in (self._master, self._slave):
            try:
                os.close(descriptor)
            except OSError:
                pass
        self._master = self._slave = -1

    def close(self) -> None:
        """Hang up and remove the link, if it is still ours."""
        self.hang_up()
        self._remove_link()

    def _remove_link(self) -> None:
        if self.link is not None and self.link.is_symlink() and os.readlink(self.link) == self.port:
            self.link.unlink()


def prefer() -> None:
    """Real servos do not share a processor with the program that drives them: ask for precedence, best effort.

    Also for being woken without the usual 50 µs of slack.
    """
    import ctypes

    try:
        # The lowest real-time priority, below that of any control loop; not inherited by children.
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except (OSError, AttributeError):
        try:
            os.nice(-10)
        except OSError:
            pass
    try:
        ctypes.CDLL(None).prctl(29, 1000, 0, 0, 0)  # PR_SET_TIMERSLACK, ns
    except (OSError, AttributeError):
        pass
