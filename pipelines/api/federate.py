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

    _check_names(settings, Federation)
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
    from pipelines.federated.serve import serve
    from pipelines.federated.settings import Federation, Learning
    from pipelines.sweeps.simulated import worker_count

    _check_names(learning, Learning)
    settings = Learning(task=task, **learning)
    Federation(clients=clients, quorum=quorum, deadline=deadline)  # checks them
    return serve(
        settings, Path(out), clients=clients, listen=listen, deadline=deadline, quorum=quorum,
        certificates=(certificate, key, ca), evaluate=evaluate, workers=worker_count(workers),
    )  # fmt: skip


def _check_names(settings: Mapping[str, Any], kind: Any) -> None:
    """Raise UserError for a setting that there is not."""
    from sim2real.errors import UserError, nearest

    for name in settings:
        if name not in kind.__dataclass_fields__:
            raise UserError(f"a federation has no setting '{name}'{nearest(name, kind.__dataclass_fields__)}")


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
    from pipelines.federated.joining import demonstrated, recorded_in, take_part, told
    from pipelines.federated.security import client_context
    from pipelines.sweeps.simulated import worker_count
    from sim2real.errors import UserError
    from sim2real.files import require_own_file

    if (data is None) == (simulated is None):
        raise UserError("give --data DIR, or --simulated N to try it without an arm")
    if simulated is not None and simulated < 1:
        raise UserError(f"--simulated must be at least 1, got {simulated}")
    folder = Path(out)
    require_own_file(folder / "policy.onnx", b"sim2real")
    if data is not None:
        source = recorded_in(data)
    else:
        assert simulated is not None
        source = demonstrated(simulated, seed=seed, workers=worker_count(workers))
    security = client_context(ca, certificate, key)
    return told(take_part(server, name, source, security=security, patience=patience).finish(folder))
