"""Rollouts, as far as the registry keeps them: what they plan and where they stand is theirs."""

import time
from collections.abc import Mapping
from typing import Any

from pipelines.fleet.registry import sql, tables
from pipelines.fleet.registry.database import note
from pipelines.fleet.registry.policies import Policies
from pipelines.fleet.registry.records import RolloutRecord
from sim2real.errors import UserError


class Rollouts(Policies):
    """The registry's rollouts."""

    def start_rollout(
        self, policy: str, *, baseline: str | None, plan: Mapping[str, Any], by: str, state: str = "running"
    ) -> RolloutRecord:
        """Begin one: `plan` is its own, `progress` empty."""
        digest = self.policy(policy).digest
        base = None if baseline is None else self.policy(baseline).digest
        row = {
            "policy": digest, "baseline": base, "state": state, "created": round(time.time(), 3),
            "plan": dict(plan), "progress": {},
        }  # fmt: skip
        with self.database.write() as connection:
            number = connection.execute(sql.insert(tables.rollouts).values(**row)).inserted_primary_key
            assert number is not None
            note(connection, by, "rollout", {"rollout": number[0], "policy": digest, "baseline": base})
        return self.rollout(int(number[0]))

    def save_rollout(
        self,
        number: int,
        *,
        by: str,
        state: str | None = None,
        progress: Mapping[str, Any] | None = None,
        what: str | None = None,
    ) -> RolloutRecord:
        """Keep where a rollout stands. `state` other than "running", "waiting" ends it. `what` is noted in the audit
        log, as is a change of state."""
        before = self.rollout(number)
        changes: dict[str, Any] = {}
        if progress is not None:
            changes["progress"] = dict(progress)
        if state is not None:
            changes |= {"state": state}
            changes |= {"ended": None if state in ("running", "waiting") else round(time.time(), 3)}
        with self.database.write() as connection:
            if changes:
                connection.execute(
                    sql.update(tables.rollouts).where(tables.rollouts.c.id == number).values(**changes)
                )
            if what is not None or (state is not None and state != before.state):
                note(connection, by, what or f"rollout {state}", {"rollout": number, "policy": before.policy})
        return self.rollout(number)

    def rollouts(self, *states: str) -> list[RolloutRecord]:
        """Those in one of the states, or all; the newest first."""
        chosen = sql.select(tables.rollouts).order_by(tables.rollouts.c.id.desc())
        return self._rows(
            RolloutRecord, chosen.where(tables.rollouts.c.state.in_(states)) if states else chosen
        )

    def rollout(self, number: int) -> RolloutRecord:
        """Raises UserError for one that there is not."""
        found = self._rows(RolloutRecord, sql.select(tables.rollouts).where(tables.rollouts.c.id == number))
        if not found:
            raise UserError(f"there is no rollout {number}")
        return found[0]
