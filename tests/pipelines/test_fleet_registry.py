"""The registry: what is published is signed and whole, what robots tell is kept once, what was done stays noted."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("cryptography")

from hardware.fleet.certificates import Identity
from hardware.fleet.messages import Message
from hardware.fleet.signing import Manifest, SignatureError, Signer, Verifier
from pipelines.cli import main
from pipelines.fleet.registry.records import Reported
from pipelines.fleet.registry.registry import Registry
from sim2real.errors import Sim2RealError, UserError
from tests.pipelines.small_policy import small_policy


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("policies")
    return [small_policy(folder / f"p{seed}" / "policy.onnx", seed=seed) for seed in range(2)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL of our own, on a socket in a folder; nothing listens on the network."""
    pytest.importorskip("psycopg")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    binaries = shutil.which("initdb") or (found and str(found[-1] / "initdb"))
    if not binaries:
        pytest.skip("PostgreSQL's programs are not installed (Debian: apt-get install postgresql)")
    folder = Path(binaries).resolve().parent
    data = tmp_path_factory.mktemp("postgres")
    # The server refuses to run as root.
    user = "postgres" if os.getuid() == 0 else None
    if user:
        try:
            shutil.chown(data, user)
        except LookupError:
            pytest.skip("root cannot run PostgreSQL, and there is no user 'postgres'")
        for above in (data, *data.parents[:3]):
            if above.stat().st_uid == 0 and not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(folder / program), *arguments], user=user, cwd="/", timeout=60, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"PostgreSQL does not run here: {done.stderr.strip()[-200:]}")

    run("initdb", "-D", f"{data}/db", "-U", "fleet", "-A", "trust", "--no-sync")
    options = f"-c listen_addresses= -k {data} -c fsync=off"
    run("pg_ctl", "-D", f"{data}/db", "-w", "-l", f"{data}/log", "-o", options, "start")
    yield f"postgresql://fleet@/postgres?host={data}"
    run("pg_ctl", "-D", f"{data}/db", "-w", "-m", "immediate", "stop")


