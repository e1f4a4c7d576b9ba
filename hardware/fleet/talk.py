"""A robot's end of the link: it asks, and waits for an answer no longer than a few seconds."""

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

from hardware.fleet.link import Endpoint, key, open_robot
from hardware.fleet.messages import PIECE, Answer, Batch, Refused, Request
from hardware.fleet.signing import Manifest
from sim2real.errors import Sim2RealError

TIMEOUT = 4.0
"""s that an answer may take."""


KNOCK = 1.5
"""s that finding out why there is no answer may take."""


class NoAnswer(Sim2RealError):
    """The hub cannot be reached now, which is no failure."""


class Talk:
    """Connects to a hub in the background, as often as it takes."""

    def __init__(self, name: str, hub: Endpoint, tls: tuple[Path, Path, Path] | None) -> None:
        self.name = name
        self._session: Any = None
        self._token: Any = None
        self._hub, self._tls = hub, tls
        self._problem = ""
        # Opening a session waits until there is a hub.
        threading.Thread(target=self._connect, args=(hub, tls), daemon=True, name="fleet link").start()

    def _connect(self, hub: Endpoint, tls: tuple[Path, Path, Path] | None) -> None:
        try:
            session = open_robot(hub, tls)
            self._token = session.liveliness().declare_token(key(self.name, "alive"))
            self._session = session
        except Exception as error:
            # Whatever it was, the agent goes on without a hub, and says so.
            self._problem = str(error)

    def ask(self, batch: Batch) -> Answer:
        """Raises NoAnswer without a hub, Refused for an answer that is none."""
        return Answer.decode(self._get("in", batch.encode()))

    def fetch(self, manifest: Manifest) -> bytes:
        """A policy's file, piece by piece. Raises NoAnswer; what came is for the caller to check."""
        content = bytearray()
        while len(content) < manifest.size:
            piece = self._get("policy", Request(manifest.digest, len(content)).encode())
            if not piece or len(piece) > PIECE:
                raise NoAnswer(f"the hub has no policy {manifest.digest[:12]} for us")
            content += piece
        return bytes(content)

    def _get(self, part: str, payload: bytes) -> bytes:
        if self._session is None:
            raise NoAnswer(self._problem or f"the hub at {self._hub} has not been reached yet")
        try:
            for reply in self._session.get(key(self.name, part), payload=payload, timeout=TIMEOUT):
                if reply.ok is not None:
                    return bytes(reply.ok.payload)
                raise NoAnswer("the hub did not answer in time")
        except (NoAnswer, Refused):
            raise
        except Exception as error:
            raise NoAnswer(f"the link failed: {error}") from None
        raise NoAnswer("the hub is not there, or does not know this robot")

    def reason(self) -> str:
        """Why the hub cannot be reached, found out by knocking once; "" where it can."""
        if self._problem:
            return self._problem
        try:
            with socket.create_connection((self._hub.host, self._hub.port), KNOCK) as plain:
                if self._tls is None:
                    return ""
                authority, certificate, secret = self._tls
                context = ssl.create_default_context(cafile=str(authority))
                context.load_cert_chain(certificate, secret)
                with context.wrap_socket(plain, server_hostname=self._hub.host) as wrapped:
                    wrapped.settimeout(KNOCK)
                    # Whether our certificate is taken is only told with what comes first.
                    wrapped.recv(1)
        except TimeoutError:
            return ""
        except ssl.SSLCertVerificationError as error:
            return f"the hub's certificate is refused: {error.verify_message}"
        except ssl.SSLError as error:
            return (
                f"the hub refuses our certificate: {(error.reason or str(error)).lower().replace('_', ' ')}"
            )
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def close(self) -> None:
        """Say that we leave."""
        if self._session is not None:
            self._token.undeclare()
            self._session.close()
