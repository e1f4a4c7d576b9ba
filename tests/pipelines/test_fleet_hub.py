"""Hub and agents over the real link: what is told arrives once, what is offered is checked, strangers are refused."""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("cryptography")
pytest.importorskip("zenoh")

from hardware.fleet.agent import Agent, Settings, resume
from hardware.fleet.certificates import Authority, Identity
from hardware.fleet.link import Endpoint, key, open_robot
from hardware.fleet.messages import Answer, Batch, Message, Offer, Refused
from hardware.fleet.outbox import Outbox, OutboxFull
from hardware.fleet.signing import Manifest, Signer
from hardware.fleet.talk import Talk
from pipelines.fleet.enrolling import enroll
from pipelines.fleet.hub.hub import Hub
from pipelines.fleet.registry.registry import Registry
from sim2real.errors import Sim2RealError, UserError
from tests.pipelines.small_policy import small_policy

pytestmark = pytest.mark.realtime

WAIT = 30.0
"""s that anything may take on a busy machine."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Fleet:
    """A store, a hub in threads of this process, and the folders of robots."""

    def __init__(self, folder: Path, scheme: str) -> None:
        self.folder = folder
        self.registry = Registry.open(folder / "fleet", create=True)
        self.endpoint = Endpoint(scheme, "127.0.0.1", free_port())
        self.lines: list[str] = []
        self.identities = {name: self.enroll(name) for name in ("a1", "a2")}
        self.hub: Hub | None = None
        self.start()

    def enroll(self, name: str) -> Identity:
        _, folder = enroll(
            self.registry, name, by="ann", days=1, out=self.folder / f"{name}_{time.time_ns()}"
        )
        return Identity.read(folder)

    def start(self) -> None:
        self.hub = Hub(self.registry, [self.endpoint], log=self.lines.append)
        self._thread = threading.Thread(target=self.hub.run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self.hub is not None:
            self.hub.stop()
            self._thread.join(WAIT)
            self.hub = None

    def agent(self, name: str, said: list[str], **more: Any) -> Agent:
        settings = Settings(
            hub=self.endpoint,
            identity=self.identities[name],
            state=self.folder / f"state_{name}",
            heartbeat=0.05,
            **more,
        )
        return Agent(settings, said.append)

    def until(self, true: Callable[[], Any], *agents: Agent) -> None:
        end = time.monotonic() + WAIT
        while not true():
            assert time.monotonic() < end, f"hub: {self.lines}"
            for agent in agents:
                agent.step(time.monotonic())
            time.sleep(0.02)


@pytest.fixture
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, getattr(request, "param", "tls"))
    yield made
    made.stop()
    made.registry.close()


def leave_result(folder: Path, name: str, **trial: Any) -> None:
    """What a run of `deploy` leaves, as far as an agent reads it."""
    rows = [{"episode": 0, "success": True, "judge": "estimate", "seconds": 3.0, "interventions": 0, **trial}]
    part = folder / f".{name}.part"
    part.mkdir(parents=True)
    (part / "result.json").write_text(json.dumps({"task": "reach", "trials": rows, "faults": []}))
    part.rename(folder / name)


@pytest.mark.parametrize("fleet", ["tcp", "tls"], indirect=True)
def test_what_happens_while_the_hub_is_away_is_told_later_and_once(fleet: Fleet) -> None:
    said: list[str] = []
    agent = fleet.agent("a1", said)
    runs = agent.settings.folder
    leave_result(runs, "1", success=False)
    fleet.until(lambda: len(fleet.registry.episodes()) == 1, agent)
    fleet.stop()
    leave_result(runs, "2", interventions=1)
    fleet.until(lambda: any(line.startswith("offline") for line in said), agent)
    agent._end()
    agent = fleet.agent("a1", said)  # again, with what its disk remembers
    leave_result(runs, "3")
    fleet.start()
    fleet.until(lambda: len(fleet.registry.episodes()) == 3 and not len(agent.outbox), agent)
    assert [e.success for e in fleet.registry.episodes(robot="a1")] == [False, True, True]
    fleet.until(lambda: fleet.registry.robot("a1").state == "watching", agent)
    agent._end()
    fleet.until(lambda: fleet.registry.robot("a1").state == "offline")


def test_a_policy_is_taken_up_only_with_its_publishers_signature(fleet: Fleet) -> None:
    said: list[str] = []
    agent = fleet.agent("a1", said)
    good = fleet.registry.publish(small_policy(fleet.folder / "p" / "policy.onnx"), by="ann", alias="stable")
    fleet.until(lambda: agent.chosen == good.digest, agent)
    assert agent.shelf.take(good.digest).read_bytes() == fleet.registry.content(good.digest)
    # A hub in other hands signs with a key of its own.
    foreign = fleet.folder / "eve.pem"
    Signer.at(foreign, create=True)
    bad = fleet.registry.publish(
        small_policy(fleet.folder / "q" / "policy.onnx", seed=1), by="eve", key=foreign
    )
    fleet.registry.assign(["a1"], bad.digest, by="eve")
    fleet.until(lambda: any("not its publisher's" in line for line in said), agent)
    assert agent.chosen == good.digest and not agent.shelf.has(bad.digest)
    # What is on the robot's own disk is looked at again before each run.
    agent.shelf.path(good.digest).write_bytes(b"something else")
    with pytest.raises(Exception, match="what came is"):
        agent.shelf.take(good.digest)
    fleet.until(lambda: any("said" in event.body for event in fleet.registry.events(robot="a1")), agent)
    agent._end()


def test_a_disk_that_is_full_costs_nothing_that_was_told(fleet: Fleet) -> None:
    said: list[str] = []
    agent = fleet.agent("a1", said)
    fleet.until(lambda: agent._online, agent)
    (pages,) = agent.outbox._base.execute("PRAGMA page_count").fetchone()
    agent.outbox._base.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(40):
        leave_result(agent.settings.folder, str(number), note="x" * 300)
    with pytest.raises(Sim2RealError, match="full"):
        agent._read_results()
    agent.outbox._base.execute("PRAGMA max_page_count = 100000")
    fleet.until(lambda: len(fleet.registry.episodes()) == 40, agent)
    agent._end()


def test_a_stop_holds_until_a_person_says_so(fleet: Fleet) -> None:
    said: list[str] = []
    agent = fleet.agent("a2", said)
    fleet.registry.request_stop(["a2"], by="ann")
    fleet.until(lambda: agent.memory.held, agent)
    fleet.registry.lift_stop(None, by="ann")  # no message starts it again
    agent._end()
    agent = fleet.agent("a2", said)
    fleet.until(lambda: fleet.registry.robot("a2").state == "held", agent)
    resume(agent.settings.state)
    fleet.until(lambda: not agent.memory.held, agent)
    fleet.until(lambda: any(e.kind == "intervention" for e in fleet.registry.events(robot="a2")), agent)
    agent._end()


def test_one_robot_cannot_speak_for_another(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, "tls")
    try:
        mine = fleet.identities["a1"]
        tls = (mine.authority, mine.certificate, mine.key)
        session = open_robot(fleet.endpoint, tls)
        batch = Batch("0" * 16, "1" * 16, mine.fingerprint, "idle", None, "", "", {}).encode()

        def answers(name: str) -> list[bytes]:
            return [
                bytes(reply.ok.payload)
                for reply in session.get(key(name, "in"), payload=batch, timeout=2.0)
                if reply.ok
            ]

        fleet.until(lambda: answers("a1"))
        assert answers("a2") == [] and not fleet.registry.robot("a2").last_seen
        session.close()
        # The former certificate of a robot that was enrolled again is refused, with the reason on both sides.
        fleet.enroll("a1")
        said: list[str] = []
        agent = fleet.agent("a1", said)
        fleet.until(lambda: any("was last enrolled with" in line for line in said), agent)
        assert any("refused from a1" in line and "was last enrolled with" in line for line in fleet.lines)
        agent._end()
        # So is that of another fleet's authority.
        other = Authority(tmp_path / "other", create=True)
        other.issue_to(tmp_path / "foreign", "a1", "nothing")
        foreign = Identity.read(tmp_path / "foreign")
        talk = Talk("a1", fleet.endpoint, (foreign.authority, foreign.certificate, foreign.key))
        assert "the hub's certificate is refused" in talk.reason()
        talk = Talk("a1", fleet.endpoint, (mine.authority, foreign.certificate, foreign.key))
        assert "the hub refuses our certificate" in talk.reason()
    finally:
        fleet.stop()
        fleet.registry.close()


def test_folders_that_are_not_this_robots(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", create=True)
    for name, days in (("a1", 1), ("a2", 1), ("old", -1)):
        authority.issue_to(tmp_path / name, name, "key", days)
    Authority(tmp_path / "ca2", create=True).issue_to(tmp_path / "foreign", "a1", "key")
    shutil.copy(tmp_path / "a2" / "robot.key", tmp_path / "a1")
    shutil.copy(tmp_path / "a2" / "ca.crt", tmp_path / "foreign")
    for folder, why in (
        ("a1", "is not that of"),
        ("old", "expired on"),
        ("foreign", "is not of the authority"),
        ("x", "lacks"),
    ):
        with pytest.raises(UserError, match=why):
            Identity.read(tmp_path / folder)
    assert Identity.read(tmp_path / "a2").name == "a2"


BATCH = Batch(
    "0" * 16, "1" * 16, "2" * 64, "idle", None, "", "", {}, (Message(1, "episode", 5.0, {"seconds": 3.0}),)
)
MANIFEST = Manifest("3" * 64, 10, "reach", "so101", "p", 1.0)


def test_messages_say_the_same_on_both_sides() -> None:
    read = Batch.decode(BATCH.encode())
    assert read.messages[0].body["success"] is None and replace(read, messages=()) == replace(
        BATCH, messages=()
    )
    offer = Offer(MANIFEST, "sig", max_safety_events=0, fallback=Offer(MANIFEST, "other"))
    answer = Answer(acknowledged=3, offer=offer, stop="now")
    assert Answer.decode(answer.encode()) == answer


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda raw: raw.update(v=2), "version 1"),
        (lambda raw: raw.update(extra=1), "has no 'extra'"),
        (lambda raw: raw.pop("outbox"), "lacks 'outbox'"),
        (lambda raw: raw.update(state="x" * 65), "at most 64"),
        (lambda raw: raw.update(policy="../../etc/passwd"), "64 hexadecimal"),
        (lambda raw: raw.update(details={"a": "x" * 9000}), "at most 8192 bytes"),
        (lambda raw: raw.update(messages=[raw["messages"][0]] * 201), "at most 200"),
        (lambda raw: raw["messages"][0].update(sequence=True), "sequence must be"),
        (lambda raw: raw["messages"][0].update(kind="command"), "one of episode"),
        (lambda raw: raw["messages"][0]["body"].update(seconds=float("nan")), "NaN is no number"),
        (lambda raw: raw["messages"][0]["body"].update(seconds="3"), "seconds must be"),
        (lambda raw: raw["messages"][0]["body"].update(success=1), "success must be"),
    ],
)
def test_what_is_not_as_agreed_is_refused(change: Callable[[dict[str, Any]], Any], why: str) -> None:
    raw = json.loads(BATCH.encode())
    change(raw)
    with pytest.raises(Refused, match=why):
        Batch.decode(json.dumps(raw).encode())


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"[" * 100_000, b"[]", b"{}", b"x" * (1 << 21), b'{"v":1e999}']
)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        Batch.decode(data)


def test_texts_that_a_database_would_not_keep_are_refused() -> None:
    for text in ("\\u0000", "\\ud800"):
        data = BATCH.encode().replace(b'"idle"', f'"x{text}"'.encode())
        with pytest.raises(Refused, match="no JSON"):
            Batch.decode(data)
    assert Batch.decode(replace(BATCH, state="grüße 🦾").encode()).state == "grüße 🦾"


def test_an_outbox_drops_what_is_unimportant_and_old_and_never_an_episode(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox.db", quota=1700)
    for number in range(3):
        box.add("state", {"n": number, "text": "x" * 300})
    box.add("intervention", {"text": "x" * 300})
    for number in range(2):
        box.add("episode", {"seconds": float(number)})
    kinds = [(m.kind, m.body.get("n")) for m in box.next(100)]
    assert kinds == [("state", 1), ("state", 2), ("intervention", None), ("episode", None), ("episode", None)]
    last = box.next(100)[-1].sequence
    with pytest.raises(OutboxFull):
        for _ in range(20):
            box.add("episode", {"seconds": 1.0})
    left = box.next(100)
    assert {m.kind for m in left} == {"episode"} and box.size <= 1700
    box.acknowledge(last)
    box.close()
    box = Outbox(tmp_path / "outbox.db", quota=1700)
    assert [m.sequence for m in box.next(100)] == [m.sequence for m in left if m.sequence > last]
    box.acknowledge(left[-1].sequence)
    box.add("episode", {"seconds": 2.0})
    assert box.next(1)[0].sequence > left[-1].sequence and len(box) == 1  # a number is given once
    box.close()


@pytest.mark.slow
def test_nothing_is_lost_or_there_twice_when_hub_agents_and_link_die(tmp_path: Path) -> None:
    """More of it: benchmarks/fleet_kills.py."""
    from pipelines.reliability.fleet_kills import fleet_kills

    result = fleet_kills(tmp_path, kills=4, seed=0, robots=1, pause=0.5)
    assert sum(result["kills"].values()) == 4 and result["episodes"] > 4
    assert result["lost"] == result["twice"] == 0


def test_an_agent_loads_no_training_framework() -> None:
    """Nor anything else that takes long: it starts in about a second and stays small."""
    code = (
        "import sys, zenoh, hardware.fleet.agent, hardware.fleet.certificates, sim2real.tasks.registry\n"
        "from pipelines.commands._fleet import agent\n"
        "print(*sorted({'torch', 'lightning', 'scipy', 'numba', 'pyarrow', 'sqlalchemy'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == ""
    )
