"""`sim2real sweep` and `parameters` in the real world of PyBullet: contract, reproducibility, mistakes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import sim2real
from pipelines.cli import main
from pipelines.sweeps.plan import SweepPlan, all_parameters, compare_sweeps, plan_of
from randomization.space import Space
from sim2real.errors import UserError
from sim2real.statistics import wilson_interval


def sweep(
    out: Path, capsys: pytest.CaptureFixture[str], *arguments: str, task: str = "reach"
) -> dict[str, Any]:
    flags = ["--task", task] if task else []
    status = main(["sweep", *flags, *arguments, "--workers", "0", "--out", str(out), "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    answer = json.loads(captured.out)
    assert isinstance(answer, dict)
    return answer


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of 40 draws of reach, run in two worker processes by the command line."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    command = [
        sys.executable,
        "-m",
        "pipelines",
        "sweep",
        "--task",
        "reach",
        "--draws",
        "40",
        "--policy",
        "expert",
    ]
    result = subprocess.run(
        [*command, "--workers", "2", "--out", out, "--json"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    (out / "answer.json").write_text(result.stdout)
    return out


def test_draws_of_another_size_are_not_taken_for_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row 3 of a Latin hypercube of 8 is not row 3 of one of 12."""
    first, second = tmp_path / "a", tmp_path / "b"
    for out, draws in ((first, "8"), (second, "12")):
        command = ["sweep", "--task", "reach", "--policy", "zero", "--design", "lhs", "--draws", draws]
        assert main([*command, "--base", "task", "--workers", "0", "--out", str(out)]) == 0
    with pytest.raises(UserError, match="their draws differ"):
        compare_sweeps(first, second)
    command = ["sweep", "--policy", "zero", "--against", str(first), "--draws", "12", "--workers", "0"]
    assert main([*command, "--out", str(tmp_path / "c")]) == 2
    assert "leave out --draws" in capsys.readouterr().err


def test_a_sweep_says_that_it_renders_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", "--task", "reach", "--policy", "zero", "--base", "nominal", "--draws", "2"]
    assert (
        main([*command, "--param", "light.azimuth=0:1", "--workers", "0", "--out", str(tmp_path / "a")]) == 0
    )
    assert "so light.azimuth cannot matter" in capsys.readouterr().err


def test_the_answer_keeps_the_contract(finished: Path) -> None:
    answer = json.loads((finished / "answer.json").read_text())
    assert answer["draws"] == 40
    assert answer["success_rate"] == answer["successes"] / 40
    assert answer["wilson_95"] == list(wilson_interval(answer["successes"], 40))
    assert answer["errors"] == 0
    assert json.loads((finished / "summary.json").read_text())["successes"] == answer["successes"]
    table = pq.read_table(finished / "results.parquet")
    assert table.num_rows == 40
    names = all_parameters("so101", "reach")
    assert {"index", "seed", "success", "stage", "seconds", "failure", "wall_seconds"} <= set(
        table.column_names
    )
    assert {n for n, p in names.items() if p.randomized and not p.visual} <= set(table.column_names)
    # Nothing is rendered, so nothing that only changes pictures is drawn.
    assert not {n for n, p in names.items() if p.visual} & set(table.column_names)
    config = json.loads((finished / "config.json").read_text())
    assert config["command"] == "sweep" and config["versions"]["pybullet"]
    assert (finished / "report.html").exists()


