"""Policies of a fleet, and what they are called."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardware.fleet.signing import Manifest, Signer
from pipelines.fleet.registry import sql, tables
from pipelines.fleet.registry.base import Base, made
from pipelines.fleet.registry.database import note
from pipelines.fleet.registry.names import check_name
from pipelines.fleet.registry.records import PolicyRecord
from sim2real.errors import UserError, nearest
from sim2real.text import printable

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

LINEAGE = ("data", "space", "twin", "training", "benchmark", "rollout")


class Policies(Base):
    """The registry's policies and aliases."""

    def publish(
        self,
        path: str | Path,
        *,
        by: str,
        alias: str | None = None,
        name: str | None = None,
        lineage: Mapping[str, Any] | None = None,
        key: str | Path | None = None,
    ) -> PolicyRecord:
        """Keep, sign and list a policy file. Publishing a file again changes its alias alone.

        lineage: any of `LINEAGE`; "training" is taken from the file where it is not told. key: the publisher's private
        key (PEM, ed25519) instead of the store's own.

        Raises UserError for a file that is no policy, or whose task does not ship with sim2real.
        """
        from sim2real.policies.file import FilePolicy, load_policy_file
        from sim2real.tasks.registry import name_from_outside, split

        path = Path(path)
        unknown = sorted(set(lineage or ()) - set(LINEAGE))
        if unknown:
            raise UserError(
                f"a lineage has no '{printable(unknown[0])}'; it has {', '.join(LINEAGE)}{nearest(unknown[0], LINEAGE)}"
            )
        if alias is not None:
            check_name(alias, "an alias")
        if not path.is_file():
            load_policy_file(path)
        content = path.read_bytes()
        info = FilePolicy(content, str(path)).info
        name_from_outside(split(info.task)[0], f"the policy {path}")
        signer = Signer.at(self.publisher_key if key is None else Path(key), create=key is None)
        manifest = Manifest(
            digest=hashlib.sha256(content).hexdigest(),
            size=len(content),
            task=info.task,
            robot=info.robot,
            name=name or path.parent.name or path.stem,
            created=round(time.time(), 3),
        )
        self.objects.put(content)
        traced = {key: None for key in LINEAGE} | {"training": dict(info.provenance)} | dict(lineage or {})
        row = {
            "digest": manifest.digest,
            "name": manifest.name,
            "size": manifest.size,
            "task": info.task,
            "robot": info.robot,
            "created": manifest.created,
            "publisher": by,
            "manifest": manifest.to_json(),
            "signature": signer.sign(manifest),
            "about": json.loads(info.to_json()),
            "lineage": traced,
        }
        with self.database.write() as connection:
            known = connection.execute(
                sql.select(tables.policies.c.digest).where(tables.policies.c.digest == manifest.digest)
            ).first()
            if known is None:
                connection.execute(sql.insert(tables.policies), [row])
                note(
                    connection,
                    by,
                    "publish",
                    {"digest": manifest.digest, "name": manifest.name, "task": info.task},
                )
            if alias is not None:
                _alias(connection, alias, manifest.digest, by)
        return self.policy(manifest.digest)

    @property
    def publisher_key(self) -> Path:
        """The store's own signing key; who wants it elsewhere gives `publish` another."""
        return self.store / "keys" / "publisher.pem"

    def policy(self, reference: str) -> PolicyRecord:
        """By alias, digest or the beginning of one that no other has. Raises UserError that says what there is."""
        with self.database.read() as connection:
            named = connection.execute(
                sql.select(tables.aliases.c.digest).where(tables.aliases.c.name == reference)
            ).first()
            start = reference if named is None else named.digest
            found: Sequence[Any] = ()
            if len(start) >= 4 and not set(start) - set("0123456789abcdef"):
                rows = sql.select(tables.policies).where(tables.policies.c.digest.startswith(start)).limit(2)
                found = connection.execute(rows).all()
            if len(found) == 1:
                return made(PolicyRecord, found[0])
            known = [
                row.name
                for row in connection.execute(
                    sql.select(tables.aliases.c.name).order_by(tables.aliases.c.name)
                )
            ]
        if found:
            raise UserError(f"several policies begin with '{reference}'; give more of the digest")
        raise UserError(
            f"there is no policy '{printable(reference)}': give an alias ({', '.join(known) or 'there is none yet'}) "
            f"or a digest, as `fleet status` lists them{nearest(reference, known)}"
        )

    def content(self, digest: str) -> bytes:
        """A policy's file. Raises Sim2RealError when it is missing or damaged."""
        return self.objects.get(digest)

    def policies(self) -> list[PolicyRecord]:
        """All of them, the newest first."""
        return self._rows(
            PolicyRecord, sql.select(tables.policies).order_by(tables.policies.c.created.desc())
        )

    def set_alias(self, alias: str, digest: str, *, by: str) -> None:
        """Let `alias` mean another policy. Raises UserError for a policy that there is not."""
        digest = self.policy(digest).digest
        check_name(alias, "an alias")
        with self.database.write() as connection:
            _alias(connection, alias, digest, by)

    def aliases(self) -> dict[str, str]:
        """Digest by alias."""
        with self.database.read() as connection:
            return {
                row.name: row.digest
                for row in connection.execute(sql.select(tables.aliases).order_by(tables.aliases.c.name))
            }


def _alias(connection: "Connection", alias: str, digest: str, by: str) -> None:
    before = connection.execute(
        sql.select(tables.aliases.c.digest).where(tables.aliases.c.name == alias)
    ).first()
    if before is not None and before.digest == digest:
        return
    row = {"digest": digest, "since": round(time.time(), 3)}
    if before is None:
        connection.execute(sql.insert(tables.aliases), [{"name": alias, **row}])
    else:
        connection.execute(sql.update(tables.aliases).where(tables.aliases.c.name == alias).values(**row))
    note(connection, by, "alias", {"alias": alias, "digest": digest, "before": before and before.digest})
