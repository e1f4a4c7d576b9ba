"""What a person types in a notebook: public names, objects in the place of names, results, scripts without a guard."""

import ast
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sim2real as s2r
from pipelines import Evaluation, deploy, evaluate, export_policy, record, sweep
from pipelines.cli import main
from randomization import Space, Uniform
from sim2real.policies.actions import ActionPolicy
from sim2real.policies.file import load_policy_file
from sim2real.tasks.reach import Reach

ROOT = Path(__file__).parents[2]
PACKAGES = ("sim2real", "randomization", "hardware", "pipelines")
TASK_ONLY = Space(base="task")
ROBOT = s2r.Robot.load("so101")


class Still:
    """Stays where it was told to be."""

    horizon = 10

    def reset(self, seed: int) -> None:
        self.seed = seed

    def act(self, observation: s2r.Observation) -> np.ndarray:
        return np.tile(observation["joint_command"], (10, 1))


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_complete_and_known_to_checkers(package: str) -> None:
    module = import_module(package)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    checked = {a.name: n.module for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert checked == dict(module._WHERE)
    assert set(module.__all__) - {"__version__"} == set(checked) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"'{package}' has no attribute 'Spacee?x'"):
        module.Spacex  # noqa: B018


def test_a_misspelt_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(ImportError, match="cannot import name 'Robt'"):
        exec("from sim2real import Robt")
    with pytest.raises(AttributeError, match="did you mean 'Robot'"):
        s2r.Robt  # noqa: B018


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, sim2real, randomization, hardware, pipelines\n"
        "print([n for n in ('numpy', 'torch', 'pybullet', 'numba', 'scipy', 'pyarrow') if n in sys.modules])\n"
        "from pipelines import sweep, pretrain, evaluate, record, identify, finetune, deploy, export_policy\n"
        "print([n for n in ('torch', 'lightning', 'pybullet', 'onnxruntime', 'matplotlib') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n[]\n"


def test_a_sweep_of_objects_is_the_sweep_of_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    robot, task = s2r.Robot.load("so101"), s2r.load_task("reach")
    space = Space({"payload.mass": Uniform(0.0, 0.1)}, base="task")
    space.save(tmp_path / "space.toml")
    result = sweep(task, robot, policy="expert", space=space, draws=3, out=tmp_path / "a", workers=0)
    assert (result.successes, result.success_rate, result.failed) == (3, 1.0, ())
    assert 0.3 < result.interval[0] < result.interval[1] == 1.0
    assert result.table.num_rows == 3 and "payload.mass" in result.table.column_names
    assert repr(result) == f"SweepResult(reach by expert: 3 of 3, 100.0% [43.9%, 100.0%]; {tmp_path / 'a'})"
    assert str(result).startswith("3 of 3 draws succeeded") and result.report.is_file()
    capsys.readouterr()
    words = (
        f"--task reach --draws 3 --workers 0 --space {tmp_path / 'space.toml'} --out {tmp_path / 'a'} --json"
    )
    assert main(["sweep", *words.split()]) == 0  # the same sweep, so it goes on
    assert json.loads(capsys.readouterr().out)["successes"] == 3


def test_objects_of_ones_own_are_used_as_they_are(tmp_path: Path) -> None:
    task = s2r.load_task("reach")
    task.duration = 0.2  # no longer what its name gives
    here = evaluate(Still(), task, draws=2, space=TASK_ONLY, workers=0)
    assert isinstance(here, Evaluation) and here.result["draws"] == 2
    result = sweep(task, policy=Still(), draws=2, space=TASK_ONLY, out=tmp_path / "a", workers=0)
    assert max(result.table["seconds"].to_pylist()) == pytest.approx(0.2)
    assert result.policy == "<tests.pipelines.test_api.Still>"
    with pytest.raises(s2r.UserError, match="another|different"):
        sweep("reach", policy=Still(), draws=2, space=TASK_ONLY, out=tmp_path / "a", workers=0)


