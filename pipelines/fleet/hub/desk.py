"""What each robot is to be told, from the registry, looked up again every half second."""

from dataclasses import dataclass
from typing import Any

from hardware.fleet.messages import Offer
from hardware.fleet.signing import Manifest
from pipelines.fleet.registry.records import PolicyRecord, RobotRecord
from pipelines.fleet.registry.registry import Registry


@dataclass(frozen=True)
class Desk:
    """As of one moment. `offers` by robot."""

    robots: dict[str, RobotRecord]
    offers: dict[str, Offer | None]

    @classmethod
    def look(cls, registry: Registry) -> "Desk":
        robots = {robot.name: robot for robot in registry.robots()}
        policies = {policy.digest: policy for policy in registry.policies()}
        stable = registry.aliases().get("stable")
        offers = {}
        for robot in robots.values():
            policy = policies.get(robot.assigned or stable or "")
            offers[robot.name] = None if policy is None else _offer(policy, robot.rule or {}, policies)
        return cls(robots, offers)


def _offer(policy: PolicyRecord, rule: Any, policies: dict[str, PolicyRecord]) -> Offer:
    back = policies.get(rule.get("fallback") or "")
    return Offer(
        Manifest.from_json(policy.manifest),
        policy.signature,
        max_safety_events=rule.get("max_safety_events"),
        max_episodes=rule.get("max_episodes"),
        fallback=None if back is None else Offer(Manifest.from_json(back.manifest), back.signature),
    )
