"""The registry of a fleet: the one interface to its store and its database.

    with Registry.open("fleet") as registry:
        policy = registry.publish("policy.onnx", by="ann", alias="candidate", lineage={"training": "runs/p"})
        registry.enroll("a1", by="ann", site="hall 2")
        registry.assign(["a1"], policy.digest, by="rollout 1", rule={"fallback": stable.digest})
        registry.episodes(policy=policy.digest)

Every change is noted in the audit log in the same transaction. Several processes may use one store at a time.
"""

import json
from pathlib import Path
from typing import Any

from pipelines.fleet.registry.audit import AuditLog
from pipelines.fleet.registry.database import Database, sqlite_url
from pipelines.fleet.registry.episodes import Episodes
from pipelines.fleet.registry.objects import Objects
from pipelines.fleet.registry.rollouts import Rollouts
from sim2real.errors import UserError
from sim2real.files import read_json, write_bytes


class Registry(Episodes, Rollouts, AuditLog):
    """Open one with `Registry.open`; it is a context manager."""

    @classmethod
    def open(
        cls, store: str | Path, database: str | None = None, objects: str | None = None, create: bool = False
    ) -> "Registry":
        """The registry in the folder `store`, made there with `create`.

        database: a SQLAlchemy URL instead of STORE/fleet.db; objects: a place for files that fsspec knows instead of
        STORE/objects. Both are remembered in STORE/fleet.json, and need be named once only.

        Raises UserError where there is none, or the database cannot be opened.
        """
        store = Path(store)
        settings = store / "fleet.json"
        if not settings.exists():
            if not create:
                raise UserError(
                    f"{store} is no fleet's store; `sim2real fleet publish` and `fleet enroll` make one"
                )
            if store.exists() and (not store.is_dir() or any(store.iterdir())):
                raise UserError(f"{store} exists and is no fleet's store; name a new folder with --store DIR")
        before = _settings_of(settings)
        database = database or before.get("database")
        objects = objects or before.get("objects")
        try:
            store.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UserError(f"cannot make the store {store}: {error}") from None
        opened = Database(database or sqlite_url(store / "fleet.db"))
        now = {"database": database, "objects": objects}
        if now != before:
            # A database's URL may hold a password.
            write_bytes(settings, (json.dumps(now, indent=2) + "\n").encode())
            settings.chmod(0o600)
        return cls(store, opened, Objects(objects or store / "objects"))

    def __enter__(self) -> "Registry":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.database.close()


def _settings_of(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    return read_json(path)
