"""A fleet at a glance: the JSON of `sim2real fleet status`, and its words."""

import time
from collections.abc import Mapping
from typing import Any

from pipelines.fleet.registry.registry import Registry
from sim2real.statistics import wilson_interval
from sim2real.text import printable

OFFLINE_AFTER = 10.0
"""s without a heartbeat after which a robot is called offline."""


def status(registry: Registry, now: float | None = None, check: bool = True) -> dict[str, Any]:
    """`robots`, `policies`, `aliases`, `rollouts`, `episodes`, `audit`. check: whether the audit log is read whole."""
    now = time.time() if now is None else now
    aliases = registry.aliases()
    counts = registry.counts()
    robots = []
    for robot in registry.robots():
        age = None if robot.last_seen is None else max(0.0, now - robot.last_seen)
        online = age is not None and age < OFFLINE_AFTER and robot.state != "offline"
        robots.append(
            {
                "name": robot.name,
                "site": robot.site,
                "firmware": robot.firmware,
                "camera": robot.camera,
                "state": robot.state if online or age is None else "offline",
                "online": online,
                "last_seen_s": None if age is None else round(age, 1),
                "policy": robot.policy,
                "wanted": robot.assigned or aliases.get("stable"),
                "stop": robot.stop is not None,
                "details": dict(robot.details),
                **_counted(counts["robot"].get(robot.name)),
            }
        )
    policies = [
        {
            "digest": policy.digest,
            "name": policy.name,
            "task": policy.task,
            "robot": policy.robot,
            "aliases": [alias for alias, digest in aliases.items() if digest == policy.digest],
            "created": policy.created,
            "publisher": policy.publisher,
            **_counted(counts["policy"].get(policy.digest)),
        }
        for policy in registry.policies()
    ]
    rollouts = [
        {
            "id": one.id, "policy": one.policy, "baseline": one.baseline, "state": one.state,
            "created": one.created, "ended": one.ended,
        }
        for one in registry.rollouts()
    ]  # fmt: skip
    return {
        "robots": robots,
        "policies": policies,
        "aliases": aliases,
        "rollouts": rollouts,
        "episodes": sum(row[0] for row in counts["robot"].values()),
        "audit": {
            "entries": registry.audit_length(),
            "broken_at": registry.check_audit() if check else None,
        },
    }


def text(answer: Mapping[str, Any]) -> str:
    """For people."""
    names = {policy["digest"]: policy["name"] for policy in answer["policies"]}

    def called(digest: str | None) -> str:
        return "none" if digest is None else f"{printable(names.get(digest, '?'))} {digest[:8]}"

    online = sum(robot["online"] for robot in answer["robots"])
    lines = [f"{len(answer['robots'])} robots, {online} online; {answer['episodes']} episodes"]
    for robot in answer["robots"]:
        seen = "never seen" if robot["last_seen_s"] is None else f"seen {_ago(robot['last_seen_s'])} ago"
        other = robot["wanted"] is not None and robot["wanted"] != robot["policy"]
        lines.append(
            f"  {robot['name']:16} {printable(robot['state'], 20):12} {called(robot['policy'])}"
            + (f" (to be {called(robot['wanted'])})" if other else "")
            + f"  {_success(robot)}  {seen}"
            + ("  asked to stop" if robot["stop"] else "")
        )
    lines.append(f"{len(answer['policies'])} policies")
    for policy in answer["policies"]:
        lines.append(
            f"  {policy['digest'][:12]}  {printable(policy['name'])}: {policy['task']} on {policy['robot']}  "
            f"{_success(policy)}" + "".join(f"  [{alias}]" for alias in policy["aliases"])
        )
    for rollout in answer["rollouts"]:
        lines.append(f"  rollout {rollout['id']}: {called(rollout['policy'])}, {rollout['state']}")
    broken = answer["audit"]["broken_at"]
    if broken is None:
        lines.append(f"audit log: {answer['audit']['entries']} entries, whole")
    else:
        lines.append(
            f"audit log: NOT WHOLE: entry {broken} is not what was written, or one before it is missing"
        )
    return "\n".join(lines)


def _counted(row: tuple[int, int, int, int, int] | None) -> dict[str, Any]:
    episodes, judged, successes, interventions, safety = row or (0, 0, 0, 0, 0)
    return {
        "episodes": episodes,
        "successes": successes,
        "judged": judged,
        "success_rate": successes / judged if judged else None,
        "wilson_95": list(wilson_interval(successes, judged)),
        "interventions": interventions,
        "safety_events": safety,
    }


def _success(row: Mapping[str, Any]) -> str:
    if not row["judged"]:
        return f"{row['episodes']} episodes"
    low, high = row["wilson_95"]
    return f"{row['successes']} of {row['judged']} ({low:.0%} to {high:.0%})"


def _ago(seconds: float) -> str:
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
