"""A federation on one computer: clients that learn alone, together without sharing data, and with all data pooled.

config.json, result.json, report.html
clients/3.npz                       what client 3 collected
policies/alone-3.onnx, pooled.onnx, federated.onnx (federated-3.onnx where something is personal)
state.npz                           the federation after its last round; a stopped run goes on from it
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.federated.clients import make_clients, work_of
from pipelines.federated.codecs import CODECS
from pipelines.federated.data import collected
from pipelines.federated.fates import liars, lie
from pipelines.federated.learner import Learner
from pipelines.federated.measure import measure
from pipelines.federated.network import new_network
from pipelines.federated.normalizers import pooled, set_statistics, statistics
from pipelines.federated.rounds import Rounds
from pipelines.federated.server import Server, load_state, save_state
from pipelines.federated.settings import Federation
from pipelines.federated.training import rates, train
from pipelines.federated.weights import personalize
from pipelines.learning.adapters import merged
from pipelines.learning.data import PairDataset
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.export import export_policy
from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.registry import build_network
from pipelines.learning.pretrain import Course
from pipelines.runs import claim, described
from randomization.progress import progress_bar
from sim2real.files import read_json, write_json

VIDEO = 250_000
"""Bytes of a second of one camera's video, as data sets of arms have it (2 Mbit/s)."""


class SimulatedLearner(Learner):
    """A learner of the simulation, which may lie."""

    lies: Callable[[Any, Any], Any] | None = None

    def work(self, server: Server, turn: int) -> tuple[bytes, float]:
        """The message for the server, and the loss."""
        if self.lies is None:
            return self.message(server.weights, server.version, turn)
        new, loss = self.learn(server.weights, server.version, turn)
        with np.errstate(all="ignore"):
            return CODECS[self.learning.codec].encode(self.lies(new, server.weights), server.weights), loss


def simulate(federation: Federation, out: Path, *, workers: int) -> dict[str, Any]:
    """Run or go on with the federation in `out`; the content of result.json.

    Raises UserError for settings that do not fit, and for an `out` that holds anything else.
    """
    clients, work = make_clients(federation), work_of(federation)
    network, course = new_network(federation)
    identity = {"federation": _plain(federation), "task": course.identity()}
    config = described(
        "federate simulate", seed=federation.seed, settings=_plain(federation), identity=identity
    )
    if claim(out, config) is not None and (out / "result.json").exists():
        return read_json(out / "result.json")
    data = collected(federation, clients, work, out, workers=workers)
    # Every client fits a normalizer to its own data; the server pools them.
    parts = []
    for own in data:
        network.fit_to(own)
        parts.append(statistics(network))
    shared_statistics = pooled(parts, [len(own) for own in data])
    setup = 4 * sum(value.size for value in parts[0].values())

    plan = _Policies(federation, network, course, out, shared_statistics)
    alone = [plan.trained(f"alone-{k}", [own]) for k, own in enumerate(data)]
    together = plan.trained("pooled", data)

    rounds = _rounds(federation, clients, plan, data, out)
    size = len(rounds.server.weights)
    federated = [plan.exported(participant, rounds.server) for participant in rounds.participants]
    ways = {"federated": federated, "alone": alone, "pooled": [together] * len(clients)}
    found = measure(federation, clients, work, ways, workers=workers)

    frames = sum(len(own) for own in data)
    numbers = frames * 4 * (data[0].observations.shape[1] + data[0].chunks.shape[2])
    seconds = frames / course.robot.policy_rate
    # The first weights follow from the seed: nobody downloads them.
    downloads = sum(row["downloads"] for row in rounds.history)
    came = sum(row["arrived"] + sum(row["refused"].values()) for row in rounds.history)
    up = sum(row["up"] for row in rounds.history) / max(1, came)
    down = sum(row["down"] for row in rounds.history) / max(1, downloads)
    result: dict[str, Any] = {
        "clients": federation.clients,
        "rounds": federation.rounds,
        "task": federation.task,
        "strategy": federation.strategy,
        "codec": federation.codec,
        "personal": federation.personal,
        "seed": federation.seed,
        **found["federated"],
        "alone": found["alone"],
        "pooled": found["pooled"]
        | {
            "bytes_per_client": numbers / len(clients),
            "bytes_per_client_with_video": (numbers + seconds * VIDEO) / len(clients),
        },
        "bytes_per_client_round": up + down,
        "bytes_up": up,
        "bytes_down": down,
        "bytes_uncompressed": 8 * size,
        "setup_bytes_per_client": 4 * size + 2 * setup,
        "weights": size,
        "seconds": rounds.now,
        "longest_round_s": max(row["seconds"] for row in rounds.history),
        "rounds_over_deadline": sum(
            row["seconds"] > row["deadline_s"] * (1 + 1e-9) for row in rounds.history
        ),
        "void_rounds": sum(row["void"] for row in rounds.history),
        "late": sum(row["late"] for row in rounds.history),
        "dead": sum(row["dead"] for row in rounds.history),
        "refused": sum(sum(row["refused"].values()) for row in rounds.history),
        "liars": list(liars(federation)),
        "split": work.split,
        "shares": [[round(share, 4) for share in client.shares] for client in clients],
        "examples": [len(own) for own in data],
        "history": rounds.history,
    }
    write_json(out / "result.json", result)
    return read_json(out / "result.json")


