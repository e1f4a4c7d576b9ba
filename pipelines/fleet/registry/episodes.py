"""What robots tell: kept once each, however often it comes."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hardware.fleet.messages import Message
from pipelines.fleet.registry import sql, tables
from pipelines.fleet.registry.records import EpisodeRecord, EventRecord, RobotRecord
from pipelines.fleet.registry.robots import Robots
from sim2real.errors import UserError
from sim2real.text import printable


class Episodes(Robots):
    """The registry's episodes and events."""

    def ingest(
        self,
        batches: Iterable[tuple[str, str, Sequence[Message]]],
        known: Mapping[str, RobotRecord] | None = None,
    ) -> int:
        """Keep (robot, outbox, messages) in one transaction. Returns how many were new: what came before is not
        kept twice. When this returns they are on the disk. `known`: the enrolled robots, where they are known already.

        Raises UserError for a robot that is not enrolled, Sim2RealError as the database does: nothing is kept then.
        """
        robots = {robot.name: robot for robot in self.robots()} if known is None else known
        now = round(time.time(), 3)
        rows: dict[str, list[dict[str, Any]]] = {"episodes": [], "events": []}
        for name, outbox, messages in batches:
            if name not in robots:
                raise UserError(f"no robot '{printable(name)}' is enrolled")
            for one in messages:
                kind, row = _row_of(one, robots[name])
                rows[kind].append({**row, "robot": name, "outbox": outbox, "received": now})
        insert: Any = sql.sqlite.insert if self.database.lite else sql.postgresql.insert
        new = 0
        with self.database.write() as connection:
            for table in (tables.episodes, tables.events):
                if not (many := rows[table.name]):
                    continue
                keys = ("robot", "outbox", "sequence")
                adding = insert(table).on_conflict_do_nothing(index_elements=keys).returning(table.c.id)
                new += len(connection.execute(adding, many).all())
        return new

    def episodes(
        self, *, policy: str | None = None, robot: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[EpisodeRecord]:
        """In the order in which they arrived; `after` an id, `limit` many at most. `policy` is a digest."""
        chosen = (
            sql.select(tables.episodes).where(tables.episodes.c.id > after).order_by(tables.episodes.c.id)
        )
        if policy is not None:
            chosen = chosen.where(tables.episodes.c.policy == policy)
        if robot is not None:
            chosen = chosen.where(tables.episodes.c.robot == robot)
        return self._rows(EpisodeRecord, chosen if limit is None else chosen.limit(limit))

    def episode(self, number: int) -> EpisodeRecord:
        """Raises UserError for one that there is not."""
        chosen = sql.select(tables.episodes).where(tables.episodes.c.id == number)
        if found := self._rows(EpisodeRecord, chosen):
            return found[0]
        raise UserError(f"there is no episode {number}")

    def last_episode(self) -> int:
        """The id of the newest episode, 0 before the first."""
        with self.database.read() as connection:
            return connection.execute(sql.select(sql.func.max(tables.episodes.c.id))).scalar() or 0

    def events(
        self, *, robot: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[EventRecord]:
        """States and interventions, in the order in which they arrived."""
        chosen = sql.select(tables.events).where(tables.events.c.id > after).order_by(tables.events.c.id)
        if robot is not None:
            chosen = chosen.where(tables.events.c.robot == robot)
        return self._rows(EventRecord, chosen if limit is None else chosen.limit(limit))

    def counts(self) -> dict[str, dict[str, tuple[int, int, int, int, int]]]:
        """By "robot" and by "policy", as `counts_by` has them."""
        return {key: self.counts_by(key) for key in ("robot", "policy")}

    def counts_by(self, key: str) -> dict[str, tuple[int, int, int, int, int]]:
        """(episodes, judged, successes, interventions, safety events) of each robot, policy, site, firmware, …"""
        by = tables.episodes.c[key]
        with self.database.read() as connection:
            rows = connection.execute(
                sql.select(
                    by,
                    sql.func.count(),
                    sql.func.count(tables.episodes.c.success),
                    sql.func.count().filter(tables.episodes.c.success.is_(True)),
                    sql.func.sum(tables.episodes.c.interventions),
                    sql.func.sum(tables.episodes.c.safety_events),
                ).group_by(by)
            )
            return {
                row[0]: (row[1], row[2], row[3], int(row[4]), int(row[5]))
                for row in rows
                if row[0] is not None
            }


def _row_of(one: Message, robot: RobotRecord) -> tuple[str, dict[str, Any]]:
    """The table that a message goes to, and its row there."""
    if one.kind != "episode":
        return "events", {
            "sequence": one.sequence, "kind": one.kind, "time": one.time, "body": dict(one.body)
        }  # fmt: skip
    body = dict(one.body)
    row = {
        "sequence": one.sequence,
        "time": one.time,
        "policy": body.pop("policy", None),
        "task": body.pop("task", ""),
        "success": body.pop("success", None),
        "judge": body.pop("judge", ""),
        "seconds": body.pop("seconds"),
        "interventions": body.pop("interventions", 0),
        "safety_events": body.pop("safety_events", 0),
        "firmware": body.pop("firmware", "") or robot.firmware,
        "camera": body.pop("camera", "") or robot.camera,
        # The hub knows where a robot stands; the robot need not say.
        "site": robot.site,
    }
    return "episodes", {**row, "details": body.pop("details", {})}