def test_rows_are_the_same_in_any_number_of_workers_and_resumed(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(tmp_path, capsys, "--draws", "3")
    sweep(tmp_path, capsys, "--draws", "8")
    here = pq.read_table(tmp_path / "results.parquet").drop_columns(["wall_seconds"]).to_pylist()
    there = pq.read_table(finished / "results.parquet").drop_columns(["wall_seconds"]).to_pylist()
    assert here == there[:8]


def test_another_configuration_in_the_same_place_is_refused(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["sweep", "--task", "reach", "--draws", "40", "--seed", "1", "--out", str(finished)])
    error = capsys.readouterr().err
    assert status == 2 and "seed: 0 there, 1 here" in error
    status = main(["sweep", "--task", "reach", "--draws", "40", "--policy", "zero", "--out", str(finished)])
    assert status == 2 and "policy" in capsys.readouterr().err


def test_a_sweep_does_not_go_on_with_a_robot_that_has_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    robots = Path(sim2real.__file__).parent / "robots"
    urdf = (robots / "koch.urdf").read_text()
    toml = (robots / "koch.toml").read_text().replace('urdf = "koch.urdf"', 'urdf = "arm.urdf"')
    (tmp_path / "arm.urdf").write_text(urdf)
    (tmp_path / "arm.toml").write_text(toml)
    command = ["sweep", "--task", "reach", "--policy", "zero", "--robot", str(tmp_path / "arm.toml")]
    command += ["--workers", "0", "--out", str(tmp_path / "run"), "--draws"]
    assert main([*command, "1"]) == 0
    for name, text in (
        ("arm.toml", toml.replace("reach = ", "reach = 0.1 # ")),
        ("arm.urdf", urdf + "<!-- -->"),
    ):
        kept = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text)
        capsys.readouterr()
        assert main([*command, "2"]) == 2
        assert "robot_sha256" in capsys.readouterr().err
        assert main(["sweep", "--replay", "0", "--out", str(tmp_path / "run")]) == 2
        assert "robot" in capsys.readouterr().err
        (tmp_path / name).write_text(kept)
    assert main([*command, "2"]) == 0


