"""`fleet rollout` on a registry: robots' policies follow what their episodes say, whoever looks and how often."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("cryptography")

from hardware.fleet.messages import Message
from pipelines.cli import main
from pipelines.fleet.conductor import Conductor, progress_of
from pipelines.fleet.registry.registry import Registry
from tests.pipelines.small_policy import small_policy

RATE = {"old": 0.85, "equal": 0.85, "bad": 0.4}
ROBOTS = 6


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("policies")
    return {name: small_policy(folder / name / "policy.onnx", seed=i) for i, name in enumerate(RATE)}


class Fleet:
    """Six robots that work when told to, by the policies that the registry gives them."""

    def __init__(self, store: Path, registry: Registry) -> None:
        self.store, self.registry = store, registry
        self.rng, self.sent = np.random.default_rng(2), 0
        self.digest: dict[str, str] = {}
        self.conductor = Conductor(registry)

    def publish(self, name: str, path: Path, alias: str) -> str:
        self.digest[self.registry.publish(path, by="t", alias=alias).digest] = name
        return self.registry.aliases()[alias]

    def runs(self) -> dict[str, str]:
        stable = self.registry.aliases()["stable"]
        return {robot.name: self.digest[robot.assigned or stable] for robot in self.registry.robots()}

    def work(self, episodes: int, safety_events: int = 0) -> None:
        stable = self.registry.aliases()["stable"]
        robots = self.registry.robots()
        for robot in robots:
            digest = robot.assigned or stable
            many = []
            for _ in range(episodes):
                self.sent += 1
                success = bool(self.rng.random() < RATE[self.digest[digest]])
                body = {"policy": digest, "success": success, "seconds": 1.0}
                if robot.assigned:
                    body["safety_events"] = safety_events
                many.append(Message(self.sent, "episode", 0.0, body))
            self.registry.ingest([(robot.name, "box", many)])


@pytest.fixture
def fleet(tmp_path: Path, files: dict[str, Path]) -> Iterator[Fleet]:
    with Registry.open(tmp_path / "fleet", create=True) as registry:
        fleet = Fleet(tmp_path / "fleet", registry)
        for i in range(ROBOTS):
            registry.enroll(f"a{i}", by="t", site=f"hall {i % 2}")
        fleet.publish("old", files["old"], "stable")
        yield fleet


def command(fleet: Fleet, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    status = main(["fleet", "rollout", "candidate", "--store", str(fleet.store), "--json", *words])
    said = capsys.readouterr()
    return status, json.loads(said.out) if said.out else {"error": said.err}


def test_an_equal_policy_reaches_everybody(
    fleet: Fleet, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    digest = fleet.publish("equal", files["equal"], "candidate")
    fleet.work(20)
    status, answer = command(fleet, capsys, "--stages", "1,50%,100%")
    assert (status, answer["state"], answer["sizes"]) == (0, "running", [1, 3, 6])
    assert sorted(fleet.runs().values()).count("equal") == 1
    (canary,) = (robot for robot in fleet.registry.robots() if robot.assigned)
    assert canary.rule == {
        "fallback": fleet.registry.aliases()["stable"], "max_safety_events": 0, "max_episodes": 100
    }  # fmt: skip
    seen = {1}
    for _ in range(60):
        fleet.work(25)
        fleet.conductor.look()
        seen.add(list(fleet.runs().values()).count("equal"))
        if fleet.registry.rollouts()[0].state == "passed":
            break
    assert seen == {1, 3, 6} and fleet.registry.aliases()["stable"] == digest
    assert {robot.assigned for robot in fleet.registry.robots()} == {None}
    status, answer = command(fleet, capsys)
    assert (status, answer["state"]) == (0, "passed")
    # Whoever looks again finds what was written down.
    assert progress_of(fleet.registry, fleet.registry.rollout(1)).state == "passed"
    assert main(["fleet", "rollout", "candidate", "--store", str(fleet.store)]) == 0
    assert "stage 3: 6 robots, passed" in capsys.readouterr().out
    assert [entry.what for entry in fleet.registry.audit(100)].count("rollout passed") == 1


def test_a_bad_policy_goes_back_by_itself(
    fleet: Fleet, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.publish("bad", files["bad"], "candidate")
    command(fleet, capsys)
    status, answer = command(fleet, capsys, "--delta", "0.2")
    assert status == 2 and "other rules (delta)" in answer["error"]
    for _ in range(40):
        fleet.work(5)
        fleet.conductor.look()
        assert list(fleet.runs().values()).count("bad") <= 1
    assert set(fleet.runs().values()) == {"old"} and fleet.registry.rollouts()[0].state == "failed"
    status, answer = command(fleet, capsys)
    assert status == 1 and "worse than the stable policy" in answer["reason"]
    fleet.conductor.look()
    entries = len(fleet.registry.audit(1000))
    fleet.conductor.look()
    assert len(fleet.registry.audit(1000)) == entries


def test_a_safety_event_or_a_person_ends_it(
    fleet: Fleet, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.publish("equal", files["equal"], "candidate")
    command(fleet, capsys)
    status, answer = command(fleet, capsys, "--abort")
    assert (status, answer["state"], answer["reason"]) == (0, "failed", "ended by hand")
    assert set(fleet.runs().values()) == {"old"}
    command(fleet, capsys, "--stages", "2,100%")
    fleet.work(1, safety_events=1)
    fleet.conductor.look()
    assert fleet.registry.rollouts()[0].state == "failed" and set(fleet.runs().values()) == {"old"}


def test_what_cannot_be_rolled_out_is_told(
    fleet: Fleet, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no policy" in command(fleet, capsys)[1]["error"]
    fleet.publish("equal", files["equal"], "candidate")
    for words, told in (
        (("--stages", "0"), "one robot or more"),
        (("--stages", "50"), "there are 6"),
        (("--min-success", "90"), "between 0 and 1"),
        (("--abort",), "is under way"),
    ):
        status, answer = command(fleet, capsys, *words)
        assert status == 2 and told in answer["error"]
    assert fleet.registry.rollouts() == []
    assert main(["fleet", "rollout", "stable", "--store", str(fleet.store)]) == 2
    assert "stable policy already" in capsys.readouterr().err
