"""Rollouts on a registry: begins them, and brings every robot's policy up to where the episodes say it is.

`conduct` may be called by anybody at any time, and as often as one likes: the hub does, and so does the command. What
it finds follows from the plan and from the episodes in the order in which they arrived.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.fleet.registry.records import EpisodeRecord, PolicyRecord, RobotRecord, RolloutRecord
from pipelines.fleet.registry.registry import Registry
from pipelines.fleet.rollout.plan import Member, Plan, Rules, make_plan
from pipelines.fleet.rollout.progress import Outcome, Progress
from sim2real.errors import UserError

UNDER_WAY = ("running", "waiting")

RECENT = 3600.0
"""Seconds since when a robot was last heard, for it to be among the first to get a candidate."""

RECORD = 200
"""Episodes of each robot with the stable policy that count as its record, the newest."""


def under_way(registry: Registry) -> RolloutRecord | None:
    """The rollout that has not ended. There is one at most."""
    return next(iter(registry.rollouts(*UNDER_WAY)), None)


def begin(registry: Registry, policy: PolicyRecord, stages: str, rules: Rules, *, by: str) -> RolloutRecord:
    """Plan a rollout of `policy` to all enrolled robots, against what is `stable`, and begin with its canary.

    Raises UserError where there are no robots, another rollout is under way, or the policies do different things.
    """
    if (other := under_way(registry)) is not None:
        raise UserError(
            f"rollout {other.id} of {other.policy[:12]} is under way ({other.state}); wait for its end, or end it with "
            f"`fleet rollout {other.policy[:12]} --abort`"
        )
    robots = registry.robots()
    if not robots:
        raise UserError("no robot is enrolled yet: `sim2real fleet enroll NAME`")
    digest = registry.aliases().get("stable")
    stable = None if digest is None else registry.policy(digest)
    if stable is not None and stable.task != policy.task:
        raise UserError(
            f"the candidate does '{policy.task}', the stable policy '{stable.task}': they cannot be compared"
        )
    number = max((one.id for one in registry.rollouts()), default=0) + 1
    plan = make_plan(
        f"rollout {number} of {policy.digest[:12]}",
        policy.digest,
        "" if stable is None else stable.digest,
        members(robots),
        stages,
        rules,
    )
    before = [] if stable is None else registry.episodes(policy=stable.digest)
    first = registry.last_episode()
    started = registry.start_rollout(
        policy.digest,
        baseline=None if stable is None else stable.digest,
        plan={**plan.to_dict(), "after": first, "record": _record(before)},
        by=by,
    )
    conduct(registry, started, by=by)
    return registry.rollout(started.id)


def members(robots: Iterable[RobotRecord], now: float | None = None) -> list[Member]:
    """Robots as a plan wants them."""
    now = time.time() if now is None else now
    return [
        Member(
            robot.name,
            robot.site,
            robot.firmware,
            robot.camera,
            reachable=robot.last_seen is not None and now - robot.last_seen < RECENT,
        )
        for robot in robots
    ]


def progress_of(registry: Registry, rollout: RolloutRecord) -> Progress:
    """Where a rollout stands by the episodes that have arrived."""
    progress = _begun(rollout)
    _take_in(registry, progress, int(rollout.plan.get("after", 0)))
    return progress


def _begun(rollout: RolloutRecord) -> Progress:
    """A rollout before its first episode."""
    record = {name: (int(won), int(of)) for name, (won, of) in rollout.plan.get("record", {}).items()}
    return Progress(Plan.from_dict(rollout.plan), record)


def _take_in(registry: Registry, progress: Progress, after: int) -> int:
    """Add the episodes that have arrived after that one; returns the newest."""
    plan = progress.plan
    wanted = [digest for digest in (plan.candidate, plan.stable) if digest]
    episodes = [one for digest in wanted for one in registry.episodes(policy=digest, after=after)]
    for one in sorted(episodes, key=lambda episode: episode.id):
        progress.add(Outcome(one.robot, one.policy or "", one.success, one.safety_events))
        after = one.id
    return after


class Conductor:
    """Looks at the rollout under way again and again, and reads only what has arrived since."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._rollout = 0
        self._progress: Progress | None = None
        self._after = 0

    def look(self) -> None:
        """Bring robots up to where the rollout under way stands, if there is one."""
        rollout = under_way(self._registry)
        if rollout is None:
            return
        if rollout.id != self._rollout or self._progress is None:
            self._rollout, self._progress = rollout.id, _begun(rollout)
            self._after = int(rollout.plan.get("after", 0))
        self._after = _take_in(self._registry, self._progress, self._after)
        conduct(self._registry, rollout, self._progress)