def test_a_draw_replays_identically(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--replay", "5", "--out", str(finished), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["same_as_in_sweep"] is True
    row = pq.read_table(finished / "results.parquet").to_pylist()[5]
    assert (answer["success"], answer["seconds"]) == (row["success"], row["seconds"])
    assert Path(answer["video"]).stat().st_size > 1000
    assert "data:video/mp4" in Path(answer["report"]).read_text()
    assert main(["sweep", "--replay", "99", "--out", str(finished)]) == 2
    assert "no draw 99" in capsys.readouterr().err


def test_two_policies_on_the_same_draws(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = sweep(tmp_path, capsys, "--policy", "zero", "--against", str(finished), "--draws", "12", task="")
    comparison = answer["comparison"]
    assert comparison["draws"] == 12
    assert comparison["only_a"] + comparison["both"] == sum(
        row["success"] for row in pq.read_table(finished / "results.parquet").to_pylist()[:12]
    )
    assert comparison["difference"] < 0 and comparison["p_value"] < 0.05
    assert compare_sweeps(finished, tmp_path)["draws"] == 12
    assert main(["sweep", "--against", str(finished), "--task", "lift", "--out", str(tmp_path / "x")]) == 2
    assert "leave out --task" in capsys.readouterr().err


def test_param_base_grid_and_space_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        '[parameters]\n"servo.*.kp" = {distribution = "uniform", low = 0.5, high = 2.0, mode = "scale"}\n'
    )
    out = tmp_path / "out"
    sweep(
        out, capsys, "--draws", "9", "--base", "nominal", "--space", str(path), "--design", "grid", "--levels", "3",
        "--param", "servo.voltage=x0.9:x1.1", "--param", "task.goal.radius=0.16:0.3",
    )  # fmt: skip
    rows = pq.read_table(out / "results.parquet").to_pylist()
    assert sorted({row["servo.voltage"] for row in rows}) == pytest.approx(
        [0.9 + 0.2 / 6, 1.0, 1.1 - 0.2 / 6]
    )
    assert len({(row["task.goal.radius"], row["servo.voltage"]) for row in rows}) == 9
    assert len({row["servo.elbow_flex.kp"] for row in rows}) == 9
    config = json.loads((out / "config.json").read_text())
    assert "camera.x" not in config["parameters"]
    assert plan_of(out).design == "grid"


def test_a_failure_is_explained_by_the_weak_motor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weak = "servo.shoulder_lift.duty_limit=0:0.06"
    answer = sweep(tmp_path, capsys, "--draws", "12", "--param", weak, "--param", "servo.voltage=0.9:1.1")
    rows = pq.read_table(tmp_path / "results.parquet").to_pylist()
    failed = [row for row in rows if not row["success"]]
    assert failed and len(failed) == 12 - answer["successes"]
    worst = min(failed, key=lambda row: row["servo.shoulder_lift.duty_limit"])
    assert main(["sweep", "--explain", str(worst["index"]), "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["changes"]) == ["servo.shoulder_lift.duty_limit"]
    assert 0 < found["scale"] <= 1 and found["trials"] < 60
    assert "servo.shoulder_lift.duty_limit" in (tmp_path / "report.html").read_text()
    assert answer["failed"] == sorted(row["index"] for row in failed)
    assert main(["sweep", "--out", str(tmp_path), "--json", "--explain"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["index"] == answer["failed"][0] and first["path"].endswith(f"explain-{first['index']}.json")
    won = next(row["index"] for row in rows if row["success"])
    assert main(["sweep", "--explain", str(won), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"draw {won} succeeded" in said and f"these failed: {answer['failed'][0]}" in said


def test_a_users_own_task_and_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--policy", "examples.05_own_policy:Nod", "--draws", "2"]
    answer = sweep(tmp_path, capsys, *own, task="examples.04_own_task:ReachHigh")
    assert answer["draws"] == 2 and answer["errors"] == 0
    identity = json.loads((tmp_path / "config.json").read_text())["sweep"]
    assert len(identity["policy"]["source"]) == len(identity["task_source"]) == 64


def test_a_saltelli_design_says_which_numbers_of_draws_fit() -> None:
    plan = SweepPlan(task="reach", space=Space(base="task"), design="saltelli", draws=100)
    bound = plan.bind()
    with pytest.raises(UserError, match=f"takes {bound.dimension + 2} × 2"):
        plan.make_draws(bound)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--draws", "4"], "--task is missing"),
        (["--task", "jump", "--draws", "4"], "no task called 'jump'"),
        (["--task", "reach", "--draws", "0"], "at least one"),
        (["--task", "reach", "--draws", "4", "--policy", "missing.onnx"], "missing.onnx"),
        (["--task", "reach", "--draws", "4", "--policy", "genius"], "genius"),
        (["--task", "reach", "--draws", "4", "--space", "missing.toml"], "no space file"),
        (["--task", "lift", "--draws", "4", "--param", "object.cube.mas=1:2"], "object.cube.mass"),
        (["--task", "reach", "--draws", "4", "--param", "object.mass=heavy"], "cannot read the setting"),
        (["--task", "reach", "--draws", "4", "--base", "nominal"], "nothing varies"),
        (["--task", "reach", "--draws", "4", "--design", "grid"], "--param"),
        (["--task", "reach", "--draws", "4", "--workers", "-1"], "--workers"),
        (["--task", "reach", "--draws", "4", "--twin", "missing.toml"], "missing.toml"),
        (["--replay", "3"], "holds no sweep"),
        (["--against", "nowhere"], "holds no sweep"),
    ],
)
def test_mistakes_get_one_message_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    out = tmp_path / "out"
    assert main(["sweep", *arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not out.exists()


def test_ctrl_c_leaves_a_usable_sweep(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "pipelines",
        "sweep",
        "--task",
        "reach",
        "--draws",
        "4000",
        "--workers",
        "1",
    ]
    process = subprocess.Popen(
        [*command, "--out", out], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not list((out / "parts").glob("*.parquet") if (out / "parts").exists() else []):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 130, error
    assert b"Traceback" not in error
    assert pq.read_table(out / "results.parquet").num_rows > 0
    assert not (out / "parts").exists()
    assert plan_of(out).draws == 4000
    assert main(["report", str(out)]) == 0
    assert "Unfinished" in (out / "report.html").read_text()


def test_parameters_lists_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parameters", "--task", "lift", "object.*", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["parameters"]
    declared = all_parameters("so101", "lift")
    assert [row["name"] for row in rows] == [n for n in declared if n.startswith("object.")]
    mass = next(row for row in rows if row["name"] == "object.cube.mass")
    assert (mass["unit"], mass["nominal"]) == ("kg", declared["object.cube.mass"].nominal)
    path = tmp_path / "space.toml"
    assert main(["parameters", "--task", "lift", "--save", str(path)]) == 0
    capsys.readouterr()
    assert Space.load(path).bind(declared).draws(3, 0) == Space().bind(declared).draws(3, 0)
    assert main(["parameters", "--task", "lift", "objct*"]) == 2
    assert "object." in capsys.readouterr().err