class _Policies:
    """Networks to be trained, and their files; what is there already is not trained again."""

    def __init__(
        self,
        federation: Federation,
        network: PolicyNetwork,
        course: Course,
        out: Path,
        statistics: dict[str, Any],
    ) -> None:
        self.federation, self.course, self.out, self.statistics = federation, course, out, statistics
        self.start = {name: value.clone() for name, value in network.state_dict().items()}
        self.arguments = network.arguments
        (out / "policies").mkdir(exist_ok=True)

    def fresh(self) -> PolicyNetwork:
        """The untrained network, with the normalizers of all clients."""
        network = build_network(self.arguments)
        network.load_state_dict(self.start)
        set_statistics(network, self.statistics)
        return network

    def trained(self, name: str, data: Sequence[Demonstrations]) -> Path:
        """The policy that the data of some clients together make, with as many steps as a client makes in all rounds
        and a batch for each of them."""
        path = self.out / "policies" / f"{name}.onnx"
        if path.exists():
            return path
        network, s = self.fresh(), self.federation
        pairs = PairDataset(data[0] if len(data) == 1 else Demonstrations.joined(list(data)), network)
        rng = np.random.default_rng((0xA10E, s.seed, *name.encode()))
        train(network, pairs, rates(s), batch_size=s.batch_size * len(data), rng=rng)
        return self.write(network, path)

    def exported(self, learner: Any, server: Server) -> Path:
        """The federated policy, of one client where something is personal."""
        name = "federated" if self.federation.personal == "none" else f"federated-{learner.number}"
        path = self.out / "policies" / f"{name}.onnx"
        if not path.exists():
            learner.load(server.weights)
            self.write(merged(learner.network), path)
        return path

    def write(self, network: PolicyNetwork, path: Path) -> Path:
        info = self.course.info(network)
        about = {
            **info.provenance,
            "command": "federate simulate",
            "settings": _plain(self.federation),
            "policy": path.stem,
        }
        export_policy(network, replace(info, provenance=about), path)
        return path


def _rounds(
    federation: Federation, clients: Any, plan: _Policies, data: Sequence[Demonstrations], out: Path
) -> Rounds:
    """The federation after its last round, from a checkpoint where there is one."""
    network = plan.fresh()
    shared, personal = personalize(network, federation.personal)
    learners = []
    liars_here = liars(federation)
    for client, own in zip(clients, data):
        learner = SimulatedLearner(
            federation, client.number, network, PairDataset(own, network), shared, personal
        )
        if client.number in liars_here:
            learner.lies = lambda new, base, number=client.number: lie(federation, number, new, base)
        learners.append(learner)
    rounds = Rounds(federation, clients, Server(federation, shared.read(network)), learners)
    path = out / "state.npz"
    if (there := load_state(path)) is not None:
        plain, arrays = there
        rounds.restore(plain, arrays)
        for k, learner in enumerate(learners):
            prefix = f"learner.{k}."
            learner.restore(
                {name.removeprefix(prefix): v for name, v in arrays.items() if name.startswith(prefix)}
            )
    with progress_bar(federation.rounds, "federate", "round") as bar:
        bar.update(len(rounds.history))
        while len(rounds.history) < federation.rounds:
            rounds.next()
            plain, arrays = rounds.state()
            for k, learner in enumerate(learners):
                arrays |= {f"learner.{k}.{name}": value for name, value in learner.state().items()}
            save_state(path, plain, arrays)
            bar.update()
    return rounds


def _plain(federation: Federation) -> dict[str, Any]:
    """As JSON has it: an infinite alpha is a text."""
    found = asdict(federation)
    return found | ({"alpha": "inf"} if np.isinf(federation.alpha) else {})
