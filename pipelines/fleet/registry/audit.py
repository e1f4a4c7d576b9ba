"""The audit log: who did what, each entry with the hash of the one before it."""

from collections.abc import Mapping
from typing import Any

from pipelines.fleet.registry import sql, tables
from pipelines.fleet.registry.base import Base
from pipelines.fleet.registry.database import START, entry_hash, note
from pipelines.fleet.registry.records import AuditRecord


class AuditLog(Base):
    """The registry's audit log."""

    def note(self, who: str, what: str, details: Mapping[str, Any]) -> None:
        """Add to the audit log."""
        with self.database.write() as connection:
            note(connection, who, what, details)

    def audit(self, limit: int | None = None) -> list[AuditRecord]:
        """In order; with `limit` the last ones."""
        chosen = sql.select(tables.audit).order_by(tables.audit.c.id.desc())
        rows = self._rows(AuditRecord, chosen if limit is None else chosen.limit(limit))
        return rows[::-1]

    def audit_length(self) -> int:
        """How many entries there are."""
        with self.database.read() as connection:
            return int(
                connection.execute(sql.select(sql.func.count()).select_from(tables.audit)).scalar_one()
            )

    def check_audit(self) -> int | None:
        """The first entry that is not what it was, or lacks the one before it; None: the chain holds."""
        previous, number = START, 0
        with self.database.read() as connection:
            for row in connection.execute(sql.select(tables.audit).order_by(tables.audit.c.id)):
                number += 1
                entry = row._asdict()
                if (
                    entry["id"] != number
                    or entry["previous"] != previous
                    or entry["hash"] != entry_hash(entry)
                ):
                    return number
                previous = entry["hash"]
        return None
