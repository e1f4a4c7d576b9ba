"""A federation's server on the network: clients connect, say what their data are like, and are given work.

Messages are those of policy servers (`sim2real/policies/messages.py`): bounded, numbers and texts, never code.

    hello {version, name}                  → welcome {learning}
    statistics {examples} + arrays         → joined
    want {have}                            → work {version, turn} + statistics, weights or change
                                             | wait | done + weights
    update {version, loss} + change        → taken {reason}
"""

import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from pipelines.federated.coordinator import Coordinator
from pipelines.federated.server import Refused
from pipelines.federated.settings import Learning
from sim2real.errors import UserError
from sim2real.policies.messages import VERSION, Line, Message, MessageError, listening
from sim2real.text import printable

TIMEOUT = 10.0
"""s in which a message that has begun must be complete."""
PATIENCE = 5.0
"""s after which a client that waits for work is told to go on waiting."""
SILENT = 86_400.0
"""s that a client may train for a round before its connection is given up."""
PREPARING = 1800.0
"""s that a client may take to read its data."""
LINGER = 30.0
"""s that clients have, after the last round, to hear of it."""
LONGEST_NAME = 64
STRANGERS = 64
"""Connections at a time beside those expected."""

Say = Callable[[str], None]


def learning_of(learning: Learning) -> dict[str, Any]:
    """What a client is told of the settings."""
    return {name: value for name, value in asdict(learning).items() if name in Learning.__dataclass_fields__}


class FederationServer:
    """Serves a coordinator's federation at `listen`; `address` is (host, port) as bound. `security`: TLS."""

    def __init__(
        self,
        coordinator: Coordinator,
        listen: str,
        *,
        security: ssl.SSLContext | None = None,
        say: Say = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> None:
        """Raises UserError where it cannot listen there."""
        self.coordinator, self.security, self.say = coordinator, security, say
        self._listener = listening(listen)
        self._listener.settimeout(0.5)
        self._places = threading.BoundedSemaphore(coordinator.clients + STRANGERS)
        self._lines: dict[str, Line] = {}
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self.address: tuple[str, int] = self._listener.getsockname()[:2]

    def run(self) -> None:
        """Serve until the last round is over and clients know it."""
        ended: float | None = None
        while ended is None or time.monotonic() < ended:
            self.coordinator.tick()
            if self.coordinator.done:
                ended = ended or time.monotonic() + LINGER
                if not self.coordinator.live:
                    return
            try:
                connection, _ = self._listener.accept()
            except (TimeoutError, ConnectionError):
                continue
            if not self._places.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._client, args=(connection,), daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _client(self, connection: socket.socket) -> None:
        """One connection from beginning to end. Nothing that it does ends the server."""
        line, name = None, ""
        try:
            connection.settimeout(TIMEOUT)
            if self.security is not None:
                connection = self.security.wrap_socket(connection, server_side=True)
            line = Line(connection)
            name = self._greet(line)
            while self._serve(line, name):
                pass
        except (MessageError, OSError, ValueError) as error:
            peer = name or (line.peer if line is not None else "a caller")
            self.say(f"{printable(peer)}: {printable(error)}")
        except UserError as error:
            self.say(f"{name or (line.peer if line else 'a caller')}: {error}")
            if line is not None:
                try:
                    line.send(Message("refusal", {"message": str(error)}), 1.0)
                except MessageError:
                    pass
        finally:
            with self._lock:
                mine = name and self._lines.get(name) is line
                if mine:
                    del self._lines[name]
            if mine:
                self.coordinator.leave(name)
            connection.close()
            self._places.release()

    def _greet(self, line: Line) -> str:
        """Take a client in; its name. Raises UserError for one that does not fit."""
        hello = line.receive(TIMEOUT)
        name = hello.fields.get("name")
        if hello.type != "hello" or hello.fields.get("version") != VERSION:
            raise Refused(f"a connection begins with 'hello' of version {VERSION}")
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise Refused(f"a name has 1 … {LONGEST_NAME} printable characters")
        line.send(
            Message(
                "welcome", {"version": VERSION, "learning": learning_of(self.coordinator.server.learning)}
            )
        )
        about = line.receive(PREPARING)
        examples = about.fields.get("examples")
        if about.type != "statistics" or isinstance(examples, bool) or not isinstance(examples, int):
            raise Refused("after 'welcome' come 'statistics' with the number of examples")
        with self._lock:
            if (old := self._lines.get(name)) is not None:
                # A client that came back before its old connection was known to be dead.
                old.close()
                self.coordinator.leave(name)
            self._lines[name] = line
        self.coordinator.join(
            name, examples, {key: np.array(v, np.float32) for key, v in about.arrays.items()}
        )
        line.send(Message("joined"))
        self.say(f"{name} has joined with {examples} examples ({line.peer})")
        return name

    def _serve(self, line: Line, name: str) -> bool:
        """Answer one request; False when there is nothing more to do."""
        ready, _, _ = select.select([line.socket], [], [], SILENT)
        if not ready:
            raise MessageError(f"silent for {SILENT:.0f} s")
        message = line.receive(TIMEOUT)
        if message.type == "want":
            have = message.fields.get("have")
            work = self.coordinator.want(name, PATIENCE)
            if work is not None:
                near = have == work.version - 1 and work.change
                blobs = {"change": work.change} if near else {"weights": work.weights}
                about = {"version": work.version, "turn": work.turn}
                line.send(Message("work", about, dict(work.statistics), blobs=blobs), 60.0)
            elif self.coordinator.done:
                server = self.coordinator.server
                last = server.weights.astype("<f4").tobytes()
                line.send(Message("done", {"version": server.version}, blobs={"weights": last}), 60.0)
                return False
            else:
                line.send(Message("wait"))
        elif message.type == "update":
            reason = ""
            version, loss = message.fields.get("version"), message.fields.get("loss")
            try:
                if (
                    not isinstance(version, int)
                    or not isinstance(loss, int | float)
                    or "change" not in message.blobs
                ):
                    raise Refused("an update has a version, a loss and a change")
                self.coordinator.give(name, version, message.blobs["change"], float(loss))
            except Refused as error:
                reason = str(error)
                self.say(f"{name}: refused: {reason}")
            line.send(Message("taken", {"reason": reason}))
        else:
            raise Refused(f"'{message.type}' is no request of this protocol")
        return True
