"""The link between hub and robots: zenoh, closed by default.

Nothing is scouted for. A hub listens where it is told: on loopback as plain TCP, anywhere by mutual TLS, where a robot
proves its name by its certificate and reaches the keys `fleet/NAME/…` alone. Every message is a question of the robot's
that the hub answers; the hub never asks, nor pushes.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware.fleet.extra import extra
from sim2real.errors import Sim2RealError, UserError
from sim2real.text import printable

DEFAULT = "tls/127.0.0.1:7447"
"""Where a hub listens and is looked for unless told otherwise: on this computer alone."""

LONGEST = 4 << 20
"""Bytes of the longest message that is received at all, whoever sends it."""

LEASE = 4.0
"""s without a sign of life after which a link counts as cut."""

RETRY = {"period_init_ms": 200, "period_max_ms": 2000, "period_increase_factor": 2}

MESSAGES = (
    "put", "delete", "declare_subscriber", "liveliness_token", "declare_liveliness_subscriber", "liveliness_query",
    "query", "reply", "declare_queryable",
)  # fmt: skip


@dataclass(frozen=True)
class Endpoint:
    """Where a hub listens: `scheme` "tcp" or "tls"."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """From "tls/HOST:PORT". Raises UserError for anything else, and for TCP beyond loopback."""
        found = re.fullmatch(r"(tcp|tls)/(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):(\d{1,5})", text)
        if not found or not 0 < int(found[3]) < 65536:
            raise UserError(f"'{printable(text)}' is no endpoint; write tls/HOST:PORT, or tcp/127.0.0.1:PORT")
        endpoint = cls(found[1], found[2].strip("[]"), int(found[3]))
        if endpoint.scheme == "tcp" and not endpoint.loopback:
            raise UserError(
                f"tcp/{endpoint.host} is open to whoever reaches it; beyond this computer a fleet speaks tls/ alone"
            )
        return endpoint

    @property
    def loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}/{host}:{self.port}"


def key(robot: str, part: str) -> str:
    """The key of what a robot asks: `part` is "in", "policy" or "alive"."""
    return f"fleet/{robot}/{part}"


def open_hub(listen: Iterable[Endpoint], tls: tuple[Path, Path, Path] | None, robots: Iterable[str]) -> Any:
    """A zenoh session that listens; `tls` are the authority's and the hub's certificate and the hub's key.

    `robots` may reach their own keys, where there is TLS. Raises Sim2RealError where it cannot listen.
    """
    settings = _closed() | {"mode": "peer", "listen/endpoints": [str(endpoint) for endpoint in listen]}
    if tls is not None:
        authority, certificate, secret = map(str, tls)
        settings["transport/link/tls"] = {
            "root_ca_certificate": authority,
            "listen_certificate": certificate,
            "listen_private_key": secret,
            "enable_mtls": True,
            "close_link_on_expiration": True,
        }
        settings["access_control"] = _access(list(robots))
    return _open(settings, "listen on " + ", ".join(map(str, listen)))


def open_robot(hub: Endpoint, tls: tuple[Path, Path, Path] | None) -> Any:
    """A zenoh session that connects to a hub, now or whenever there is one; `tls` as for `open_hub`, the robot's."""
    settings = _closed() | {
        "mode": "client",
        "connect/endpoints": [str(hub)],
        "connect/timeout_ms": -1,
        "connect/exit_on_failure": False,
        "connect/retry": RETRY,
    }
    if tls is not None:
        authority, certificate, secret = map(str, tls)
        settings["transport/link/tls"] = {
            "root_ca_certificate": authority,
            "connect_certificate": certificate,
            "connect_private_key": secret,
            "enable_mtls": True,
            "verify_name_on_connect": True,
        }
    return _open(settings, f"connect to {hub}")


def direct(callback: Callable[[Any], object]) -> Any:
    """A callback that zenoh calls in its own thread, instead of one thread for each callback."""
    return extra("zenoh.handlers", "eclipse-zenoh").Callback(callback, indirect=False)


def log_refusals() -> None:
    """Let zenoh say on standard output which certificates were refused, and why."""
    extra("zenoh", "eclipse-zenoh").init_log_from_env_or("zenoh_link_tls=warn")


def _closed() -> dict[str, Any]:
    return {
        "scouting/multicast/enabled": False,
        "scouting/gossip/enabled": False,
        "listen/endpoints": [],
        "transport/link/tx/lease": int(LEASE * 1000),
        # Memory that other processes of this computer could read.
        "transport/shared_memory/enabled": False,
        "transport/link/rx/max_message_size": LONGEST,
        "adminspace/enabled": False,
    }


def _access(robots: list[str]) -> dict[str, Any]:
    """Each certificate's name reaches its own keys, and nothing else."""
    flows = {"permission": "allow", "flows": ["ingress", "egress"], "messages": list(MESSAGES)}
    return {
        "enabled": True,
        "default_permission": "deny",
        "rules": [{"id": name, **flows, "key_exprs": [key(name, "**")]} for name in robots],
        "subjects": [{"id": name, "cert_common_names": [name]} for name in robots],
        "policies": [{"rules": [name], "subjects": [name]} for name in robots],
    }


def _open(settings: dict[str, Any], what: str) -> Any:
    zenoh = extra("zenoh", "eclipse-zenoh")
    config = zenoh.Config()
    for name, value in settings.items():
        config.insert_json5(name, json.dumps(value))
    try:
        return zenoh.open(config)
    except zenoh.ZError as error:
        # What follows is where in its sources it happened.
        reason = " ".join(str(error).split()).split(" at /")[0]
        raise Sim2RealError(f"cannot {what}: {printable(reason)}") from None
