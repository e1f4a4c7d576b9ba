"""A federation on the network: rounds by a clock set by hand, and real clients over loopback."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.api.federate import serve_federation
from pipelines.cli import main
from pipelines.federated.codecs import CODECS
from pipelines.federated.coordinator import Coordinator
from pipelines.federated.joining import Client, take_part
from pipelines.federated.network import new_network
from pipelines.federated.normalizers import statistics
from pipelines.federated.server import Refused, Server
from pipelines.federated.serving import FederationServer
from pipelines.federated.settings import Learning
from pipelines.federated.weights import personalize
from pipelines.learning.demonstrations import Demonstrations
from sim2real.errors import UserError
from sim2real.policies.file import load_policy_file
from sim2real.policies.messages import Line, Message, decode, encode

pytestmark = pytest.mark.realtime

LEARNING = Learning(rounds=3, steps=3, batch_size=16, width=16, depth=1, codec="int8")
SHAPES = {"input_mean": (2,), "input_scale": (2,)}
ABOUT = {"input_mean": np.zeros(2, np.float32), "input_scale": np.ones(2, np.float32)}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def hall(path: Path, clock: Clock, **changes: Any) -> Coordinator:
    server = Server(Learning(rounds=3), np.zeros(4, np.float32))
    given: dict[str, Any] = {"clients": 3, "quorum": 0.5, "k": 3.0} | changes
    return Coordinator(server, SHAPES, path, clock=clock, **given)


def answer(rounds: Coordinator, name: str, value: float) -> None:
    work = rounds.want(name, 0.0)
    assert work is not None
    assert isinstance(rounds.clock, Clock)
    rounds.clock.now += 5
    new = np.frombuffer(work.weights, "<f4") + np.float32(value)
    rounds.give(name, work.version, CODECS["none"].encode(new, new), 0.1)


def test_rounds_begin_with_enough_clients_and_close_at_their_deadline(tmp_path: Path) -> None:
    clock = Clock()
    rounds = hall(tmp_path / "state.npz", clock)
    for name in "ab":
        rounds.join(name, 10, ABOUT)
    assert rounds.want("a", 0.0) is None, "nothing begins before three have joined"
    rounds.join("c", 30, ABOUT)
    slow = rounds.want("c", 0.0)
    clock.now += 10
    answer(rounds, "a", 1.0)
    answer(rounds, "b", 1.0)
    assert rounds.server.version == 0 and rounds.want("a", 0.0) is None, "the third may still come"
    clock.now += 600
    rounds.tick()
    assert rounds.server.version == 1 and rounds.history[0]["counted"] == 2
    # What comes late joins the round in which it comes, and its client is given the next work after that.
    assert slow is not None
    rounds.give("c", 0, CODECS["none"].encode(np.full(4, 4, np.float32), np.zeros(4, np.float32)), 0.1)
    answer(rounds, "a", 1.0)
    answer(rounds, "b", 1.0)
    assert rounds.server.version == 2 and rounds.history[1]["late"] == 1
    assert (rounds.server.weights > 2).all()
    # Too few: no version, and what came is kept for the next round.
    rounds.leave("b"), rounds.leave("c")
    answer(rounds, "a", 1.0)
    clock.now += 1000
    rounds.tick()
    assert rounds.history[2]["void"] and rounds.server.version == 2
    # A server that starts again goes on; nobody has to say again what their data are like.
    again = hall(tmp_path / "state.npz", clock)
    assert again.server.version == 2 and len(again.history) == 3 and again.statistics is not None
    again.join("a", 10, ABOUT), again.join("b", 10, ABOUT)
    answer(again, "a", 1.0)
    answer(again, "b", 1.0)
    assert again.done and again.want("a", 0.0) is None


def test_clients_are_not_believed_what_cannot_be(tmp_path: Path) -> None:
    rounds = hall(tmp_path / "state.npz", Clock(), clients=2)
    for about, examples in (
        ({}, 5),
        ({**ABOUT, "input_mean": np.full(2, np.nan, np.float32)}, 5),
        ({**ABOUT, "input_scale": np.zeros(2, np.float32)}, 5),
        ({**ABOUT, "input_mean": np.zeros(3, np.float32)}, 5),
        (ABOUT, 0),
    ):
        with pytest.raises(Refused):
            rounds.join("a", examples, about)
    assert not rounds.parts
    rounds.join("a", 5, ABOUT), rounds.join("b", 5, ABOUT)
    with pytest.raises(Refused, match="not given"):
        rounds.give("a", 0, b"", 0.0)


def test_bytes_travel_in_messages_as_they_are() -> None:
    data = encode(
        Message("work", {"version": 1}, {"m": np.ones(3, np.float32)}, blobs={"weights": b"\0\xff\n"})
    )
    header = int.from_bytes(data[4:8], "little")
    back = decode(data[12 : 12 + header], data[12 + header :])
    assert back.blobs == {"weights": b"\0\xff\n"} and back.fields == {"version": 1}


def demonstrations(seed: int) -> Demonstrations:
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(60, 15)).astype(np.float32)
    chunks = np.repeat(observations[:, None, :6], 10, axis=1) * np.float32(0.1 + 0.1 * seed)
    return Demonstrations(observations, chunks, np.arange(60) // 10)


def test_clients_learn_together_over_loopback_whatever_strangers_send(tmp_path: Path) -> None:
    network, _ = new_network(LEARNING)
    shared, _ = personalize(network, "none")
    shapes = {name: value.shape for name, value in statistics(network).items()}
    rounds = Coordinator(
        Server(LEARNING, shared.read(network)), shapes, tmp_path / "state.npz", clients=2, quorum=1.0, k=4.0,
        clock=time.monotonic,
    )  # fmt: skip
    said: list[str] = []
    server = FederationServer(rounds, "127.0.0.1:0", say=said.append)
    where = f"127.0.0.1:{server.address[1]}"
    main_loop = threading.Thread(target=server.run, daemon=True)
    main_loop.start()
    for hostile in (b"GET / HTTP/1.1\r\n\r\n", b"S2R1" + b"\xff" * 8, b""):
        with socket.create_connection(server.address, timeout=10) as stranger:
            stranger.sendall(hostile)
    stranger = Line(socket.create_connection(server.address, timeout=10))
    stranger.send(Message("hello", {"version": 1, "name": "x" * 1000}))
    assert stranger.receive(10).type == "refusal"
    stranger.close()
    found: dict[str, Client] = {}

    def client(name: str, seed: int) -> None:
        found[name] = take_part(where, name, lambda course: demonstrations(seed), say=said.append)

    clients = [threading.Thread(target=client, args=(name, k), daemon=True) for k, name in enumerate("ab")]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(120)
    main_loop.join(60)
    server.close()
    assert not main_loop.is_alive() and set(found) == {"a", "b"}
    assert rounds.done and all(row["counted"] == 2 for row in rounds.history)
    assert all(one.rounds == 3 and not one.refused for one in found.values())
    for name, one in found.items():
        one.finish(tmp_path / name)
    # Both have the same policy: the one after the last round.
    policies = [load_policy_file(tmp_path / name / "policy.onnx") for name in "ab"]
    seen = np.random.default_rng(0).normal(size=(4, 15)).astype(np.float32)
    assert np.array_equal(policies[0].act_on(seen, {}), policies[1].act_on(seen, {}))
    assert policies[0].info.task == "reach"


def test_what_cannot_be_served_or_joined_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="fedbuff"):
        serve_federation(out=tmp_path / "s", strategy="fedbuff")
    with pytest.raises(UserError, match="--certificate"):
        serve_federation(out=tmp_path / "s", ca="ca.crt")
    with pytest.raises(UserError, match="cannot listen"):
        serve_federation(out=tmp_path / "s", listen="127.0.0.1:99999")
    here = ["federate", "join", "--server", "127.0.0.1:1", "--out", str(tmp_path / "j")]
    assert main(here) == 2
    assert "--simulated" in capsys.readouterr().err
    assert main([*here, "--simulated", "1", "--patience", "0"]) == 1
    assert "cannot be reached" in capsys.readouterr().err
    assert main([*here, "--simulated", "1", "--server", "nowhere"]) == 2
