"""A benchmark on an arm: sessions add up, what is missing is run, and what makes no sense is refused."""

import json
from pathlib import Path

import pytest

from pipelines.benchmarks.on_arm import benchmark_on_arm
from pipelines.cli import main
from sim2real.errors import Sim2RealError

pytestmark = pytest.mark.realtime


class Sessions:
    """Writes what sessions leave behind, of so many episodes at most."""

    def __init__(self, most: int) -> None:
        self.most, self.asked = most, []

    def __call__(self, task: str, where: Path, episodes: int, seed: int) -> None:
        self.asked.append((task, where.name, episodes, seed))
        outcomes = [True, False, None][: min(episodes, self.most)]
        where.mkdir(parents=True)
        trials = [{"success": good, "seconds": 2.0, "interventions": 0} for good in outcomes]
        (where / "result.json").write_text(json.dumps({"trials": trials}))


def test_sessions_add_up_and_what_is_missing_is_run(tmp_path: Path) -> None:
    out = tmp_path / "b"
    short = Sessions(2)
    with pytest.raises(Sim2RealError, match="ended after 2 of 3"):
        benchmark_on_arm("expert", ["reach"], out, port="emulated", trials=3, seed=5, session=short)
    assert json.loads((out / "summary.json").read_text())["trials"] == 2
    rest = Sessions(3)
    found = benchmark_on_arm("expert", ["reach"], out, port="emulated", trials=3, seed=5, session=rest)
    assert rest.asked == [("reach", "2", 1, 1005)]
    assert found["per_task"][0] | {"wilson_95": 0} == {
        "id": "reach", "family": "reach", "trials": 3, "successes": 2, "wilson_95": 0, "stage_reached": {},
        "failure": {"unknown": 1}, "unjudged": 0,
    }  # fmt: skip
    assert not benchmark_on_arm("expert", ["reach"], out, port="emulated", trials=3, seed=5, session=rest)[
        "per_task"
    ][0]["unjudged"]
    assert len(rest.asked) == 1


def test_what_nobody_judged_is_counted_apart(tmp_path: Path) -> None:
    found = benchmark_on_arm(
        "expert", ["reach"], tmp_path / "b", port="emulated", trials=3, seed=0, session=Sessions(3)
    )
    assert found["trials"] == 2 and found["per_task"][0]["unjudged"] == 1


def test_on_an_arm_nothing_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "o"
    words = ["benchmark", "--policy", "expert", "--task", "reach", "--port", "emulated", "--out", str(out)]
    assert main([*words, "--robustness"]) == 2
    assert "--robustness" in capsys.readouterr().err
    assert main(["benchmark", "--policy", "expert", "--task", "reech", "--out", str(out)]) == 2
    assert "did you mean 'reach'" in capsys.readouterr().err
    assert not out.exists()