def test_what_cannot_be_sent_to_workers_says_what_to_do() -> None:
    policy = Still()
    policy.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(s2r.UserError, match=r"the Still cannot be sent to worker processes .*workers=0"):
        evaluate(policy, "reach", draws=2, workers=1)
    assert evaluate(policy, "reach", draws=1, workers=0, space=TASK_ONLY).successes == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: evaluate(3, "reach"), "3 lacks horizon, reset, act"),
        (lambda: evaluate("expert"), "does not say what it is for"),
        (lambda: evaluate("expert", "reach", draws=0), "at least one draw"),
        (lambda: sweep("reach", "so999", out="x"), "no robot called 'so999'"),
        (lambda: sweep("reach", space={"parameter": {}}, out="x"), r"unknown entries \['parameter'\]"),
        (lambda: deploy(Still(), port="emulated", out="x"), "export_policy writes a file"),
        (lambda: record(type("Mine", (Reach,), {})(), port="emulated", out="x"), "module of its own"),
        (lambda: export_policy("missing.onnx", "reach", out="x"), "missing.onnx does not exist"),
    ],
)
def test_mistakes_are_told_before_anything_is_done(
    call: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(s2r.UserError, match=said):
        call()
    assert not list(tmp_path.iterdir())


def test_an_arm_is_run_from_the_main_thread_alone(tmp_path: Path) -> None:
    told: list[BaseException] = []

    def run() -> None:
        try:
            deploy("expert", task="reach", port="emulated", out=tmp_path / "arm")
        except s2r.UserError as error:
            told.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "call it from the main thread" in str(told[0])


SCRIPT = """
import numpy as np
import sim2real as s2r
from pipelines import evaluate
from randomization import Space

class Mine:
    horizon = 10
    def reset(self, seed): ...
    def act(self, observation):
        return np.tile(observation["joint_command"], (10, 1))

class Short(type(s2r.load_task("reach"))):
    duration = 0.1

print(repr(evaluate(Mine(), Short(), draws=3, space=Space(base="task"), workers=2)))
"""


def test_a_script_without_a_guard_may_use_its_own_classes_in_worker_processes(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    found = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert found.stdout == (
        "Evaluation(<__main__.Short> by <__main__.Mine>: 0 of 3, 0.0% [0.0%, 56.1%])\n"
    ), found.stderr


@pytest.fixture(scope="module")
def network() -> Any:
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(15, 32), torch.nn.Tanh(), torch.nn.Linear(32, 6))


@pytest.fixture(params=["module", "onnx", "old opset"])
def source(request: pytest.FixtureRequest, network: Any, tmp_path: Path) -> Iterator[Any]:
    import torch

    if request.param == "module":
        yield network.train()
        assert network.training
        return
    path = tmp_path / "theirs.onnx"
    opset = 17 if request.param == "onnx" else 11
    torch.onnx.export(
        network, (torch.zeros(1, 15),), path, dynamo=False, opset_version=opset,
        input_names=["obs"], output_names=["chunk"], dynamic_axes={"obs": {0: "n"}},
    )  # fmt: skip
    yield path


def test_a_network_trained_elsewhere_acts_as_in_the_environment(
    source: Any, network: Any, tmp_path: Path
) -> None:
    import torch

    path = export_policy(source, "reach", out=tmp_path / "policy.onnx", about={"steps": 3})
    policy = load_policy_file(path)
    assert policy.info.provenance == {"command": "export_policy", "steps": 3}

    def act(vector: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(vector)).numpy()

    for vector in np.random.default_rng(0).normal(size=(50, 15)).astype(np.float32):
        parts = np.split(vector.astype(float), [6, 12])
        seen = dict(zip(("joint_position", "joint_command", "goal"), parts))
        expected = ActionPolicy(act, policy.info.features, ROBOT).act(seen)
        assert np.abs(policy.act(seen) - expected).max() < 1e-5
    draw = s2r.Draw(seed=4, values={"policy.latency": 0.02, "control.jitter": 0.006})
    env = s2r.TaskEnvironment("reach")
    s2r.rollout(env.world, policy, draw, max_seconds=1.0)
    there = env.world.position
    observation, _ = env.reset(options={"draw": draw})
    start = env.world.position
    for _ in range(30):
        observation, *_ = env.step(act(observation))
    assert np.abs(env.world.position - there).max() < 1e-4 < 0.05 < np.abs(there - start).max()
    env.close()


def test_networks_of_another_shape_are_refused(network: Any, tmp_path: Path) -> None:
    import torch

    wrong = torch.nn.Linear(15, 5)
    for source, said in (
        (torch.nn.Linear(14, 6), r"made for observations \(B, 15\)"),
        (wrong, r"gives the shape \(1, 5\), needed is \(1, 6\)"),
        (lambda x: x, "wrap a function"),
        (b"nonsense", "no ONNX model"),
    ):
        with pytest.raises(s2r.UserError, match=said):
            export_policy(source, "reach", out=tmp_path / "policy.onnx")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine.onnx").write_bytes(b"a network of mine")
    with pytest.raises(s2r.UserError, match=r"mine.onnx exists and was not made by this program"):
        export_policy(network, "reach", out=tmp_path / "mine.onnx")
