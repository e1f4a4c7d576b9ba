"""Reports: complete without a network, true to their data, for every kind of run."""

import base64
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from pipelines.reports.figures import thin
from pipelines.reports.report import try_report, write_report
from randomization.distributions import Uniform
from randomization.space import Space
from randomization.sweep import run_sweep
from sim2real.errors import UserError
from sim2real.parameters import Draw, Parameter

PARAMETERS = {
    p.name: p
    for p in (
        Parameter("object.mass", 0.02, "kg", 0.01, 0.1, "log"),
        Parameter("object.<friction>", 0.8, "", 0.3, 1.5),
        Parameter("task.cube.radius", 0.2, "m", 0.17, 0.27),
    )
}
RUN = {"arguments": ["some", "--flag"], "versions": {"numpy": "1"}, "created": "2030-01-01T10:00:00+0000"}


class Page(HTMLParser):
    """Checks nesting and collects what a page would load, and its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.words = ""
        self.feed(text)
        assert not self.open, f"unclosed {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("src", "href", "srcset", "action"):
                self.sources.append(value or "")
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words += data + " "


def read(path: Path) -> Page:
    text = path.read_text()
    page = Page(text)
    for source in page.sources:
        assert source.startswith(("data:", "#")), f"not self-contained: {source[:80]}"
        if source.startswith("data:image/svg+xml;base64,"):
            svg = base64.b64decode(source.split(",", 1)[1])
            ElementTree.fromstring(svg)
            assert b"http://" not in re.sub(rb'xmlns(:\w+)?="[^"]*"|http://purl|http://www.w3', b"", svg)
    assert "@import" not in text and "url(" not in text
    assert " nan" not in page.words.lower()
    return page


def heavy_fails(draw: Draw) -> Mapping[str, Any]:
    success = draw.values["object.mass"] < 0.05
    failure = "" if success else "ended in <dropped> & lost"
    return {"success": success, "stage": "held" if success else "dropped", "failure": failure, "seconds": 2.0}


def always(draw: Draw) -> Mapping[str, Any]:
    return {"success": True, "stage": "held", "seconds": 1.0 + draw.values["task.cube.radius"]}


def make_sweep(
    out: Path, rollout: Any = heavy_fails, draws: int = 120, seed: int = 0, policy: str = "expert"
) -> Path:
    bound = Space({"task.cube.radius": Uniform(0.17, 0.27)}).bind(PARAMETERS)
    identity = {
        "robot": "so101", "task": "hold", "policy": {"name": policy}, "sees": "sensors", "seed": seed,
        "design": {"name": "sobol"}, "nominal": {}, "space": bound.to_dict(),
    }  # fmt: skip
    facts = {
        n: {"unit": p.unit, "low": p.low, "high": p.high, "scale": p.scale} for n, p in PARAMETERS.items()
    }
    about = RUN | {"command": "sweep", "seed": seed, "policy": policy, "parameters": facts}
    run_sweep(
        lambda: rollout,
        bound.draws(draws, seed),
        out,
        identity=identity,
        about=about,
        workers=0,
        progress=False,
    )
    return out


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_a_sweep_names_cause_rate_and_replay(tmp_path: Path) -> None:
    out = make_sweep(tmp_path / "sweep")
    page = read(write_report([out]))
    table = pq.read_table(out / "results.parquet")
    successes = int(np.sum(table["success"].to_numpy(zero_copy_only=False)))
    assert f"{successes / 120:.1%}" in page.words and f"{successes} / 120" in page.words
    assert "object.mass decides most" in page.words
    assert "ended in <dropped> & lost" in page.words  # escaped in the source, whole for the reader
    assert re.search(rf"sweep --replay \d+ --out {re.escape(str(out))}", page.words)
    assert "numpy 1" in page.words and "sim2real some --flag" in page.words
    assert len([s for s in page.sources if s.startswith("data:image/svg")]) >= 5


def test_a_sweep_without_failures_explains_the_time(tmp_path: Path) -> None:
    page = read(write_report([make_sweep(tmp_path / "sweep", always)]))
    assert "task.cube.radius decides most" in page.words and "time to success" in page.words


def test_tiny_sweeps_say_nothing_of_causes(tmp_path: Path) -> None:
    page = read(write_report([make_sweep(tmp_path / "sweep", draws=3)]))
    assert "decides" not in page.words and "/ 3" in page.words


def test_several_runs_share_a_page_and_sweeps_are_paired(tmp_path: Path) -> None:
    a, b = make_sweep(tmp_path / "a"), make_sweep(tmp_path / "b", always, policy="better")
    other = make_sweep(tmp_path / "other", seed=5)
    assert main(["report", str(a), str(b), str(other), "--out", str(tmp_path / "page" / "all.html")]) == 0
    page = read(tmp_path / "page" / "all.html")
    assert page.words.count("Paired comparison") == 1
    assert {"#a", "#b", "#other"} <= set(page.sources)
    assert write_report([a, b]) == tmp_path / "report.html"


def test_training_runs(tmp_path: Path) -> None:
    out = tmp_path / "train"
    rate = {
        "draws": 50,
        "successes": 40,
        "success_rate": 0.8,
        "wilson_95": [0.67, 0.89],
        "stages": {"far": 10},
    }
    write(out / "config.json", RUN | {"command": "pretrain", "settings": {"task": "lift", "robot": "so101"}})
    page = read(write_report([out]))
    assert "no metrics yet" in page.words
    curve = [{"epoch": i, "train_loss": 1 / (i + 1), "val_loss": None, "seconds": i} for i in range(20)]
    rounds = [{"episodes": 10, "pairs": 400, "student_share": 0.5, "success_rate": 0.9, "errors": 0}]
    write(out / "metrics.json", {"curve": curve, "rounds": rounds, "evaluation": rate})
    page = read(write_report([out]))
    assert "Pretraining: lift, so101" in page.words and "80.0% [67.0%, 89.0%]" in " ".join(page.words.split())
    write(out / "config.json", RUN | {"command": "finetune", "settings": {"task": "lift"}})
    write(
        out / "metrics.json",
        {
            "curve": curve,
            "simulation": {"before": rate, "after": rate},
            "held_out_deg": {"before": 2.5, "after": None},
        },
    )
    page = read(write_report([out]))
    assert "success in simulation before" in page.words and "2.50°" in page.words


def arm_run(out: Path) -> Path:
    write(out / "config.json", RUN | {"command": "deploy", "policy": "p.onnx", "settings": {"task": "reach"}})
    result = {
        "episodes": 2, "successes": 1, "success_rate": 0.5, "wilson_95": [0.09, 0.91], "unknown": 0, "rate_hz": 99.9,
        "period_error_ms": {"p50": 0.01, "p99": 0.05, "max": 1.0}, "commands": 400, "clipped": 3, "rejected": 0,
        "overruns": 0, "faults": ["bus silent <3>"], "final_state": "limp_fault",
        "latency_ms": {"p50": 2.0, "max": 5.0},
    }  # fmt: skip
    write(out / "result.json", result)
    episodes: list[dict[str, Any]] = [
        {"episode": 0, "goal": None, "success": True, "judge": "command", "seconds": 2.0, "clipped": 0},
        {"episode": 1, "goal": [0.1, 0.2, 0.3], "success": False, "judge": "", "seconds": 3.0, "clipped": 1},
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(episodes), out / "episodes.parquet")
    t = np.arange(600) / 100
    log = {
        "t": t, "state": ["hold"] * 100 + ["running"] * 400 + ["fault_hold"] * 100, "period_error": 1e-5 * np.sin(t),
        "episode": np.repeat([-1, 0, 1], 200), "position.pan": t, "requested.pan": t, "executed.pan": t,
    }  # fmt: skip
    pq.write_table(pa.table(log), out / "log.parquet")
    return out


def test_runs_on_an_arm(tmp_path: Path) -> None:
    page = read(write_report([arm_run(tmp_path / "deploy")]))
    assert "Fault: bus silent <3>" in page.words and "limp fault" in page.words
    assert "Episode 1: failed" in page.words and "Episode 0: succeeded" in page.words
    assert "Episode -1" not in page.words and "0.100, 0.200, 0.300" in page.words


def test_identification_of_an_arm(tmp_path: Path) -> None:
    out, rng = tmp_path / "twin", np.random.default_rng(0)
    write(out / "config.json", RUN | {"command": "identify", "settings": {"data": "/far/away/tape"}})
    assert "no results yet" in read(write_report([out])).words
    summary = {
        "before_deg": {"pan": 1.5, "jaw": 2.0}, "after_deg": {"pan": 0.4, "jaw": 0.8}, "mean_before_deg": 1.75,
        "mean_deg": 0.6, "episodes": [0, 1], "frames": 100, "seconds": 12.0, "undetermined": ["servo.pan.viscous"],
        "advice": ["viscous of pan: record long moves"], "at_bound": [], "remarks": ["a glitch <here>"],
    }  # fmt: skip
    write(out / "identify.json", summary)
    (out / "twin.toml").write_text('[parameters]\n"servo.pan.viscous" = 0.1\n"servo.pan.speed" = 5.0\n')
    (out / "space.toml").write_text(
        '[parameters]\n"servo.pan.viscous" = {distribution = "uniform", low = 0.0, high = 0.3}\n'
        '"servo.*.speed" = {distribution = "uniform", low = 4.0, high = 6.0, shared = true}\n'
    )
    curves = {
        f"{name}_{e}": rng.normal(size=(50, 2))
        for name in ("command", "recorded", "nominal", "low", "high", "fitted")
        for e in (0, 1)
    }
    curves["recorded_0"][5] = np.nan
    residuals = rng.normal(size=(100, 2))
    np.savez(
        out / "overlay.npz", joints=["pan", "jaw"], before=residuals, after=residuals, episode=[4, 7],
        error=[0.5, 0.9], time_0=np.arange(50) / 30, time_1=np.arange(50) / 30, **curves,
    )  # fmt: skip
    page = read(write_report([out]))
    assert "Identification: tape" in page.words and "1.75°" in page.words and "0.60°" in page.words
    assert "The worst episode (number 7, 0.90°)" in page.words and "a glitch <here>" in page.words
    assert "hardly determined" in page.words and "record long moves" in page.words


def test_identification_of_servos_on_a_bench(tmp_path: Path) -> None:
    out = tmp_path / "bench"
    write(out / "config.json", RUN | {"command": "identify", "settings": {"bench": "/far/bench"}})
    servo = {"mean_deg": 0.7, "runs": {"fast.csv": 0.9, "slow.csv": 0.5}, "parameters": {"kp": 3.0}}
    write(out / "identify.json", {"bench": "/far/bench", "servos": {"sts3215": servo}, "mean_deg": 0.7})
    page = read(write_report([out]))
    assert "Servo sts3215" in page.words and "0.70°" in page.words


def test_a_report_that_fails_is_not_the_runs_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "run" / "config.json", RUN | {"command": "deploy"})
    write(tmp_path / "run" / "result.json", {"nonsense": 1})
    assert try_report(tmp_path / "run") is None
    assert "no report was written" in capsys.readouterr().err
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_run_that_ended_before_it_wrote_anything(tmp_path: Path) -> None:
    write(tmp_path / "run" / "config.json", RUN | {"command": "deploy"})
    assert "no results yet" in read(write_report([tmp_path / "run"])).words


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no config\.json"):
        write_report([tmp_path / "empty"])
    assert main(["report", str(tmp_path / "missing")]) == 2
    assert "no directory" in capsys.readouterr().err
    write(tmp_path / "other" / "config.json", {"command": "cook"})
    with pytest.raises(UserError, match="made by 'cook'"):
        write_report([tmp_path / "other"])


def test_thinning_keeps_the_peaks() -> None:
    y = np.zeros(100_000)
    y[31_415], y[70_000] = 5.0, -3.0
    x, kept = thin(np.arange(100_000), y)
    assert len(kept) <= 1500 and kept.max() == 5.0 and kept.min() == -3.0
    assert (np.diff(x) > 0).all()
