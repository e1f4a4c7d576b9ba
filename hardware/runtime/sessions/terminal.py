"""An operator at a terminal: keys without ever waiting for them, lines and a table without ever waiting either.

A terminal may be stopped (Ctrl-S) or hang on a dead connection for minutes; a thread that writes to it then waits. So a
thread of its own writes, and the control loop only leaves what is to be written.
"""

import codecs
import os
import select
import sys
import termios
import threading
import time
import tty
from collections import deque
from types import TracebackType
from typing import TextIO

from hardware.runtime.sessions.table import Status, table

DRAW = 0.2
"""Seconds between two drawings of the table."""

KEPT_LINES = 200
"""Lines that wait for a terminal that does not take them; older ones are dropped."""

GOODBYE = 1.0
"""Seconds that the last lines may take."""

ESCAPE = "\x1b"
ESCAPE_TIME = 0.05
"""Seconds after which an escape character with nothing behind it was the key Escape."""

STOPPED = "q"
"""What the end of the lines means."""

SEQUENCES = {
    "[A": "up", "[B": "down", "[C": "right", "[D": "left", "[5~": "pageup", "[6~": "pagedown",
    "OA": "up", "OB": "down", "OC": "right", "OD": "left",
}  # fmt: skip
"""What follows the escape character, and what the key is called."""


class Screen:
    """Lines and, on a terminal, a table below them that is drawn again and again; a context manager."""

    def __init__(self, stream: TextIO | None = None) -> None:
        stream = sys.stderr if stream is None else stream
        stream.flush()
        # Past the stream's own buffer: its lock, held by a thread that waits, would keep the program from ending.
        self._descriptor = stream.fileno()
        self._live = stream.isatty()
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._status: Status | None = None
        self._height = 0
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def tell(self, text: str) -> None:
        """Show a line."""
        self._lines.append(text)
        self._wake.set()

    def show(self, status: Status) -> None:
        """Draw this status next."""
        self._status = status

    def close(self) -> None:
        """Write what is left, if the stream takes it."""
        self._closing.set()
        self._wake.set()
        self._thread.join(GOODBYE)

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        while True:
            closing = self._closing.is_set()
            self._wake.clear()
            try:
                self._draw()
            except OSError:
                return  # the terminal has gone
            if closing:
                return
            self._wake.wait(DRAW if self._live else None)

    def _draw(self) -> None:
        lines = []
        while self._lines:
            lines.append(self._lines.popleft())
        status = self._status
        if not lines and (status is None or not self._live):
            return
        # Up to where the last table began, and everything below it goes.
        out = f"\x1b[{self._height}A\x1b[J" if self._height else ""
        out += "".join(line + "\n" for line in lines)
        self._height = 0
        if self._live and status is not None:
            rows = table(status, os.get_terminal_size(self._descriptor).columns or 80)
            out += "".join(row + "\n" for row in rows)
            self._height = len(rows)
        content = out.encode("utf-8", "replace")
        while content:
            content = content[os.write(self._descriptor, content) :]


def input_descriptor() -> int:
    """Of standard input, where keys may come from it; -1 where none will."""
    try:
        descriptor = -1 if sys.stdin is None or sys.stdin.closed else sys.stdin.fileno()
    except OSError:
        return -1  # something else stands in its place
    nowhere = descriptor < 0 or os.fstat(descriptor).st_rdev == os.stat(os.devnull).st_rdev
    return -1 if nowhere else descriptor


class Lines:
    """Nobody who could decide, but keys may come as lines on standard input: the first letter of each."""

    attended = False

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._descriptor = input_descriptor()
        self._start = True

    @property
    def open(self) -> bool:
        """Whether a key may still come. (What has been closed or is empty can be read at once.)"""
        return self._descriptor >= 0

    def pressed(self) -> str:
        while self._descriptor >= 0 and select.select([self._descriptor], [], [], 0)[0]:
            try:
                key = os.read(self._descriptor, 1).decode("ascii", "ignore")
            except OSError:
                key = ""
            if not key:
                # The terminal has been closed.
                self._descriptor = -1
                return STOPPED
            first, self._start = self._start, key == "\n"
            if first:
                return key
        return ""

    def tell(self, text: str) -> None:
        self._screen.tell(text)

    def show(self, status: Status) -> None:
        self._screen.show(status)


class Terminal:
    """An operator at a terminal (see `session.Operator`); a context manager that restores the terminal.

    Keys are single characters, or the names in SEQUENCES. Use `available()` first: without a terminal on standard
    input there is no operator.
    """

    attended = True

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._descriptor = sys.stdin.fileno()
        self._saved = termios.tcgetattr(self._descriptor)
        self._text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._since = 0.0

    @staticmethod
    def available() -> bool:
        return sys.stdin is not None and sys.stdin.isatty()

    def __enter__(self) -> "Terminal":
        # Single keys, unbuffered; Ctrl-C still sends its signal.
        tty.setcbreak(self._descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        termios.tcsetattr(self._descriptor, termios.TCSANOW, self._saved)

    def pressed(self) -> str:
        if select.select([self._descriptor], [], [], 0)[0]:
            try:
                self._text += self._decoder.decode(os.read(self._descriptor, 256))
            except OSError:
                pass
            self._since = time.monotonic()
        key, self._text = next_key(self._text, time.monotonic() - self._since > ESCAPE_TIME)
        return key

    def tell(self, text: str) -> None:
        self._screen.tell(text)

    def show(self, status: Status) -> None:
        self._screen.show(status)

    def confirm(self, question: str) -> bool:
        """Ask before the first motion; only y means yes. Waits for a key."""
        self.tell(f"{question} [y/N]")
        while not (key := self.pressed()):
            select.select([self._descriptor], [], [], ESCAPE_TIME)
        return key in ("y", "Y")


def next_key(text: str, waited: bool) -> tuple[str, str]:
    """The first key in what was typed, and the rest: ("", text) while it is not known yet.

    `waited` says that nothing has come for a while: an escape character is the key Escape then, and no sequence.
    """
    if not text or text[0] != ESCAPE:
        return text[:1], text[1:]
    for sequence, name in SEQUENCES.items():
        if text[1:].startswith(sequence):
            return name, text[1 + len(sequence) :]
    if len(text) > 1 and text[1] in "[O":
        # A key that means nothing here: its sequence ends with a letter or a tilde.
        for i in range(2, len(text)):
            if "@" <= text[i] <= "~":
                return "", text[i + 1 :]
        return (ESCAPE, text[1:]) if waited else ("", text)
    if len(text) > 1 or waited:
        return ESCAPE, text[1:]
    return "", text
