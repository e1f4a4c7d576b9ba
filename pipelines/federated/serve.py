"""A served federation from beginning to end: its run directory, the server, and the policy that comes of it.

config.json, state.npz (after every round; a stopped run goes on from it), result.json, policy.onnx
"""

import sys
import time
from dataclasses import asdict, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pipelines.federated.coordinator import Coordinator
from pipelines.federated.network import new_network
from pipelines.federated.normalizers import set_statistics, statistics
from pipelines.federated.security import server_context
from pipelines.federated.server import Server
from pipelines.federated.serving import FederationServer
from pipelines.federated.settings import Learning
from pipelines.federated.strategies import STRATEGIES
from pipelines.federated.weights import personalize
from pipelines.learning.adapters import merged
from pipelines.learning.export import export_policy
from pipelines.runs import claim, described
from sim2real.errors import UserError
from sim2real.files import read_json, write_json


def serve(
    learning: Learning,
    out: Path,
    *,
    clients: int,
    listen: str,
    deadline: float,
    quorum: float,
    certificates: tuple[str | None, str | None, str | None],
    evaluate: int,
    workers: int,
) -> dict[str, Any]:
    """Serve until the last round, or go on with it; the content of result.json.

    `certificates`: files of the server's certificate, its key, and the authority of the clients'. `evaluate`: episodes
    of a measurement in simulation at the end. Raises UserError for settings that make no sense, an `out` that holds
    anything else, and an address in use.
    """
    if STRATEGIES[learning.strategy].buffered:
        raise UserError("fedbuff is simulated only; served rounds close at their deadline whoever is missing")
    security = server_context(*certificates)
    network, course = new_network(learning)
    shared, _ = personalize(network, learning.personal)
    asked = {**asdict(learning), "clients": clients}
    config = described("federate serve", seed=learning.seed, settings=asked, identity=asked)
    if claim(out, config) is not None and (out / "result.json").exists():
        return read_json(out / "result.json")
    shapes = {name: value.shape for name, value in statistics(network).items()}
    coordinator = Coordinator(
        Server(learning, shared.read(network)),
        shapes,
        out / "state.npz",
        clients=clients,
        quorum=quorum,
        k=deadline,
        clock=time.monotonic,
    )
    server = FederationServer(coordinator, listen, security=security)
    try:
        host, port = server.address
        print(
            f"listening on {host}:{port} for {clients} clients; Ctrl-C ends it", file=sys.stderr, flush=True
        )
        if not ip_address(host).is_loopback and certificates[2] is None:
            print(f"listening on {host}: whoever reaches this port can take part", file=sys.stderr)
        server.run()
    finally:
        server.close()
    shared.write(network, coordinator.server.weights)
    assert coordinator.statistics is not None
    set_statistics(network, coordinator.statistics)
    history = coordinator.history
    result: dict[str, Any] = {
        "clients": len(coordinator.turns),
        "rounds": learning.rounds,
        "names": sorted(coordinator.turns),
        "bytes_up": sum(row["up"] for row in history) / max(1, sum(row["started"] for row in history)),
        "weights": len(coordinator.server.weights),
        "history": history,
    }
    if learning.personal == "none":
        export_policy(merged(network), course.info(network), out / "policy.onnx")
        if evaluate:
            course.settings = replace(course.settings, evaluate=evaluate)
            found = course.measure(out / "policy.onnx", workers)
            result |= {"success_rate": found["success_rate"], "interval_95": found["wilson_95"]}
    write_json(out / "result.json", result)
    return read_json(out / "result.json")
