"""Federated learning: codecs, strategies, deadlines and rounds in closed form; one small federation end to end."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.cli import main
from pipelines.federated.clients import REGIONS, make_clients, own_episodes, trials, work_of
from pipelines.federated.codecs import CODECS, CodecError, Sender
from pipelines.federated.deadlines import FIRST, deadline
from pipelines.federated.fates import fate
from pipelines.federated.normalizers import pooled, statistics
from pipelines.federated.rounds import Rounds
from pipelines.federated.server import Refused, Server, load_state, save_state
from pipelines.federated.settings import Federation, Learning
from pipelines.federated.strategies import STRATEGIES, Update
from pipelines.federated.weights import personalize
from pipelines.learning.adapters import merged
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.networks.mlp import ChunkMLP
from sim2real.errors import UserError

SIZE = 3001


def weights(seed: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


@pytest.mark.parametrize("name", ["none", "delta"])
def test_lossless_codecs_lose_no_bit(name: str) -> None:
    base = weights(0)
    new = base + np.float32(1e-3) * weights(1)
    new[:3] = [0.0, -0.0, 1e-40]
    codec = CODECS[name]
    back = codec.decode(codec.encode(new, base), base)
    assert back.tobytes() == new.tobytes()
    if name == "delta":
        assert len(codec.encode(new, base)) < 0.8 * 4 * SIZE


@pytest.mark.parametrize("name, smaller", [("int8", 6.0), ("topk", 25.0)])
def test_lossy_codecs_are_small_and_what_they_leave_out_comes_later(name: str, smaller: float) -> None:
    """The sum of all messages follows the sum of all changes: the error stays, and does not add up."""
    sender, goal, got = Sender(CODECS[name]), np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
    change = weights(2) * np.float32(1e-2)
    for _ in range(80):
        goal = goal + change
        # The receiver's weights are the base: what is missing of the goal is in the sender's memory.
        data = sender.encode(got + change, got)
        got = sender.codec.decode(data, got)
        sender.settle()
        assert 4 * SIZE / len(data) >= smaller
    error = np.linalg.norm(goal - got) / np.linalg.norm(change)
    assert error < (1.0 if name == "int8" else 25.0)
    without = CODECS[name].decode(CODECS[name].encode(change, np.zeros_like(change)), np.zeros_like(change))
    if name == "topk":
        assert error < 0.5 * 80 * np.linalg.norm(change - without) / np.linalg.norm(change)


def test_a_message_that_never_arrived_is_not_settled() -> None:
    sender, base = Sender(CODECS["int8"]), weights(0)
    first = sender.encode(base + weights(1), base)
    assert sender.left is None
    assert sender.encode(base + weights(1), base) == first


@pytest.mark.parametrize("name", list(CODECS))
def test_bytes_of_others_are_weights_or_refused(name: str) -> None:
    codec, base = CODECS[name], weights(0)
    good = codec.encode(base + weights(1), base)
    rng = np.random.default_rng(3)
    bad = [b"", b"x", good[:-1], good + b"x", bytes(50_000_000 // 1000), rng.bytes(len(good))]
    for data in bad:
        if name == "none" and len(data) == len(good):
            continue
        with pytest.raises(CodecError):
            codec.decode(data, base)
    for _ in range(100):
        damaged = bytearray(good)
        damaged[rng.integers(len(good))] ^= 1 << int(rng.integers(8))
        try:
            found = codec.decode(bytes(damaged), base)
        except CodecError:
            continue
        assert found.shape == base.shape and found.dtype == np.float32


def test_a_deadline_is_the_median_and_so_many_deviations() -> None:
    assert deadline([], 3) == FIRST
    assert deadline([10, 20, 30, 40, 1000], 2) == 30 + 2 * 10
    assert deadline([60.0] * 9, 4) == pytest.approx(60 * (1 + 4 * 0.05))


def test_strategies_weigh_and_trim() -> None:
    ones = np.ones(5, np.float32)
    updates = [Update(0, ones, 30), Update(1, 4 * ones, 10), Update(2, 7 * ones, 60, staleness=3)]
    assert STRATEGIES["fedavg"].aggregate(updates) == pytest.approx((30 + 40 + 7 * 30) / 70 * ones)
    honest = [Update(k, (1 + 0.1 * k) * ones, 1) for k in range(6)]
    liars = [Update(6, 1e6 * ones, 10**6), Update(7, -1e6 * ones, 10**6)]
    assert STRATEGIES["trimmed"].aggregate(honest + liars) == pytest.approx(1.25 * ones, abs=0.06)


class Pull:
    """A client that moves half way to a place of its own."""

    examples = 10

    def __init__(self, place: float, codec: str) -> None:
        self.place, self.sender = place, Sender(CODECS[codec])

    def work(self, server: Server, turn: int) -> tuple[bytes, float]:
        new = server.weights + np.float32(0.5) * (np.float32(self.place) - server.weights)
        return self.sender.encode(new, server.weights), float(abs(self.place - server.weights).mean())

    def settle(self) -> None:
        self.sender.settle()


def played(federation: Federation, rounds: int, size: int = 64) -> Rounds:
    clients = make_clients(federation)
    learners = [Pull(k, federation.codec) for k in range(federation.clients)]
    found = Rounds(federation, clients, Server(federation, np.zeros(size, np.float32)), learners)
    for _ in range(rounds):
        found.next()
    return found


@pytest.fixture(scope="module")
def troubled() -> Federation:
    return Federation(clients=10, rounds=30, stragglers=0.2, dead=0.1, seed=3)


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_rounds_come_to_the_mean_of_the_clients(strategy: str) -> None:
    found = played(Federation(clients=5, strategy=strategy), 25)
    assert found.server.weights == pytest.approx(2.0, abs=0.6 if strategy == "fedbuff" else 1e-3)
    if strategy != "fedbuff":
        assert all(row["arrived"] == 5 and not row["void"] for row in found.history)


def test_no_round_is_longer_than_its_deadline_and_late_updates_count(troubled: Federation) -> None:
    found = played(troubled, 30)
    assert all(row["seconds"] <= row["deadline_s"] * (1 + 1e-9) for row in found.history)
    late = sum(row["late"] for row in found.history)
    assert late > 5 and sum(row["dead"] for row in found.history) > 5
    assert found.server.version > 20
    assert found.server.weights == pytest.approx(4.5, abs=1.2)
    # Whoever was late or away comes back: all have begun in most rounds.
    assert min(found.turns.values()) > 5


def test_exactly_the_share_that_is_asked_for_dies_or_is_late(troubled: Federation) -> None:
    clients = make_clients(troubled)
    for turn in range(5):
        fates = [fate(troubled, client, turn, 0) for client in clients]
        assert sum(one.dies for one in fates) == 1
        slow = [one.seconds > 1.5 * client.seconds for one, client in zip(fates, clients) if not one.dies]
        assert sum(slow) == 2


@pytest.mark.parametrize("strategy, codec", [("fedavg", "none"), ("fedbuff", "int8"), ("trimmed", "delta")])
def test_a_federation_goes_on_from_its_checkpoint_as_if_nothing_had_happened(
    troubled: Federation, strategy: str, codec: str, tmp_path: Path
) -> None:
    federation = replace(troubled, strategy=strategy, codec=codec)
    whole, half = played(federation, 12), played(federation, 6)
    save_state(tmp_path / "state.npz", *half.state())
    there = load_state(tmp_path / "state.npz")
    assert there is not None
    again = played(federation, 0)
    again.restore(*there)
    for old, new in zip(half.participants, again.participants):
        new.sender = old.sender  # type: ignore[attr-defined]
    for _ in range(6):
        again.next()
    assert again.history == whole.history
    assert again.server.weights.tobytes() == whole.server.weights.tobytes()


def test_the_server_refuses_what_it_cannot_trust() -> None:
    base = weights(0)
    server, codec = Server(Learning(), base), CODECS["none"]
    for version, data, examples, why in (
        (0, codec.encode(base * np.float32(np.nan), base), 5, "not finite"),
        (0, codec.encode(base, base)[:-4], 5, "bytes"),
        (7, codec.encode(base, base), 5, "version 7"),
        (0, codec.encode(base, base), 0, "examples"),
    ):
        with pytest.raises(Refused, match=why):
            server.take(1, version, data, examples)
    assert not server.buffer
    for k in range(4):
        server.take(k, 0, codec.encode(base + 1, base), 5)
    server.take(4, 0, codec.encode(base + 1e6, base), 5)
    assert server.step()["cut"] == 1
    assert server.weights - base == pytest.approx((4 + 3) / 5, rel=1e-3)


def network() -> ChunkMLP:
    torch.manual_seed(0)
    features = [("joint_position", 6), ("joint_command", 6), ("goal", 3)]
    return ChunkMLP(features, joints=6, horizon=10, width=16, depth=2)


def demonstrations(seed: int, count: int) -> Demonstrations:
    rng = np.random.default_rng(seed)
    shift = rng.normal(size=15)
    return Demonstrations(
        (shift + rng.normal(size=(count, 15))).astype(np.float32),
        rng.normal(size=(count, 10, 6)).astype(np.float32),
        np.arange(count) // 10,
    )


def test_pooled_normalizers_are_those_of_the_pooled_data() -> None:
    parts, net = [demonstrations(1, 40), demonstrations(2, 100)], network()
    found = []
    for part in parts:
        net.fit_to(part)
        found.append(statistics(net))
    together = pooled(found, [40, 100])
    net.fit_to(Demonstrations.joined(parts))
    for name, value in statistics(net).items():
        assert together[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("personal", ["none", "head", "adapters"])
def test_shared_and_personal_weights_are_all_weights(personal: str) -> None:
    net = network()
    before = net(torch.zeros(1, 15)).detach()
    shared, own = personalize(net, personal)
    assert shared.size + own.size == sum(value.numel() for value in net.parameters())
    assert (own.size > 0) == (personal != "none") and not set(shared.names) & set(own.names)
    assert torch.allclose(merged(net)(torch.zeros(1, 15)), before, atol=1e-6)
    shared.write(net, shared.read(net) + 1)
    assert own.read(net) == pytest.approx(own.read(net))
    with pytest.raises(ValueError, match="weights"):
        shared.write(net, np.zeros(3, np.float32))


def test_clients_differ_and_are_measured_alike() -> None:
    federation = Federation(clients=6, alpha=0.2, episodes=40, evaluate=8)
    clients, work = make_clients(federation), work_of(federation)
    assert work.split == "task.goal.angle"
    assert len({client.values["servo.elbow_flex.kp"] for client in clients}) == 6
    assert all(
        "camera.azimuth" in client.values and "task.goal.angle" not in client.values for client in clients
    )
    low, high = work.space.range(work.split, tail=0.0)
    for client in clients:
        assert math.isclose(sum(client.shares), 1.0)
        angles = [draw.values[work.split] for draw in own_episodes(client, work, federation)]
        part = np.minimum(((np.array(angles) - low) / (high - low) * REGIONS).astype(int), REGIONS - 1)
        assert np.bincount(part, minlength=REGIONS) / 40 == pytest.approx(client.shares, abs=0.25)
        measured = [draw.values[work.split] for draw in trials(client, work, federation)]
        assert sorted(np.minimum(((np.array(measured) - low) / (high - low) * 4).astype(int), 3)) == [
            0, 0, 1, 1, 2, 2, 3, 3,
        ]  # fmt: skip
    assert make_clients(replace(federation, clients=3)) == clients[:3]
    alike = make_clients(replace(federation, alpha=math.inf))
    assert all(client.shares == (0.25,) * 4 for client in alike)


@pytest.mark.parametrize(
    "wrong, why",
    [
        ({"clients": 1}, "--clients"),
        ({"strategy": "fedavrg"}, "fedavg"),
        ({"codec": "zip"}, "int8"),
        ({"alpha": 0.0}, "--alpha"),
        ({"stragglers": 1.5}, "--stragglers"),
        ({"lying": 8}, "--lying"),
        ({"deadline": math.nan}, "--deadline"),
        ({"rounds": 0}, "--rounds"),
        ({"learning_rate": math.inf}, "learning rate"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(UserError, match=why):
        Federation(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_small_federation_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    asked = ["federate", "simulate", "--clients", "3", "--rounds", "2", "--task", "reach", "--episodes", "2"]
    asked += [
        "--evaluate",
        "1",
        "--steps",
        "5",
        "--width",
        "16",
        "--codec",
        "int8",
        "--workers",
        "0",
        "--json",
    ]
    assert main([*asked, "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["clients"], found["rounds"]) == (3, 2)
    for row in (found, found["alone"], found["pooled"]):
        low, high = row["interval_95"]
        assert 0 <= low <= row["success_rate"] <= high <= 1
    assert 0 < found["bytes_per_client_round"] < found["bytes_uncompressed"]
    assert (out / "report.html").exists() and (out / "policies" / "federated.onnx").exists()
    # A finished run is not run again; one whose end is lost comes to the very same.
    (out / "result.json").unlink()
    assert main([*asked, "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert main([*asked, "--out", str(out), "--seed", "1"]) == 2
