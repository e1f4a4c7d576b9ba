"""What a robot has still to tell, on its disk: numbered, bounded, and gone only when the hub says that it has it."""

import json
import secrets
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hardware.fleet.messages import KINDS, LARGEST, Message, check_message
from sim2real.errors import Sim2RealError, UserError

QUOTA = 64 << 20
"""Bytes of messages that are kept by default."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, rank INTEGER NOT NULL, time REAL NOT NULL,
    body TEXT NOT NULL, size INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_rank ON outbox (rank, sequence);
CREATE TABLE IF NOT EXISTS refused (sequence INTEGER PRIMARY KEY, kind TEXT, time REAL, body TEXT, reason TEXT);
CREATE TABLE IF NOT EXISTS runs (folder TEXT PRIMARY KEY, taken REAL NOT NULL);
"""


class OutboxFull(Sim2RealError):
    """Nothing unimportant is left to drop; what comes must wait on the disk where it is."""


class Outbox:
    """In the file at `path`. `quota`: bytes of messages. One process at a time.

    Raises UserError for a file that is no outbox, or where it cannot be written.
    """

    def __init__(self, path: Path, quota: int = QUOTA) -> None:
        self.quota = quota
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, isolation_level=None, timeout=10.0)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")
            self._base.executescript(_SCHEMA)
            self._base.execute("INSERT OR IGNORE INTO about VALUES ('name', ?)", (secrets.token_hex(8),))
            self.name: str = self._base.execute("SELECT value FROM about WHERE key = 'name'").fetchone()[0]
            """Numbers mean something only together with it."""
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"cannot open the outbox {path}: {error}") from None
        self.size: int = self._base.execute("SELECT coalesce(sum(size), 0) FROM outbox").fetchone()[0]
        """Bytes of messages in it."""

    def close(self) -> None:
        self._base.close()

    def add(self, kind: str, body: Mapping[str, Any], when: float | None = None) -> None:
        """Keep one message. Raises Refused for what the hub would not take, OutboxFull, Sim2RealError as the disk."""
        self.add_all([(kind, body, time.time() if when is None else when)])

    def add_all(
        self, messages: Iterable[tuple[str, Mapping[str, Any], float]], run: str | None = None
    ) -> None:
        """Keep (kind, body, time) all or none; `run` is noted as told in the same transaction."""
        checked = [check_message(Message(1, kind, when, body)) for kind, body, when in messages]
        rows = [
            (one.kind, KINDS.index(one.kind), one.time, text, len(text) + 64)
            for one in checked
            for text in [json.dumps(one.body)]
        ]
        new = sum(row[-1] for row in rows)
        with self._transaction():
            freed = self._make_room(new, min((row[1] for row in rows), default=0))
            self._base.executemany(
                "INSERT INTO outbox (kind, rank, time, body, size) VALUES (?, ?, ?, ?, ?)", rows
            )
            if run is not None:
                self._base.execute("INSERT INTO runs VALUES (?, ?)", (run, time.time()))
        self.size += new - freed

    def _make_room(self, needed: int, rank: int) -> int:
        """Drop the oldest of what is less important than `rank`, or states as old; the bytes freed."""
        freed = 0
        while self.size - freed + needed > self.quota:
            row = self._base.execute(
                "SELECT sequence, size FROM outbox WHERE rank > 0 AND rank >= ? ORDER BY rank DESC, sequence LIMIT 1",
                (rank,),
            ).fetchone()
            if row is None:
                raise OutboxFull(
                    f"the outbox {self.path} is full ({self.quota} bytes) of what must not be dropped"
                )
            self._base.execute("DELETE FROM outbox WHERE sequence = ?", row[:1])
            freed += row[1]
        return freed

    def next(self, many: int, after: int = 0) -> tuple[Message, ...]:
        """The oldest `many` messages after the number `after` that fit one batch."""
        rows = self._base.execute(
            "SELECT sequence, kind, time, body, size FROM outbox WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, many),
        ).fetchall()
        chosen: list[Message] = []
        size = 0
        for sequence, kind, when, body, length in rows:
            size += length + 64
            if size > LARGEST // 2 and chosen:
                break
            chosen.append(Message(sequence, kind, when, json.loads(body)))
        return tuple(chosen)

    def acknowledge(self, sequence: int) -> None:
        """The hub has everything up to this number."""
        with self._transaction():
            (freed,) = self._base.execute(
                "SELECT coalesce(sum(size), 0) FROM outbox WHERE sequence <= ?", (sequence,)
            ).fetchone()
            self._base.execute("DELETE FROM outbox WHERE sequence <= ?", (sequence,))
        self.size -= freed

    def put_aside(self, sequence: int, reason: str) -> None:
        """Keep a message that the hub will never take, but ask no more."""
        with self._transaction():
            self._base.execute(
                "INSERT OR IGNORE INTO refused SELECT sequence, kind, time, body, ? FROM outbox WHERE sequence = ?",
                (reason, sequence),
            )
            self._base.execute("DELETE FROM outbox WHERE sequence = ?", (sequence,))
        self.size = self._base.execute("SELECT coalesce(sum(size), 0) FROM outbox").fetchone()[0]

    def __len__(self) -> int:
        return int(self._base.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def told(self, run: str) -> bool:
        """Whether the episodes of a run's folder have been taken in."""
        return self._base.execute("SELECT 1 FROM runs WHERE folder = ?", (run,)).fetchone() is not None

    @contextmanager
    def _transaction(self) -> Any:
        try:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise Sim2RealError(f"the outbox {self.path}: {error}") from None
