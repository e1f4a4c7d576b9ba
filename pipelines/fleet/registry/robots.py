"""Robots of a fleet: who takes part, what each is to run, who is asked to stop."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.fleet.registry import sql, tables
from pipelines.fleet.registry.database import note
from pipelines.fleet.registry.names import check_name
from pipelines.fleet.registry.policies import Policies
from pipelines.fleet.registry.records import Reported, RobotRecord
from sim2real.errors import UserError, nearest
from sim2real.text import printable


class Robots(Policies):
    """The registry's robots."""

    def enroll(
        self,
        name: str,
        *,
        by: str,
        site: str = "",
        fingerprint: str = "",
        strata: Mapping[str, str] | None = None,
    ) -> RobotRecord:
        """Let a robot take part; enrolled again, it has another certificate. `strata`: its firmware and camera."""
        check_name(name, "a robot")
        row = {"site": site, "fingerprint": fingerprint, "enrolled": round(time.time(), 3), **(strata or {})}
        with self.database.write() as connection:
            known = connection.execute(
                sql.select(tables.robots.c.name).where(tables.robots.c.name == name)
            ).first()
            if known is None:
                connection.execute(sql.insert(tables.robots), [{"name": name, **row}])
            else:
                connection.execute(
                    sql.update(tables.robots).where(tables.robots.c.name == name).values(**row)
                )
            note(connection, by, "enroll", {"robot": name, "site": site, "fingerprint": fingerprint})
        return self.robot(name)

    def robots(self) -> list[RobotRecord]:
        """By name."""
        return self._rows(RobotRecord, sql.select(tables.robots).order_by(tables.robots.c.name))

    def robot(self, name: str) -> RobotRecord:
        """Raises UserError for one that is not enrolled."""
        found = self._rows(RobotRecord, sql.select(tables.robots).where(tables.robots.c.name == name))
        if not found:
            known = [robot.name for robot in self.robots()]
            raise UserError(
                f"no robot '{printable(name)}' is enrolled; there are {', '.join(known[:20]) or 'none yet'}"
                f"{nearest(name, known)}"
            )
        return found[0]

    def assign(
        self, names: Iterable[str], digest: str | None, *, by: str, rule: Mapping[str, Any] | None = None
    ) -> None:
        """What robots are to run from their next contact on; None: whatever `stable` is.

        rule: by what a robot leaves this policy by itself, also offline: `fallback` (a digest), `max_safety_events`
        (default 0) and `max_episodes` (that it may run without the hub).
        """
        names = list(names)
        for name in names:
            self.robot(name)
        if digest is not None:
            digest = self.policy(digest).digest
        with self.database.write() as connection:
            connection.execute(
                sql.update(tables.robots)
                .where(tables.robots.c.name.in_(names))
                .values(assigned=digest, rule=None if rule is None else dict(rule))
            )
            note(connection, by, "assign", {"robots": names, "policy": digest, "rule": rule})

    def request_stop(self, names: Iterable[str] | None, *, by: str) -> list[str]:
        """Ask robots (None: all) to end deployments by their supervisors. Returns their names."""
        return self._stop(names, by, "stop", f"{time.time():.3f} {by}"[:64])

    def lift_stop(self, names: Iterable[str] | None, *, by: str) -> list[str]:
        """Ask no more. A robot that has stopped goes on only when a person there says so."""
        return self._stop(names, by, "lift stop", None)

    def _stop(self, names: Iterable[str] | None, by: str, what: str, mark: str | None) -> list[str]:
        chosen = (
            [robot.name for robot in self.robots()] if names is None else [self.robot(n).name for n in names]
        )
        with self.database.write() as connection:
            connection.execute(
                sql.update(tables.robots).where(tables.robots.c.name.in_(chosen)).values(stop=mark)
            )
            note(connection, by, what, {"robots": chosen})
        return chosen

    def seen(self, reports: Mapping[str, tuple[float, Reported]]) -> None:
        """Note heartbeats: (time of arrival, what it said) by robot. Robots that are not enrolled are left out."""
        if not reports:
            return
        rows = [
            {
                "key": name, "last_seen": when, "state": said.state, "policy": said.policy,
                "firmware_": said.firmware, "camera_": said.camera, "details": dict(said.details),
            }
            for name, (when, said) in reports.items()
        ]  # fmt: skip
        told = {
            # A robot that does not tell them leaves what was said at its enrolment.
            column: sql.func.coalesce(
                sql.func.nullif(sql.bindparam(f"{column}_"), ""), tables.robots.c[column]
            )
            for column in ("firmware", "camera")
        }
        changed = sql.update(tables.robots).where(tables.robots.c.name == sql.bindparam("key")).values(**told)
        with self.database.write() as connection:
            connection.execute(changed, rows)
