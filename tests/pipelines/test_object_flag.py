"""`--object` through the commands: a run's identity, what a policy file says, what a camera looks for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import export_policy
from pipelines.cli import main
from pipelines.deployment.request import Options, objects_to_see, prepare
from pipelines.learning.finetune_pixels import settings_of
from pipelines.sweeps.inputs import task_name
from pipelines.sweeps.plan import plan_of
from pipelines.sweeps.simulated import make_plan
from sim2real.camera import CameraModel, save_cameras
from sim2real.errors import UserError
from sim2real.policies.file import load_policy_file
from sim2real.tasks.registry import load_task

BLUE = "lift[cube.size=0.03,cube.colour=blue,cube.mass=0.0346]"
FLAG = ["--object", "cube:size=0.03,colour=blue"]
ABOVE = CameraModel.looking_at((0.3, 0.05, 0.7), (0.24, 0.0, 0.0), name="above")


@pytest.fixture(scope="module")
def blue_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that does nothing, for a blue cube of 30 mm."""
    task = load_task(BLUE)
    size = sum(feature.size for feature in task.features)

    class Still(torch.nn.Module):
        def forward(self, observation: torch.Tensor) -> torch.Tensor:
            return 0.0 * observation[:, :1] + torch.zeros(1, 6)

    out = tmp_path_factory.mktemp("policy") / "policy.onnx"
    export_policy(Still(), task, "so101", out=out, gives="actions")
    assert load_policy_file(out).info.observation_size == size
    return out


def test_a_sweep_is_of_its_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "sweep",
        "--task",
        "lift",
        "--draws",
        "4",
        "--base",
        "task",
        "--workers",
        "0",
        "--policy",
        "zero",
    ]
    out = ["--out", str(tmp_path / "run"), "--json"]
    assert main([*command, *FLAG, *out]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == BLUE
    identity = json.loads((tmp_path / "run" / "config.json").read_text())["sweep"]
    assert identity["task"] == BLUE
    # Another cube, or the task's own, is another sweep; the recorded one knows its cube by itself.
    for other in (["--object", "cube:size=0.03"], []):
        assert main([*command, *other, *out]) == 2
        assert "task" in capsys.readouterr().err
    plan = plan_of(tmp_path / "run")
    assert load_task(plan.task).object("cube").colour == "blue"


def test_a_policy_file_says_what_it_was_trained_with(
    blue_policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = load_policy_file(blue_policy).info.objects
    assert [(spec["name"], spec["size"], spec["colour"]) for spec in said] == [("cube", [0.03], "blue")]
    command = ["evaluate", "--policy", str(blue_policy), "--draws", "2", "--workers", "0", "--json"]
    for more in ([], ["--task", "lift"]):
        assert main([*command, *more]) == 0
        assert json.loads(capsys.readouterr().out)["task"] == BLUE
    assert main([*command, "--object", "cube:size=0.02"]) == 2
    assert "trained with the object 'cube' of 30 mm, here it is 20 mm" in capsys.readouterr().err


def test_an_arm_looks_for_what_the_policy_was_trained_with(blue_policy: Path, tmp_path: Path) -> None:
    def asked(**more: object) -> Options:
        return Options(
            command="deploy", port="emulated", out=str(tmp_path / "d"), policy=str(blue_policy), **more
        )  # type: ignore[arg-type]

    (cube,) = objects_to_see(prepare(asked()))
    assert (cube.colour, cube.measures) == ("blue", (0.03,))
    setup = prepare(asked(object=("cube:colour=yellow",)))
    assert objects_to_see(setup)[0].colour == "yellow" and setup.name == "lift"
    with pytest.raises(UserError, match="trained with the object 'cube' of 30 mm"):
        prepare(asked(object=("cube:size=0.02",)))
    with pytest.raises(UserError, match="is none that is known"):
        prepare(
            Options(
                "record", "emulated", str(tmp_path / "r"), task="wave", hand=True, object=("cube:mass=1",)
            )
        )


def test_a_task_with_other_objects_has_a_name_in_python_too() -> None:
    task = load_task("lift").with_objects([load_task(BLUE).object("cube")])
    assert task_name(task) == BLUE
    plan = make_plan(task=task, draws=2)
    assert plan.task == BLUE and plan.given.task is None
    parameters = plan.bind().parameters
    assert parameters["object.cube.size"].nominal == pytest.approx(0.03)
    assert np.isclose(parameters["object.cube.mass"].nominal, 0.0346)


def test_bad_objects_end_a_command_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["sweep", "--task", "lift", "--out", "x"], ["pretrain", "--task", "lift", "--out", "x"],
        ["evaluate", "--policy", "expert", "--task", "lift"], ["emulate", "--task", "lift"],
        ["deploy", "--policy", "expert", "--task", "lift", "--port", "emulated", "--out", "x"],
        ["record", "--task", "lift", "--port", "emulated", "--out", "x"], ["tasks", "--task", "lift"],
    ):  # fmt: skip
        assert main([*command, "--object", "cub:size=0.03"]) == 2, command
        assert "no object 'cub'; did you mean cube" in capsys.readouterr().err
    assert not Path("x").exists()


def test_a_benchmark_is_of_its_objects_and_cameras(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = tmp_path / "cameras.toml"
    save_cameras({"above": ABOVE}, cameras)
    command = [
        "benchmark",
        "--policy",
        "zero",
        "--task",
        "lift",
        "--trials",
        "2",
        "--workers",
        "0",
        "--json",
        "--clips",
        "0",
    ]
    out = tmp_path / "run"
    seen_by = ["--cameras", str(cameras)]
    assert main([*command, *FLAG, *seen_by, "--against", "random", "--out", str(out)]) == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)["per_task"]] == [BLUE]
    identity = json.loads((out / "config.json").read_text())["identity"]
    for side in ("policy", "against"):
        assert list(identity[side][BLUE]["cameras"]) == ["above"]
    assert main([*command, *FLAG, "--against", "random", "--out", str(out)]) == 2, (
        "cameras anywhere are others"
    )


def test_a_transfer_has_the_objects_that_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["transfer", "--task", "reach", "--realities", "slow_wire", "--out", str(tmp_path / "out")]
    assert main([*command, *FLAG]) == 2
    assert "reach" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_only_policies_of_states_have_is_refused_where_pictures_are_seen() -> None:
    for said in ({"object": FLAG[1:]}, {"cameras": "cameras.toml"}):
        with pytest.raises(UserError, match=f"--{next(iter(said))}: "):
            settings_of(
                {"policy": "p.onnx", "data": "d", "robot": "so101", "object": [], "evaluate": 0, **said}
            )
