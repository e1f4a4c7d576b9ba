"""What every part of the registry stands on: the store's database and files, and how rows become records."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pipelines.fleet.registry.database import Database
from pipelines.fleet.registry.objects import Objects
from pipelines.fleet.registry.records import AuditRecord

Record = TypeVar("Record")


class Base:
    """A store that is open."""

    def __init__(self, store: Path, database: Database, objects: Objects) -> None:
        self.store = store
        self.database = database
        self.objects = objects

    def _rows(self, kind: type[Record], chosen: Any) -> list[Record]:
        with self.database.read() as connection:
            return [made(kind, row) for row in connection.execute(chosen)]


def made(kind: type[Record], row: Any) -> Record:
    """A row as a record."""
    values = row._asdict()
    if kind is AuditRecord:
        values["details"] = json.loads(values["details"])
    return kind(**values)
