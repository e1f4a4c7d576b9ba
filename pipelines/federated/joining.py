"""A client on the network: trains on its own data when the server has work, sends what that changed."""

import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.federated.codecs import CODECS, Weights
from pipelines.federated.coordinator import hash_of
from pipelines.federated.learner import Learner
from pipelines.federated.network import new_network
from pipelines.federated.normalizers import set_statistics, statistics
from pipelines.federated.settings import Learning
from pipelines.federated.weights import personalize
from pipelines.learning.adapters import merged
from pipelines.learning.collect import CollectEpisode, Disturbance, collect
from pipelines.learning.data import PairDataset
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.export import export_policy
from pipelines.learning.networks.registry import build_network
from pipelines.learning.pretrain import Course
from pipelines.learning.recorded import load_recorded
from pipelines.sweeps.simulated import make_plan
from sim2real.errors import HardwareError, UserError
from sim2real.policies.messages import VERSION, Line, Message, MessageError, parse_address
from sim2real.tasks.registry import name_from_outside

ANSWER = 60.0
"""s that the server may take to answer."""
RETRY = 2.0
"""s between attempts to reach it."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Joined:
    """What came of taking part: how many rounds, bytes both ways, and the policy."""

    rounds: int
    refused: int
    sent: int
    received: int
    policy: Path


Source = Callable[[Course], Demonstrations]
"""What a client learns from, once it knows what is learned."""


def recorded_in(data: str | Path) -> Source:
    """The demonstrations of a LeRobot data set."""

    def read(course: Course) -> Demonstrations:
        info = course.info(build_network(course.arguments()))
        return load_recorded(data, info, course.robot, task=course.task.name)[0]

    return read


def demonstrated(count: int, *, seed: int, workers: int) -> Source:
    """So many demonstrations of the expert in simulation."""

    def show(course: Course) -> Demonstrations:
        asked = course.settings
        plan = make_plan(task=asked.task, robot=asked.robot, draws=count, seed=seed)
        draws, _ = plan.make_draws(plan.bind())
        return collect(CollectEpisode(asked.robot, asked.task, Disturbance()), draws, workers=workers)[0]

    return show


def take_part(
    server: str,
    name: str,
    data: Source,
    *,
    security: ssl.SSLContext | None = None,
    patience: float = 60.0,
    say: Say = lambda text: print(text, file=sys.stderr, flush=True),
) -> "Client":
    """Take part until the last round; what `finish` then writes.

    `data(course)` gives what this client learns from. A server that is gone is tried again for `patience`, s. Raises
    UserError for an address that is none and for a refusal, HardwareError for a server that stays away.
    """
    try:
        host, port = parse_address(server, "--server")
    except ValueError as error:
        raise UserError(str(error)) from None
    client: Client | None = None
    reached = time.monotonic()
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=10.0)
            if security is not None:
                connection = security.wrap_socket(connection, server_hostname=host)
            line = Line(connection)
            try:
                line.send(Message("hello", {"version": VERSION, "name": name}))
                learning = _learning(_answer(line, "welcome"))
                if client is None:
                    client = Client(learning, name, data, say)
                elif client.learning != learning:
                    raise UserError("the server came back with another training; join that one anew")
                client.take_part(line)
            finally:
                line.close()
            break
        except ssl.SSLError as error:
            raise UserError(f"{server}: the secured connection failed: {error.reason or error}") from None
        except (MessageError, OSError) as error:
            if client is not None and client.heard > reached:
                reached = client.heard
            if time.monotonic() - reached > patience:
                raise HardwareError(f"{server} cannot be reached: {error}") from None
            say(f"{server}: {error}; trying again")
            time.sleep(RETRY)
    return client


def _answer(line: Line, *kinds: str) -> Message:
    """The next message, of one of these kinds. Raises UserError for a refusal."""
    message = line.receive(ANSWER)
    if message.type == "refusal":
        raise UserError(f"the server refuses: {message.fields.get('message', '')}")
    if message.type not in kinds:
        raise UserError(f"the server answered '{message.type}' where {' or '.join(kinds)} comes")
    return message


def _learning(welcome: Message) -> Learning:
    """The settings that the server says, checked."""
    said = welcome.fields.get("learning")
    if welcome.fields.get("version") != VERSION or not isinstance(said, dict):
        raise UserError("the server is of another version")
    fields = Learning.__dataclass_fields__
    if set(said) != set(fields):
        raise UserError("the server says other settings than this version has")
    for name, value in said.items():
        kind = type(fields[name].default)
        if type(value) is not kind and not (kind is float and isinstance(value, int)):
            raise UserError(f"the server says {name}={value!r}")
    name_from_outside(said["task"], "the federation")
    if said["robot"].endswith(".toml") or "/" in said["robot"]:
        raise UserError("the server names a robot by a file of its own")
    return Learning(**said)


class Client:
    """A learner, and what it has heard of the server."""

    def __init__(self, learning: Learning, name: str, data: Source, say: Say) -> None:
        self.learning, self.name, self.say = learning, name, say
        self.network, self.course = new_network(learning)
        self.data = data(self.course)
        self.network.fit_to(self.data)
        self.about = statistics(self.network)
        self.shared, self.personal = personalize(self.network, learning.personal)
        self.learner: Learner | None = None
        self.version: int | None = None
        self.weights: Weights | None = None
        self.rounds = self.refused = self.sent = self.received = 0
        self.heard = time.monotonic()

    def take_part(self, line: Line) -> None:
        """Join, and work until the server says that it is done."""
        line.send(Message("statistics", {"examples": len(self.data)}, dict(self.about)))
        _answer(line, "joined")
        while True:
            line.send(Message("want", {"have": -1 if self.version is None else self.version}))
            message = _answer(line, "work", "wait", "done")
            self.heard = time.monotonic()
            if message.type == "done":
                self.weights = self._weights(message)
                return
            if message.type == "work":
                self._work(line, message)

    def _work(self, line: Line, message: Message) -> None:
        version, turn = message.fields.get("version"), message.fields.get("turn")
        if not isinstance(version, int) or not isinstance(turn, int) or min(version, turn) < 0:
            raise UserError("the server gives work without a version and a turn")
        self.weights = self._weights(message)
        self.version = version
        if self.learner is None:
            found = {key: np.asarray(value, np.float32) for key, value in message.arrays.items()}
            if {k: v.shape for k, v in found.items()} != {k: v.shape for k, v in self.about.items()}:
                raise UserError("the server's normalizers are of another network")
            set_statistics(self.network, found)
            pairs = PairDataset(self.data, self.network)
            number = hash_of(self.name)
            self.learner = Learner(self.learning, number, self.network, pairs, self.shared, self.personal)
        data, loss = self.learner.message(self.weights, version, turn)
        line.send(Message("update", {"version": version, "loss": loss}, blobs={"change": data}), ANSWER)
        self.sent += len(data)
        reason = _answer(line, "taken").fields.get("reason")
        self.rounds += 1
        if reason:
            self.refused += 1
            self.say(f"version {version}: refused: {reason}")
        else:
            self.learner.settle()
            self.say(f"version {version}: loss {loss:.4f}, {len(data) / 1e3:.1f} kB sent")

    def _weights(self, message: Message) -> Weights:
        base = self.weights if self.weights is not None else np.zeros(self.shared.size, np.float32)
        kind, codec = ("change", self.learning.codec) if "change" in message.blobs else ("weights", "none")
        data = message.blobs.get(kind, b"")
        self.received += len(data)
        weights = CODECS[codec].decode(data, base)
        if not np.isfinite(weights).all():
            raise UserError("the server's weights are not finite")
        return weights

    def finish(self, out: Path) -> Joined:
        """Write the policy with the last weights that were heard of."""
        if self.learner is None or self.weights is None:
            raise UserError("the federation was over before there was work for this client")
        self.learner.load(self.weights)
        (out).mkdir(parents=True, exist_ok=True)
        info = self.course.info(self.network)
        export_policy(merged(self.network), info, out / "policy.onnx")
        return Joined(self.rounds, self.refused, self.sent, self.received, out / "policy.onnx")


def told(joined: Joined) -> dict[str, Any]:
    """As JSON."""
    return {**asdict(joined), "policy": str(joined.policy)}
