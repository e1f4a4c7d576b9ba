"""The server's side: shared weights by version, updates of clients, what is sent to them, and its checkpoint.

It holds no data of any client and trusts none: an update has the right number of finite weights or is refused, and one
that is many times larger than the others' is cut to their size.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.federated.codecs import CODECS, CodecError, Sender, Weights
from pipelines.federated.settings import Learning
from pipelines.federated.strategies import STRATEGIES, Update
from sim2real.errors import UserError
from sim2real.files import write_bytes

STALEST = 20
"""Versions that an update may be old; beyond it is refused."""

LARGEST = 3.0
"""Times the median of the round's norms: a larger update is cut to it."""

MOST_EXAMPLES = 10_000_000
"""That a client may claim to have learned from."""


class Refused(UserError):
    """An update that is not taken; the reason is for its client."""


@dataclass
class Server:
    """`weights` (P,) float32 are those of `version`; clients may still work on earlier ones, `past` (weights) and
    `sent` (bytes of the message that leads from the version before to it)."""

    learning: Learning
    weights: Weights
    version: int = 0
    sender: Sender = field(init=False)
    past: dict[int, Weights] = field(default_factory=dict)
    sent: dict[int, int] = field(default_factory=dict)
    buffer: list[Update] = field(default_factory=list)
    message: bytes = b""
    """What leads from the version before to the present one."""

    def __post_init__(self) -> None:
        self.sender = Sender(CODECS[self.learning.codec])
        self.past.setdefault(self.version, self.weights)

    def take(self, client: int, version: int, data: bytes, examples: int) -> None:
        """Put a client's message into the buffer. Raises Refused, and nothing has changed then."""
        if version not in self.past:
            raise Refused(
                f"it began with version {version}, which is gone; the present one is {self.version}"
            )
        if not 1 <= examples <= MOST_EXAMPLES:
            raise Refused(f"{examples} examples cannot be")
        base = self.past[version]
        try:
            with np.errstate(all="ignore"):
                change = CODECS[self.learning.codec].decode(data, base) - base
        except CodecError as error:
            raise Refused(str(error)) from None
        if not np.isfinite(change).all():
            raise Refused("it holds weights that are not finite")
        self.buffer.append(Update(client, change, examples, self.version - version))

    def step(self) -> dict[str, Any]:
        """Make a version of the buffered updates; says how many were cut, and the bytes of the message to clients."""
        norms = [float(np.linalg.norm(update.change)) for update in self.buffer]
        limit = LARGEST * float(np.median(norms))
        updates = [
            update if norm <= limit or norm == 0 else
            Update(update.client, update.change * np.float32(limit / norm), update.examples, update.staleness)
            for update, norm in zip(self.buffer, norms)
        ]  # fmt: skip
        aggregated = STRATEGIES[self.learning.strategy].aggregate(updates)
        wanted = self.weights + aggregated
        data = self.sender.encode(wanted, self.weights)
        self.weights = self.sender.codec.decode(data, self.weights)
        self.sender.settle()
        self.message = data
        self.version += 1
        self.past[self.version], self.sent[self.version] = self.weights, len(data)
        for old in [version for version in self.past if version < self.version - STALEST]:
            self.past.pop(old)
            self.sent.pop(old, None)
        self.buffer = []
        return {"cut": sum(norm > limit for norm in norms), "bytes": len(data)}

    def download(self, have: int | None) -> int:
        """Bytes that bring a client from the version it has (None: none) to the present one."""
        whole = 4 * len(self.weights)
        if have is None:
            return whole
        steps = [self.sent.get(version, whole) for version in range(have + 1, self.version + 1)]
        return min(whole, sum(steps))

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a checkpoint needs: plain values, and arrays by name."""
        arrays: dict[str, Any] = {f"past.{version}": weights for version, weights in self.past.items()}
        if self.sender.left is not None:
            arrays["left"] = self.sender.left
        arrays |= {f"buffer.{k}": update.change for k, update in enumerate(self.buffer)}
        return {
            "version": self.version,
            "sent": {str(version): size for version, size in self.sent.items()},
            "buffer": [[u.client, u.examples, u.staleness] for u in self.buffer],
        }, arrays

    @classmethod
    def restored(cls, learning: Learning, plain: Mapping[str, Any], arrays: Mapping[str, Any]) -> "Server":
        """The server that a checkpoint was made of."""
        past = {
            int(name.removeprefix("past.")): value
            for name, value in arrays.items()
            if name.startswith("past.")
        }
        server = cls(learning, past[plain["version"]], plain["version"], past)
        server.sent = {int(version): size for version, size in plain["sent"].items()}
        server.sender.left = arrays.get("left")
        server.buffer = [
            Update(client, arrays[f"buffer.{k}"], examples, staleness)
            for k, (client, examples, staleness) in enumerate(plain["buffer"])
        ]
        return server


def save_state(path: Path, plain: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, plain=np.frombuffer(json.dumps(plain).encode(), np.uint8), **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())


def load_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """(plain values, arrays) of a checkpoint; None where there is none. Raises UserError for a damaged one."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        plain = json.loads(arrays.pop("plain").tobytes())
        if not isinstance(plain, dict):
            raise ValueError("no object")
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a checkpoint ({error}); start again with another --out"
        ) from None
    return plain, arrays
