"""Keys and lines on a terminal, without ever waiting for them."""

import os
import select
import sys
import termios
import tty
from types import TracebackType


class Terminal:
    """An operator at a terminal (see `session.Operator`); a context manager that restores the terminal.

    Lines go to standard error. Use `available()` first: without a terminal on standard input there is no
    operator.
    """

    attended = True

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno()
        self._saved = termios.tcgetattr(self._descriptor)

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
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)

    def pressed(self) -> str:
        if not select.select([self._descriptor], [], [], 0)[0]:
            return ""
        try:
            return os.read(self._descriptor, 1).decode("ascii", "ignore")
        except OSError:
            return ""

    def tell(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def confirm(self, question: str) -> bool:
        """Ask before the first motion; only y means yes. Waits for a key."""
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        while not (key := self._wait()):
            pass
        print(key if key.isprintable() else "", file=sys.stderr, flush=True)
        return key in ("y", "Y")

    def _wait(self) -> str:
        select.select([self._descriptor], [], [])
        return self.pressed()
