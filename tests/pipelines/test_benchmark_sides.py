"""Groups of randomization alone, settings that are faster, several policies, and clips."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines import benchmark
from pipelines.benchmarks.clips import moving
from pipelines.benchmarks.robustness import GROUPS, alone, group_of
from pipelines.benchmarks.simulated import SimulatedTrials
from pipelines.benchmarks.speed import Hurried, pareto
from pipelines.cli import main
from pipelines.sweeps.plan import all_parameters
from pipelines.sweeps.simulated import make_plan
from sim2real.identity import differences
from sim2real.observation import Observation


@pytest.mark.parametrize("task", ["reach", "lift", "table/cube_in_bowl"])
def test_every_declared_parameter_is_of_a_group(task: str) -> None:
    names = [name for name in all_parameters("so101", task) if not name.startswith("task.")]
    assert names and [name for name in names if group_of(name) is None] == []
    assert {group_of(name) for name in names} <= set(GROUPS)


def test_a_group_alone_keeps_the_starts_and_nothing_else() -> None:
    whole = SimulatedTrials(make_plan(task="lift", policy="expert", draws=2))
    groups = alone({"lift": whole})
    assert set(groups) == {"nothing", *GROUPS}
    draw, servo = whole.draws(2)[1], groups["servo"]["lift"].draws(2)[1]
    assert servo.seed == draw.seed
    assert {name.split(".")[0] for name in servo.values} == {"servo", "task"}
    assert all(draw.values[name] == value for name, value in servo.values.items())
    assert {name.split(".")[0] for name in groups["nothing"]["lift"].draws(1)[0].values} == {"task"}
    # Together they are the whole draw.
    parts = [tasks["lift"].draws(2)[1].values for tasks in groups.values()]
    assert {name for part in parts for name in part} == set(draw.values)


class Counts:
    """Says how often it was asked, in every action."""

    horizon = 4

    def reset(self, seed: int) -> None:
        self.asked = 0

    def act(self, observation: Observation) -> np.ndarray:
        self.asked += 1
        return self.asked + np.arange(4)[:, None] / 10


def test_a_policy_that_is_asked_less_often_plays_its_chunks_on() -> None:
    policy = Hurried(Counts(), every=3, keep=2)
    policy.reset(0)
    rows = [policy.act({})[:, 0].tolist() for _ in range(4)]
    assert rows == [[1.0, 1.1], [1.1, 1.1], [1.1, 1.1], [2.0, 2.1]]


def test_the_front_has_whom_nobody_beats() -> None:
    assert pareto([0.9, 0.8, 0.9, 0.5, 0.0], [2.0, 1.0, 3.0, 1.5, None]) == [True, True, False, False, False]


def test_a_clip_moves(tmp_path: Path) -> None:
    from PIL import Image

    frames = [np.full((18, 24, 3), 40 * k, dtype=np.uint8) for k in range(4)]
    (tmp_path / "c.gif").write_bytes(moving(frames, 0.2))
    with Image.open(tmp_path / "c.gif") as image:
        assert image.n_frames == 4 and image.size == (24, 18)


@pytest.mark.slow
def test_groups_settings_policies_and_clips_in_one_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b"
    words = [
        "benchmark",
        "--policy",
        "zero",
        "--task",
        "reach",
        "--trials",
        "2",
        "--workers",
        "0",
        "--clips",
        "1",
    ]
    more = ["--against", "expert", "--against", "random", "--robustness", "--json", "--out", str(out)]
    assert main([*words, *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["robustness"][0]["group"] == "nothing"
    assert {"servo", "delay", "all"} <= {row["group"] for row in found["robustness"]}
    assert found["against"]["difference"] == -1.0
    assert found["policies"][0]["policy"] == "expert" and len(found["comparisons"]) == 2
    assert (out / found["clips"][0]["file"]).read_bytes()[:3] == b"GIF"
    report = (out / "report.html").read_text()
    assert "data:image/gif" in report and "Which randomization costs how much" in report


@pytest.mark.slow
def test_speed_against_quality(tmp_path: Path) -> None:
    found = benchmark(
        "expert", "reach", speed=True, trials=2, out=tmp_path / "b", workers=0, clips=0, progress=False
    ).summary["speed"]
    rows = {(row["setting"], row["value"]): row for row in found}
    assert rows["as it is", None]["success_rate"] == 1.0 and any(row["pareto"] for row in found)
    slow, whole = rows["arm", 0.5], rows["as it is", None]
    assert slow["seconds_to_success"] is None or slow["seconds_to_success"] > whole["seconds_to_success"]
    assert "Speed against quality" in (tmp_path / "b" / "report.html").read_text()


def test_another_version_of_a_task_is_another_benchmark(tmp_path: Path) -> None:
    """Results of a task whose declaration has changed are never mixed in."""
    text = """[[task]]
id = "tidy"
goal = {kind = "raised", a = "cube"}
language = "lift the red cube"
horizon = 14.0

    [[task.object]]
    name = "cube"
    kind = "cube"
    size = 0.025
    colour = "red"
    mass = 0.02
"""
    identities = []
    for version in (text, text.replace("mass = 0.02", "mass = 0.03")):
        (tmp_path / "own.toml").write_text(version)
        plan = make_plan(task=str(tmp_path / "own.toml"), policy="expert", draws=2)
        identities.append(SimulatedTrials(plan).identity())
    assert identities[0]["task"] == identities[1]["task"]
    assert list(differences(*identities))
