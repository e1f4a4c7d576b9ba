"""The fleet's pages and /metrics: what they show, whom they answer, and that nothing that robots say becomes more."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("cryptography")
pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from hardware.fleet.messages import Message
from pipelines.cli import main
from pipelines.fleet.conductor import Conductor, begin
from pipelines.fleet.dashboard.server import Dashboard
from pipelines.fleet.registry.records import Reported
from pipelines.fleet.registry.registry import Registry
from pipelines.fleet.rollout.plan import Rules
from tests.pipelines.small_policy import small_policy
from tests.pipelines.test_browser_view import ask

CHROMIUM = shutil.which("chromium")
EVIL = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dashboard, Registry]]:
    folder = tmp_path_factory.mktemp("fleet")
    runs = folder / "robots" / "a1" / "runs" / "run-1"
    (runs / "videos" / "chunk-000" / "front").mkdir(parents=True)
    (runs / "videos" / "chunk-000" / "front" / "episode_000000.mp4").write_bytes(b"moving")
    (folder / "secret.mp4").write_bytes(b"secret")
    with Registry.open(folder / "store", create=True) as registry:
        for i in range(3):
            registry.enroll(f"a{i}", by="t", site="hall 1")
        old, new = (
            registry.publish(
                small_policy(folder / f"{seed}" / "policy.onnx", seed=seed), by="t", alias=alias
            ).digest
            for seed, alias in enumerate(("stable", "candidate"))
        )
        registry.seen({"a1": (1.0, Reported(EVIL, old, details={"note": EVIL}))})
        rollout = begin(registry, registry.policy(new), "1,100%", Rules(), by="t")
        canary = next(robot.name for robot in registry.robots() if robot.assigned)
        for name in ("a0", "a1", "a2"):
            policy = new if name == canary else old
            body = {"policy": policy, "task": EVIL, "seconds": 2.0, "interventions": 1}
            runs_told = ["run-1", "../../..", 5, "run-1/../.."]
            many = [
                Message(
                    i + 1, "episode", 0.0,
                    {**body, "success": i % 4 > 0, "details": {"run": runs_told[i % 4], "episode": 0}},
                )
                for i in range(8)
            ]  # fmt: skip
            registry.ingest([(name, "box", many)])
        Conductor(registry).look()
        assert registry.rollout(rollout.id).progress["episodes"] == 8
        server = Dashboard(registry, runs=[folder / "robots"])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, registry
        server.shutdown()
        server.server_close()


def test_pages_show_what_the_registry_knows(fleet: tuple[Dashboard, Registry]) -> None:
    server, registry = fleet
    digest = registry.aliases()["stable"]
    shown = {}
    for path in ("", "robot/a1", f"policy/{digest}", "rollout/1", "episode/1"):
        status, headers, content = ask(server.url + path)
        html = shown[path] = content.decode()
        assert status == 200 and "script-src" not in headers["Content-Security-Policy"]
        assert "<script" not in html, "nothing that a robot says is run"
        assert not re.search(r"(?:src|href|action)=.(?:https?:)?//", html), "something comes from elsewhere"
    assert "6 of 8" in shown[""] and "hall 1" in shown[""] and "Rollout 1: running" in shown[""]
    assert "polyline" in shown["rollout/1"] and "site=hall 1" in shown["rollout/1"]
    assert 'href="/episode/1"' in shown[""]
    for path in (
        "robot/none",
        "policy/ffff",
        "rollout/9",
        "rollout/x",
        "episode/999",
        "episode/x",
        "robot/..%2f",
    ):
        assert ask(server.url + path)[0] == 404
    assert ask(server.url, Origin="http://attacker.example")[0] == 403
    assert ask(server.url + "metrics", Host="attacker.example")[0] == 403
    assert ask(server.url, b"stop=1")[0] == 405


def test_an_episodes_video_is_one_click_away_and_nothing_else_is(fleet: tuple[Dashboard, Registry]) -> None:
    server, registry = fleet
    episodes = [one for one in registry.episodes(robot="a1")]
    first = episodes[0].id
    assert f'src="/episode/{first}/video/0"' in ask(f"{server.url}episode/{first}")[2].decode()
    assert ask(f"{server.url}episode/{first}/video/0")[2] == b"moving"
    assert ask(f"{server.url}episode/{first}/video/1")[0] == 404
    # What the others name as their runs leads out of the folder, or is no name.
    for one in episodes[1:4]:
        assert server.folder(one) is None
        assert b"not on this machine" in ask(f"{server.url}episode/{one.id}")[2]


def test_metrics_are_what_prometheus_reads_and_the_board_asks_for(
    fleet: tuple[Dashboard, Registry], capsys: pytest.CaptureFixture[str]
) -> None:
    server, _ = fleet
    found = {}
    for family in text_string_to_metric_families(ask(server.url + "metrics")[2].decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    assert sum(value for _, value in found["sim2real_fleet_robots"]) == 3
    assert sum(value for _, value in found["sim2real_fleet_policy_successes_total"]) == 18
    assert sum(value for _, value in found["sim2real_fleet_robot_interventions_total"]) == 24
    assert {labels["claim"] for labels, _ in found["sim2real_fleet_rollout_evidence"]} == {
        "worse",
        "not worse",
    }
    assert not [name for name in found if not name.startswith("sim2real_fleet_")]
    assert main(["fleet", "dashboard", "--board"]) == 0
    board = json.loads(capsys.readouterr().out)
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"sim2real_fleet_\w+", target["expr"])
    }
    assert len(asked) > 8 and asked <= set(found)


def test_words_that_are_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words, told in (
        (("--store", str(tmp_path), "--listen", "0.0.0.0:80"), "port of this machine"),
        (("--store", str(tmp_path), "--runs", str(tmp_path / "no")), "no folder"),
        (("--store", str(tmp_path / "no")), "no fleet's store"),
    ):
        assert main(["fleet", "dashboard", *words]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_it(fleet: tuple[Dashboard, Registry], tmp_path: Path) -> None:
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--no-first-run"]
    done = subprocess.run(
        [str(CHROMIUM), *words, "--dump-dom", fleet[0].url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Success by site" in done.stdout and "polyline" in done.stdout, done.stderr[-2000:]
