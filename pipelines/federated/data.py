"""What clients collect: each by itself, on its own arm. It stays with the client."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.federated.clients import PER_CLIENT, Client, Work, own_episodes
from pipelines.federated.settings import Federation
from pipelines.learning.collect import CollectEpisode, Disturbance, collect
from pipelines.learning.demonstrations import Demonstrations
from sim2real.errors import Sim2RealError


def client_file(out: Path, number: int) -> Path:
    """Where a client's data lie."""
    return out / "clients" / f"{number}.npz"


def collected(
    federation: Federation, clients: Sequence[Client], work: Work, out: Path, *, workers: int
) -> list[Demonstrations]:
    """The demonstrations of each client; those that are not there yet are collected, in local processes.

    An expert shows the task on each arm, disturbed as in pretraining. Raises Sim2RealError where a client has none.
    """
    missing = [client for client in clients if not client_file(out, client.number).exists()]
    if missing:
        draws = [draw for client in missing for draw in own_episodes(client, work, federation)]
        recipe = CollectEpisode(federation.robot, federation.task, Disturbance())
        everything, _ = collect(recipe, draws, workers=workers, label="collect")
        of = everything.episodes // PER_CLIENT
        for client in missing:
            own = everything.select(of == client.number)
            if not len(own):
                raise Sim2RealError(f"client {client.number} has collected nothing that can be learned from")
            own.save(client_file(out, client.number))
    return [Demonstrations.load(client_file(out, client.number)) for client in clients]