@pytest.fixture(params=["sqlite", "postgresql"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    url = None
    if request.param == "postgresql":
        import psycopg

        url = request.getfixturevalue("server")
        name = "fleet_" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        url = url.replace("/postgres?", f"/{name}?")
    with Registry.open(tmp_path / "fleet", url, create=True) as opened:
        yield opened


def episode(sequence: int, success: bool | None = True, **body: object) -> Message:
    return Message(sequence, "episode", 1e9 + sequence, {"seconds": 5.0, "success": success, **body})


def test_a_policy_is_kept_by_its_content_signed_and_called(registry: Registry, files: list[Path]) -> None:
    policy = registry.publish(files[0], by="ann", alias="stable", lineage={"benchmark": "runs/b"})
    assert registry.publish(files[0], by="bob", alias="candidate") == policy  # once is enough
    other = registry.publish(files[1], by="ann", alias="candidate")
    assert registry.aliases() == {"candidate": other.digest, "stable": policy.digest}
    assert registry.policy("stable") == registry.policy(policy.digest[:9]) == policy
    assert policy.lineage["benchmark"] == "runs/b" and policy.lineage["training"] == {"seed": 0}
    assert registry.content(policy.digest) == files[0].read_bytes()
    manifest = Manifest.from_json(policy.manifest)
    manifest.check_content(files[0].read_bytes())
    public = Verifier(Signer.at(registry.publisher_key).public)
    public.check(manifest, policy.signature)
    with pytest.raises(SignatureError, match="not its publisher's"):
        public.check(manifest, other.signature)
    with pytest.raises(SignatureError, match="what came is"):
        manifest.check_content(files[1].read_bytes())
    with pytest.raises(UserError, match="did you mean 'stable'"):
        registry.policy("stabel")
    Path(registry.objects.path(policy.digest)).write_bytes(b"something else")
    with pytest.raises(Sim2RealError, match="is damaged"):
        registry.content(policy.digest)


def test_what_comes_twice_is_kept_once(registry: Registry) -> None:
    registry.enroll("a1", by="ann", site="hall 2", strata={"firmware": "3.9"})
    sent = [episode(1), episode(2, False), episode(3, None, interventions=2, camera="wide")]
    assert registry.ingest([("a1", "box", sent[:2])]) == 2
    assert registry.ingest([("a1", "box", sent), ("a1", "box", sent[2:])]) == 1
    assert registry.ingest([("a1", "another box", sent[:1])]) == 1  # a disk that was replaced counts anew
    assert registry.ingest([("a1", "box", [Message(4, "state", 1e9, {"state": "idle"})])]) == 1
    got = registry.episodes(robot="a1")
    assert [(e.outbox, e.sequence, e.success) for e in got] == [
        ("box", 1, True), ("box", 2, False), ("box", 3, None), ("another box", 1, True)
    ]  # fmt: skip
    assert (got[2].site, got[2].firmware, got[2].camera, got[2].interventions) == ("hall 2", "3.9", "wide", 2)
    assert registry.episodes(after=got[1].id, limit=1) == [got[2]]
    assert [event.body for event in registry.events()] == [{"state": "idle"}]
    assert registry.counts()["robot"] == {"a1": (4, 3, 2, 2, 0)}
    with pytest.raises(UserError, match="no robot 'a2' is enrolled"):
        registry.ingest([("a1", "box", [episode(9)]), ("a2", "box", sent)])
    assert len(registry.episodes()) == 4  # all of it or nothing


def test_what_robots_are_to_run_and_whether_to_stop(registry: Registry, files: list[Path]) -> None:
    policy = registry.publish(files[0], by="ann")
    for name in ("b1", "b2"):
        registry.enroll(name, by="ann")
    registry.assign(["b1"], policy.digest, by="rollout 1", rule={"max_safety_events": 0})
    registry.seen(
        {"b2": (5.0, Reported("running", policy.digest, firmware="4")), "nobody": (5.0, Reported("x"))}
    )
    first, second = (registry.robot(name) for name in ("b1", "b2"))
    assert first.assigned == policy.digest and first.rule == {"max_safety_events": 0}
    assert (second.state, second.policy, second.last_seen, second.firmware) == (
        "running",
        policy.digest,
        5.0,
        "4",
    )
    assert registry.request_stop(["b2"], by="ann") == ["b2"]
    assert registry.robot("b2").stop and not registry.robot("b1").stop
    registry.lift_stop(None, by="ann")
    assert registry.robot("b2").stop is None
    rollout = registry.start_rollout(policy.digest, baseline=None, plan={"stages": [1]}, by="ann")
    registry.save_rollout(rollout.id, by="rollout", progress={"stage": 1})
    ended = registry.save_rollout(rollout.id, by="rollout", state="failed")
    assert ended.progress == {"stage": 1} and ended.ended and registry.rollouts("failed") == [ended]


def test_the_audit_log_is_only_added_to_and_shows_what_was_changed_all_the_same(registry: Registry) -> None:
    from sqlalchemy import text

    registry.enroll("c1", by="ann")
    registry.note("bob", "looked", {"at": "c1"})
    entries = registry.audit()
    assert entries[-1].who == "bob" and entries[-1].previous == entries[-2].hash
    assert registry.check_audit() is None
    for change in ("UPDATE audit SET who = 'eve'", "DELETE FROM audit"):
        with (
            pytest.raises(Sim2RealError, match="only ever added to"),
            registry.database.write() as connection,
        ):
            connection.execute(text(change))
    drop = "DROP TRIGGER audit_no_update" if registry.database.lite else "DROP TRIGGER audit_kept ON audit"
    with registry.database.write() as connection:
        connection.execute(text(drop))
        connection.execute(text("UPDATE audit SET who = 'eve' WHERE what = 'looked'"))
    assert registry.check_audit() == entries[-1].id


def test_stores_that_are_none_and_databases_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no fleet's store"):
        Registry.open(tmp_path / "nothing")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="exists and is no fleet's store"):
        Registry.open(tmp_path / "mine", create=True)
    for url in ("postgresql://fleet:secret@/x?host=/nowhere", "nonsense", "sqlite:////nowhere/x.db"):
        with pytest.raises(UserError, match="cannot open the fleet's database") as error:
            Registry.open(tmp_path / "f", url, create=True)
        assert "secret" not in str(error.value)


def test_the_commands_publish_enroll_and_tell(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "fleet")

    def said(*arguments: str) -> dict[str, object]:
        assert main(["fleet", *arguments, "--store", store, "--json"]) == 0
        return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]

    published = said("publish", str(files[0]), "--alias", "candidate", "--lineage", "data=recordings")
    assert published["aliases"] == ["candidate"]
    enrolled = said("enroll", "a1", "--site", "hall")
    identity = Identity.read(str(enrolled["folder"]))
    assert identity.name == "a1" and identity.fingerprint == enrolled["fingerprint"]
    assert identity.key.stat().st_mode & 0o077 == 0
    assert said("stop", "--robot", "a1") == {"robots": ["a1"], "stop": True}
    status = said("status")
    assert status["robots"][0]["name"] == "a1" and status["robots"][0]["stop"]  # type: ignore[index]
    assert status["audit"] == {"entries": 4, "broken_at": None}
    assert main(["fleet", "status", "--store", store]) == 0
    assert "1 robots, 0 online" in capsys.readouterr().out
    for wrong in (
        ["enroll", "A 1"],
        ["enroll", "hub"],
        ["enroll", "a2", "--days", "0"],
        ["publish", "nothing.onnx"],
    ):
        assert main(["fleet", *wrong, "--store", store]) == 2


def test_a_task_that_does_not_ship_is_not_published(tmp_path: Path) -> None:
    with (
        Registry.open(tmp_path / "fleet", create=True) as registry,
        pytest.raises(UserError, match="its author's"),
    ):
        registry.publish(small_policy(tmp_path / "p.onnx", task="evil:Task"), by="eve")
