"""`simulate_federation`: many arms that learn together and keep their data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, repr=False)
class FederationResult:
    """What a simulated federation came to. `result` is the content of result.json."""

    result: Mapping[str, Any] = field(repr=False)
    success_rate: float
    """Of the federated policy, mean over clients on every part of the task."""
    interval: tuple[float, float]
    """Its 95 % interval."""
    alone: float
    """The success rate where each client learns from its own data."""
    pooled: float
    """Where all data are in one place."""
    bytes_per_client_round: float
    """Sent and received."""
    out: Path

    def __repr__(self) -> str:
        return f"FederationResult({self.result['clients']} clients: {self.success_rate:.1%})"

    def __str__(self) -> str:
        return _text(self.result, self.out)


def simulate_federation(
    task: str = "reach",
    *,
    out: str | Path,
    clients: int = 8,
    rounds: int = 10,
    workers: int | None = None,
    **settings: Any,
) -> FederationResult:
    """Simulate clients that learn a task together without sharing their data, and compare with learning alone and
    with pooled data, on the same episodes.

    settings: the others of `pipelines.federated.settings.Federation`, such as strategy, codec, personal, alpha,
    episodes, steps, stragglers, dead, lying, seed. Goes on in an `out` that holds this very run.

    Raises UserError for settings that make no sense, and for an `out` that holds anything else.
    """
    from pipelines.federated.settings import Federation
    from pipelines.federated.simulate import simulate
    from pipelines.reports.report import try_report
    from pipelines.sweeps.simulated import worker_count
    from sim2real.errors import UserError, nearest

    for name in settings:
        if name not in Federation.__dataclass_fields__:
            raise UserError(
                f"a federation has no setting '{name}'{nearest(name, Federation.__dataclass_fields__)}"
            )
    federation = Federation(task=task, clients=clients, rounds=rounds, **settings)
    folder = Path(out)
    answer = simulate(federation, folder, workers=worker_count(workers))
    try_report(folder)
    return FederationResult(
        result=answer,
        success_rate=answer["success_rate"],
        interval=(answer["interval_95"][0], answer["interval_95"][1]),
        alone=answer["alone"]["success_rate"],
        pooled=answer["pooled"]["success_rate"],
        bytes_per_client_round=answer["bytes_per_client_round"],
        out=folder,
    )


def _text(a: Mapping[str, Any], out: Path) -> str:
    """What the command prints."""

    def rate(row: Mapping[str, Any]) -> str:
        low, high = row["interval_95"]
        return f"{row['success_rate']:6.1%} [{low:.0%}, {high:.0%}]"

    times = a["bytes_uncompressed"] / a["bytes_per_client_round"]
    lines = [
        f"{a['clients']} clients, {a['rounds']} rounds of {a['strategy']} on '{a['task']}', "
        f"{a['alone']['episodes']} episodes for each figure:",
        f"  alone      {rate(a['alone'])}",
        f"  federated  {rate(a)}",
        f"  pooled     {rate(a['pooled'])}",
        f"  {a['bytes_per_client_round'] / 1e3:,.1f} kB a client and round with the codec {a['codec']}, {times:.1f} "
        f"times fewer than the weights as they are",
        f"  pooling takes {a['pooled']['bytes_per_client'] / 1e3:,.0f} kB of each client, "
        f"{a['pooled']['bytes_per_client_with_video'] / 1e6:,.1f} MB with the video of one camera",
        f"  {a['seconds'] / 60:,.1f} min on the simulated clock, the longest round {a['longest_round_s'] / 60:.1f} "
        f"min; {a['late']} updates late, {a['dead']} lost with their clients, {a['refused']} refused, "
        f"{a['void_rounds']} rounds without a quorum",
        f"written to {out}",
    ]
    return "\n".join(lines)


def serve_federation(
    task: str = "reach",
    *,
    out: str | Path,
    clients: int = 2,
    listen: str = "127.0.0.1:5600",
    deadline: float = 4.0,
    quorum: float = 0.5,
    certificate: str | None = None,
    key: str | None = None,
    ca: str | None = None,
    evaluate: int = 0,
    workers: int | None = None,
    **learning: Any,
) -> dict[str, Any]:
    """Serve a federation until its last round; what `out/result.json` holds.

    learning: the settings of `pipelines.federated.settings.Learning`. Begins when so many clients have joined, closes
    rounds as `simulate_federation` does, and goes on from the checkpoint in `out`. certificate, key, ca: files for TLS.
    Raises UserError for settings that make no sense, an `out` that holds anything else, and an address in use.
    """
    import sys
    import time
    from dataclasses import asdict
    from ipaddress import ip_address

    from pipelines.federated.coordinator import Coordinator
    from pipelines.federated.network import new_network
    from pipelines.federated.normalizers import set_statistics, statistics
    from pipelines.federated.security import server_context
    from pipelines.federated.server import Server
    from pipelines.federated.serving import FederationServer
    from pipelines.federated.settings import Federation, Learning
    from pipelines.federated.strategies import STRATEGIES
    from pipelines.federated.weights import personalize
    from pipelines.learning.adapters import merged
    from pipelines.learning.export import export_policy
    from pipelines.runs import claim, described
    from pipelines.sweeps.simulated import worker_count
    from sim2real.errors import UserError, nearest
    from sim2real.files import read_json, write_json

    for name in learning:
        if name not in Learning.__dataclass_fields__:
            raise UserError(
                f"a federation has no setting '{name}'{nearest(name, Learning.__dataclass_fields__)}"
            )
    settings = Learning(task=task, **learning)
    Federation(clients=clients, quorum=quorum, deadline=deadline)  # checks them
    if STRATEGIES[settings.strategy].buffered:
        raise UserError("fedbuff is simulated only; served rounds close at their deadline whoever is missing")
    folder, security = Path(out), server_context(certificate, key, ca)
    network, course = new_network(settings)
    shared, _ = personalize(network, settings.personal)
    asked = {**asdict(settings), "clients": clients}
    config = described("federate serve", seed=settings.seed, settings=asked, identity=asked)
    if claim(folder, config) is not None and (folder / "result.json").exists():
        return read_json(folder / "result.json")
    shapes = {name: value.shape for name, value in statistics(network).items()}
    coordinator = Coordinator(
        Server(settings, shared.read(network)),
        shapes,
        folder / "state.npz",
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
        if not ip_address(host).is_loopback and ca is None:
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
        "rounds": settings.rounds,
        "names": sorted(coordinator.turns),
        "bytes_up": sum(row["up"] for row in history) / max(1, sum(row["started"] for row in history)),
        "weights": len(coordinator.server.weights),
        "history": history,
    }
    if settings.personal == "none":
        export_policy(merged(network), course.info(network), folder / "policy.onnx")
        if evaluate:
            from dataclasses import replace

            measured = replace(course.settings, evaluate=evaluate)
            course.settings = measured
            found = course.measure(folder / "policy.onnx", worker_count(workers))
            result |= {"success_rate": found["success_rate"], "interval_95": found["wilson_95"]}
    write_json(folder / "result.json", result)
    return read_json(folder / "result.json")


def join_federation(
    server: str,
    *,
    out: str | Path,
    name: str,
    data: str | Path | None = None,
    simulated: int | None = None,
    patience: float = 60.0,
    ca: str | None = None,
    certificate: str | None = None,
    key: str | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> dict[str, Any]:
    """Take part in the federation at "HOST:PORT" with a LeRobot data set, or with demonstrations in simulation.

    Returns `rounds`, `refused`, `sent` and `received` (bytes), and `policy`, the file in `out`. Raises UserError for
    data that do not fit what is learned and for a refusal, HardwareError for a server that is away for
    longer than `patience`, s.
    """
    from pipelines.federated.joining import take_part, told
    from pipelines.federated.security import client_context
    from pipelines.learning.demonstrations import Demonstrations
    from pipelines.learning.pretrain import Course
    from pipelines.sweeps.simulated import worker_count
    from sim2real.errors import UserError
    from sim2real.files import require_own_file

    if (data is None) == (simulated is None):
        raise UserError("give --data DIR, or --simulated N to try it without an arm")
    if simulated is not None and simulated < 1:
        raise UserError(f"--simulated must be at least 1, got {simulated}")
    folder = Path(out)
    require_own_file(folder / "policy.onnx", b"sim2real")

    def read(course: Course) -> Demonstrations:
        if data is not None:
            from pipelines.learning.networks.registry import build_network
            from pipelines.learning.recorded import load_recorded

            info = course.info(build_network(course.arguments()))
            return load_recorded(data, info, course.robot, task=course.task.name)[0]
        from pipelines.learning.collect import CollectEpisode, Disturbance, collect
        from pipelines.sweeps.simulated import make_plan

        assert simulated is not None
        asked = course.settings
        plan = make_plan(task=asked.task, robot=asked.robot, draws=simulated, seed=seed)
        draws, _ = plan.make_draws(plan.bind())
        recipe = CollectEpisode(asked.robot, asked.task, Disturbance())
        return collect(recipe, draws, workers=worker_count(workers))[0]

    security = client_context(ca, certificate, key)
    return told(take_part(server, name, read, security=security, patience=patience).finish(folder))
