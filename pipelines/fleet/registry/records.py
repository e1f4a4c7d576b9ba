"""What the registry hands out. Times are seconds since 1970, UTC; durations seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PolicyRecord:
    """A published policy. `digest`: SHA-256 of its file; `manifest` is what `signature` signs."""

    digest: str
    name: str
    size: int
    task: str
    robot: str
    created: float
    publisher: str
    manifest: Mapping[str, Any]
    signature: str
    about: Mapping[str, Any]
    """What the file says of itself."""
    lineage: Mapping[str, Any]
    """Where it comes from: `data`, `space`, `twin`, `training`, `benchmark`, `rollout`, as far as told."""


@dataclass(frozen=True)
class RobotRecord:
    """An enrolled robot. `site`, `firmware` and `camera` are its strata."""

    name: str
    site: str
    fingerprint: str
    """SHA-256 of its certificate, hex."""
    enrolled: float
    state: str
    last_seen: float | None
    policy: str | None
    """What it runs."""
    firmware: str
    camera: str
    details: Mapping[str, Any]
    assigned: str | None
    """What a rollout wants it to run; None: what is `stable`."""
    rule: Mapping[str, Any] | None
    """By what it leaves the assigned policy by itself: see `Registry.assign`."""
    stop: str | None
    """Set: it has been asked to end deployments."""


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode of a robot. `success` is None where nobody could tell; `id` grows with arrival."""

    id: int
    robot: str
    outbox: str
    sequence: int
    policy: str | None
    task: str
    success: bool | None
    judge: str
    seconds: float
    interventions: int
    safety_events: int
    firmware: str
    camera: str
    site: str
    time: float
    received: float
    details: Mapping[str, Any]


@dataclass(frozen=True)
class EventRecord:
    """Something that a robot told besides episodes: `kind` is "state" or "intervention"."""

    id: int
    robot: str
    outbox: str
    sequence: int
    kind: str
    time: float
    received: float
    body: Mapping[str, Any]


@dataclass(frozen=True)
class RolloutRecord:
    """A policy on its way to all robots. `plan` and `progress` are the rollout's own."""

    id: int
    policy: str
    baseline: str | None
    state: str
    created: float
    ended: float | None
    plan: Mapping[str, Any]
    progress: Mapping[str, Any]


@dataclass(frozen=True)
class AuditRecord:
    """Who did what. `hash` covers the entry and the hash of the one before it."""

    id: int
    time: float
    who: str
    what: str
    details: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True)
class Reported:
    """What a robot says of itself with a heartbeat."""

    state: str
    policy: str | None = None
    firmware: str = ""
    camera: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
