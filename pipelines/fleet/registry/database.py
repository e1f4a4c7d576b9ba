"""The fleet's database: SQLite in the store, or PostgreSQL by its URL. Writers take turns; the audit log is a chain."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.fleet.registry import sql, tables
from sim2real.errors import Sim2RealError, UserError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

START = "0" * 64
"""What the first entry of the audit log has before it."""

PATIENCE = 30.0
"""s that a writer waits for another one."""


TURNS = 812331
"""The lock by which writers to PostgreSQL take turns: any number that nobody else uses."""


class Database:
    """Opened at a SQLAlchemy URL; its tables are made where there are none.

    Raises UserError where it cannot be opened.
    """

    def __init__(self, url: str) -> None:
        try:
            self.shown = sql.make_url(url).render_as_string(hide_password=True)
            if url.startswith("postgresql:"):
                url = "postgresql+psycopg" + url.removeprefix("postgresql")
            # A database whose encoding is ASCII would otherwise answer in bytes.
            settings = {"client_encoding": "utf8"} if url.startswith("postgresql+psycopg:") else {}
            self.engine: Engine = sql.create_engine(url, connect_args=settings)
            self.lite = self.engine.dialect.name == "sqlite"
            if self.lite:
                sql.event.listen(self.engine, "connect", _settings)
                sql.event.listen(self.engine, "begin", _begin)
            with self._transaction() as connection:
                tables.META.create_all(connection)
        except (sql.SQLAlchemyError, ImportError) as error:
            raise UserError(f"cannot open the fleet's database {_hidden(url)}: {_said(error)}") from None

    @contextmanager
    def write(self) -> Iterator["Connection"]:
        """A transaction that writes: all of it or nothing. Raises Sim2RealError as the database does."""
        try:
            with self._transaction() as connection:
                yield connection
        except sql.DBAPIError as error:
            raise Sim2RealError(f"the fleet's database {self.shown}: {_said(error)}") from None

    @contextmanager
    def _transaction(self) -> Iterator["Connection"]:
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            if not self.lite:
                connection.execute(sql.text(f"SELECT pg_advisory_xact_lock({TURNS})"))
            yield connection

    @contextmanager
    def read(self) -> Iterator["Connection"]:
        """A transaction that reads. Raises Sim2RealError as the database does."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except sql.DBAPIError as error:
            raise Sim2RealError(f"the fleet's database {self.shown}: {_said(error)}") from None

    def close(self) -> None:
        self.engine.dispose()


def note(connection: "Connection", who: str, what: str, details: Mapping[str, Any]) -> None:
    """Add to the audit log, in the transaction that does what is noted."""
    last = connection.execute(
        sql.select(tables.audit.c.id, tables.audit.c.hash).order_by(tables.audit.c.id.desc()).limit(1)
    ).first()
    number, previous = (1, START) if last is None else (last.id + 1, last.hash)
    row = {
        "id": number,
        "time": round(time.time(), 3),
        "who": who,
        "what": what,
        "details": json.dumps(details, sort_keys=True),
        "previous": previous,
    }
    connection.execute(sql.insert(tables.audit), [{**row, "hash": entry_hash(row)}])


def entry_hash(row: Mapping[str, Any]) -> str:
    """SHA-256 of an entry of the audit log, the hash of the one before it included."""
    keys = ("id", "time", "who", "what", "details", "previous")
    return hashlib.sha256(json.dumps([row[key] for key in keys]).encode()).hexdigest()


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path.absolute()}"


def _settings(connection: Any, record: object) -> None:
    # Transactions are begun by `_begin`, not by the driver.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={int(PATIENCE * 1000)}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: "Connection") -> None:
    # A reader that wants to become a writer later would fail when another one has written meanwhile.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _said(error: Exception) -> str:
    """What a database or its driver says, in one line."""
    text = str(getattr(error, "orig", None) or error)
    return " ".join(text.split())


def _hidden(url: str) -> str:
    try:
        return sql.make_url(url).render_as_string(hide_password=True)
    except sql.ArgumentError:
        return "(its URL is none)"