def conduct(
    registry: Registry, rollout: RolloutRecord, progress: Progress | None = None, *, by: str = "hub"
) -> Progress:
    """Bring the robots' policies, and what is `stable`, up to where the rollout stands (by default: is found to)."""
    progress = progress_of(registry, rollout) if progress is None else progress
    if reason := rollout.progress.get("aborted"):
        progress.abort(str(reason))
    if rollout.state not in UNDER_WAY:
        return progress
    name = f"rollout {rollout.id}"
    robots = {robot.name: robot for robot in registry.robots()}
    changes: dict[tuple[str | None, str], tuple[list[str], dict[str, Any] | None]] = {}
    for member in progress.plan.robots:
        if (robot := robots.get(member.name)) is None:
            continue
        rule = progress.rule(member.name)
        policy = progress.policy(member.name)
        # Whoever is to run what is stable is told so by its alias, and follows when that moves on.
        wanted = policy if rule is not None else None
        if (robot.assigned, robot.rule) != (wanted, rule):
            changes.setdefault((wanted, repr(rule)), ([], rule))[0].append(member.name)
    if progress.state == "passed" and registry.aliases().get("stable") != progress.plan.candidate:
        registry.set_alias("stable", progress.plan.candidate, by=name)
    for (wanted, _), (names, rule) in changes.items():
        registry.assign(names, wanted, by=name, rule=rule)
    shown = progress.to_dict() | {
        key: value for key, value in rollout.progress.items() if key in ("aborted",)
    }
    if shown != rollout.progress or progress.state != rollout.state:
        what = f"rollout {progress.state}" if progress.state != rollout.state else None
        registry.save_rollout(rollout.id, by=by, state=progress.state, progress=shown, what=what)
    return progress


def abort(registry: Registry, rollout: RolloutRecord, reason: str, *, by: str) -> Progress:
    """End a rollout by hand: every robot goes back to the stable policy."""
    if rollout.state not in UNDER_WAY:
        raise UserError(f"rollout {rollout.id} is over: {rollout.state}")
    kept = registry.save_rollout(
        rollout.id, by=by, progress={**rollout.progress, "aborted": reason}, what="rollout aborted"
    )
    return conduct(registry, kept, by=by)


def _record(episodes: Iterable[EpisodeRecord]) -> dict[str, list[int]]:
    by_robot: dict[str, list[bool]] = {}
    for one in episodes:
        if one.success is not None:
            by_robot.setdefault(one.robot, []).append(one.success)
    return {name: [sum(each[-RECORD:]), len(each[-RECORD:])] for name, each in by_robot.items()}


def summary(rollout: RolloutRecord, progress: Progress) -> dict[str, Any]:
    """The JSON of `sim2real fleet rollout`."""
    return {
        "id": rollout.id,
        "policy": rollout.policy,
        "baseline": rollout.baseline,
        "robots_with_candidate": 0
        if progress.stage is None
        else len(progress.plan.stage_robots(progress.stage)),
        **progress.to_dict(),
    }


def text(answer: Mapping[str, Any]) -> str:
    """For people."""
    sizes = answer["sizes"]
    lines = [
        f"rollout {answer['id']} of {answer['policy'][:12]}: {answer['state']}"
        + (f" ({answer['reason']})" if answer["reason"] else "")
    ]
    for i, size in enumerate(sizes):
        if i >= len(answer["stages"]):
            lines.append(f"  stage {i + 1}: {size} robots, not begun")
            continue
        stage = answer["stages"][i]
        here = " <- now" if answer["stage"] == i else ""
        whole = stage["groups"]["all"]
        both = " against ".join(
            f"{whole[who]['successes']} of {whole[who]['episodes']}" for who in ("candidate", "stable")
        )
        reason = f" ({stage['reason']})" if stage["reason"] else ""
        lines.append(f"  stage {i + 1}: {size} robots, {stage['verdict']}{reason}: {both}{here}")
    if answer["uncovered"] and answer["stage"] is not None:
        lines.append(f"  says nothing yet about {', '.join(answer['uncovered'])}")
    return "\n".join(lines)
