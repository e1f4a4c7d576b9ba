"""`sim2real ranges` in the real world: files, contract, mistakes."""

import json
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.sweeps.plan import all_parameters
from randomization.space import Space


@pytest.mark.parametrize("method, draws", [("adr", "24"), ("entropy", "50")])
def test_ranges_are_written_as_a_space(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, draws: str
) -> None:
    out = tmp_path / "out"
    flags = ["--task", "reach", "--method", method, "--draws", draws, "--workers", "0", "--out", str(out)]
    assert main(["ranges", *flags, "--param", "sensor.noise=0:0.05", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    low, high = answer["ranges"]["sensor.noise"]
    assert 0 <= low < high <= 0.05 and answer["outer"]["sensor.noise"] == [0, 0.05]
    bound = Space.load(out / "space.toml").bind(all_parameters("so101", "reach"))
    assert "task.goal.radius" in bound.names
    assert bound.range("sensor.noise")[1] >= high
    assert "Ranges that the policy can bear" in (out / "report.html").read_text()
    assert json.loads((out / "config.json").read_text())["command"] == "ranges"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--param"),
        (["--param", "sensor.noise=0:0.05", "--draws", "5"], "at least 24 draws"),
        (["--param", "sensor.noise=0:0.05", "--success", "2"], "--success"),
        (["--param", "sensor.noize=0:0.05"], "sensor.noise"),
        (["--param", "sensor.noise=0.01"], "no parameter to adapt"),
    ],
)
def test_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    out = tmp_path / "out"
    assert main(["ranges", "--task", "reach", *arguments, "--workers", "0", "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
