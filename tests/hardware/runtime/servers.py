"""A policy server that does as it is told, in a thread: for tests of what the arm's side makes of it."""

import socket
import threading
from collections.abc import Callable

import numpy as np

from sim2real.policies.messages import Line, Message, MessageError

Misdeed = Callable[[Line, Message], None]


def welcome(hello: Message, **changes: object) -> Message:
    fields = {
        "version": 1,
        "joints": hello.fields["joints"],
        "features": ["joint_command"],
        "horizon": 8,
        "rate": 30,
    }
    return Message("welcome", fields | changes)


def good(line: Line, message: Message, positions: np.ndarray | None = None) -> None:
    """Stay where the arm was told to be."""
    chunk = np.tile(message.arrays["joint_command"], (8, 1)) if positions is None else positions
    line.send(Message("chunk", {"number": message.fields["number"]}, {"chunk": chunk}))


class StubServer:
    """Answers well for `calm` observations of every connection, then does `misdeed` instead."""

    def __init__(self, misdeed: Misdeed = good, *, calm: int = 1, **changes: object) -> None:
        self.misdeed, self.calm, self.changes = misdeed, calm, changes
        self.hellos: list[Message] = []
        self.seen: list[Message] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.spec = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._line: Line | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self._line = line = Line(self._listener.accept()[0])
            except OSError:
                return
            try:
                self.hellos.append(line.receive(60))
                line.send(welcome(self.hellos[-1], **self.changes))
                count = 0
                while True:
                    self.seen.append(line.receive(60))
                    count += 1
                    (good if count <= self.calm else self.misdeed)(line, self.seen[-1])
            except MessageError:
                pass
            line.close()

    def close(self) -> None:
        # Closing alone would leave the thread's accept, and with it the port, in being.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._line is not None:
            self._line.close()
