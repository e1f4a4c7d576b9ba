"""What Prometheus reads of a fleet. Every reading is looked up in the registry when it is asked for."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipelines.fleet.registry.registry import Registry
from pipelines.fleet.status import status
from sim2real.errors import UserError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

SHORT = 12
"""Characters of a digest in a label."""


def collector(registry: Registry) -> "CollectorRegistry":
    """A collector registry of our own, so that nothing else of the process is told.

    Raises UserError where prometheus_client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
    except ImportError:
        raise UserError(
            "/metrics needs prometheus_client, which is not installed: pip install 'sim2real-transfer[fleet]'"
        ) from None
    found = CollectorRegistry(auto_describe=False)
    found.register(_Fleet(registry))  # type: ignore[arg-type]
    return found


def exposition(found: "CollectorRegistry") -> tuple[str, bytes]:
    """(content type, text) for Prometheus."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return CONTENT_TYPE_LATEST, generate_latest(found)


class _Fleet:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        start = time.perf_counter()
        answer = status(self._registry, check=False)

        def gauge(name: str, about: str, labels: tuple[str, ...] = ()) -> Any:
            return GaugeMetricFamily(f"sim2real_fleet_{name}", about, labels=labels)

        def counter(name: str, about: str, labels: tuple[str, ...]) -> Any:
            return CounterMetricFamily(f"sim2real_fleet_{name}", about, labels=labels)

        states = gauge("robots", "robots by site and state", ("site", "state"))
        counts: dict[tuple[str, str], int] = {}
        for robot in answer["robots"]:
            where = robot["site"], robot["state"]
            counts[where] = counts.get(where, 0) + 1
        for where, count in counts.items():
            states.add_metric(list(where), count)
        yield states
        online = gauge("robot_online", "1 while a robot is heard", ("robot", "site"))
        seen = gauge("robot_silence_seconds", "since a robot was last heard", ("robot", "site"))
        for robot in answer["robots"]:
            labels = [robot["name"], robot["site"]]
            online.add_metric(labels, float(robot["online"]))
            if robot["last_seen_s"] is not None:
                seen.add_metric(labels, robot["last_seen_s"])
        yield from (online, seen)
        for key, rows, label in (
            ("robot", answer["robots"], lambda row: [row["name"], row["site"]]),
            ("policy", answer["policies"], lambda row: [row["digest"][:SHORT], row["name"]]),
        ):
            names = ("robot", "site") if key == "robot" else ("policy", "name")
            families = {
                "episodes": counter(f"{key}_episodes", f"episodes by {key}", names),
                "judged": counter(f"{key}_judged_episodes", f"episodes that were judged, by {key}", names),
                "successes": counter(f"{key}_successes", f"episodes that succeeded, by {key}", names),
                "interventions": counter(f"{key}_interventions", f"interventions by {key}", names),
                "safety_events": counter(f"{key}_safety_events", f"safety events by {key}", names),
            }
            for row in rows:
                for column, family in families.items():
                    family.add_metric(label(row), row[column])
            yield from families.values()
        under_way = gauge(
            "rollout_evidence", "of the stage under way; 1 is decided", ("rollout", "policy", "claim")
        )
        stage = gauge("rollout_stage", "stage under way, from 1; 0 when over", ("rollout", "policy", "state"))
        for row in answer["rollouts"][:5]:
            record = self._registry.rollout(row["id"])
            which = [str(record.id), record.policy[:SHORT]]
            index = record.progress.get("stage")
            stage.add_metric([*which, record.state], 0 if index is None else index + 1)
            curve = record.progress["stages"][-1]["curve"] if record.progress.get("stages") else []
            if index is not None and curve:
                under_way.add_metric([*which, "not worse"], curve[-1][1])
                under_way.add_metric([*which, "worse"], curve[-1][2])
        yield from (stage, under_way)
        took = gauge("collect_seconds", "that it took to look this up")
        took.add_metric([], time.perf_counter() - start)
        yield took
