"""`--cameras FILE` of sweep, evaluate and pretrain: refusals, and what makes two runs the same run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.learning.pretrain import PretrainSettings, trained_for
from pipelines.runs import claim
from pipelines.sweeps.plan import plan_of
from pipelines.sweeps.simulated import make_plan
from sim2real.camera import CameraModel, save_cameras
from sim2real.camera_coverage import difference
from sim2real.errors import UserError

ABOVE = CameraModel.looking_at((0.3, 0.05, 0.7), (0.24, 0.0, 0.0), name="above")


def written(path: Path, *cameras: CameraModel) -> str:
    save_cameras({camera.name: camera for camera in cameras}, path)
    return str(path)


def test_what_is_wrong_with_a_file_is_said_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    up = CameraModel.looking_at((0.3, 0.0, 0.5), (0.3, 0.1, 1.5), name="up")
    empty, text = tmp_path / "empty.toml", tmp_path / "text.toml"
    empty.write_text("")
    text.write_text("[front\n")
    for path, said in (
        (str(tmp_path / "missing.toml"), "no cameras file at"),
        (written(tmp_path / "up.toml", up), "camera 'up' of"),
        (str(empty), "holds no camera"),
        (str(text), "cannot read the cameras file"),
    ):
        for command in (
            ["sweep", "--task", "lift", "--out", str(tmp_path / "out")],
            ["pretrain", "--task", "lift", "--out", str(tmp_path / "out")],
            ["evaluate", "--task", "lift", "--policy", "expert"],
        ):
            assert main([*command, "--cameras", path]) == 2
            assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sweep_does_not_go_on_with_another_camera(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "cameras.toml", tmp_path / "out"
    command = ["sweep", "--task", "reach", "--base", "task", "--workers", "0", "--out", str(out)]
    command += ["--cameras", written(path, replace(ABOVE, source="0"))]
    assert main([*command, "--draws", "2"]) == 0
    table = json.loads((out / "config.json").read_text())["sweep"]["cameras"]["above"]
    assert table["camera_to_base"] == ABOVE.camera_to_base.tolist() and "source" not in table
    assert plan_of(out).camera_models["above"].table() == ABOVE.table()
    # Another stream of that camera is that camera; a file that was edited is not.
    written(path, replace(ABOVE, source="http://somewhere/else.mjpg"))
    assert main([*command, "--draws", "3"]) == 0
    written(path, replace(ABOVE, fx=ABOVE.fx + 1))
    capsys.readouterr()
    assert main([*command, "--draws", "3"]) == 2
    assert "cameras.above.fx" in capsys.readouterr().err


def test_a_pretrained_policy_is_of_its_cameras(tmp_path: Path) -> None:
    path = written(tmp_path / "cameras.toml", ABOVE)
    anywhere, fixed = PretrainSettings(task="lift"), PretrainSettings(task="lift", cameras=path)
    tables = PretrainSettings(task="lift", cameras={"above": ABOVE.table()})
    runs = [settings.course().described() for settings in (anywhere, fixed, tables)]
    assert runs[1]["identity"]["cameras"] == runs[2]["identity"]["cameras"]
    claim(tmp_path / "run", runs[1])
    assert claim(tmp_path / "run", runs[2]) is not None
    with pytest.raises(UserError, match="holds another run of 'pretrain'"):
        claim(tmp_path / "run", runs[0])
    said = {"cameras": trained_for(fixed.plan())}
    assert difference(said, ABOVE) is None
    assert "trained for another camera" in str(
        difference(said, CameraModel.looking_at((0.7, 0, 0.3), (0.2, 0, 0)))
    )
    assert trained_for(anywhere.plan())["placed"]["azimuth"] == [-2.4, 2.4]


def test_parameters_of_a_camera_anywhere_are_not_those_of_one_that_is_given(tmp_path: Path) -> None:
    path = written(tmp_path / "cameras.toml", ABOVE)
    space = {"parameters": {"camera.azimuth": [0.0, 1.0]}}
    make_plan(task="lift", draws=1, space=space)
    with pytest.raises(UserError, match=r"camera\.azimuth"):
        make_plan(task="lift", draws=1, space=space, cameras=path)
