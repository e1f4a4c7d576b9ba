"""Scaling laws: planted ones are recovered and predicted, what is none is refused, runs are read."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.benchmarks.scaling import fit_law
from pipelines.cli import main
from sim2real.errors import UserError

SIZES = np.array([10, 20, 50, 100, 200, 500, 1000, 2000])


def counted(errors: np.ndarray, trials: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).binomial(trials, errors) / trials


def test_an_exact_law_is_found_exactly() -> None:
    law = fit_law(SIZES, 1.5 * SIZES**-0.5 + 0.02)
    assert law.fits, law.why
    assert law.b == pytest.approx(0.5, abs=0.03) and law.c == pytest.approx(0.02, abs=0.005)
    assert law.predicted == pytest.approx(law.measured, rel=0.03)
    assert law.at(SIZES[-1]) == pytest.approx(law.predicted)


def test_intervals_hold_the_planted_law() -> None:
    true = 1.5 * SIZES**-0.5 + 0.05
    held = fits = 0
    for seed in range(20):
        law = fit_law(SIZES, counted(true, 2000, seed), [2000] * len(SIZES), resamples=150)
        held += law.b_95[0] <= 0.5 <= law.b_95[1]
        fits += law.fits
    assert held >= 16 and fits >= 14


@pytest.mark.parametrize(
    ("errors", "says"),
    [
        (np.full(8, 0.3), "does not change"),
        (np.array([0.5, 0.4, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9]), "scatter"),
        (np.array([0.8, 0.6, 0.45, 0.35, 0.28, 0.21, 0.17, 0.6]), "held out"),
    ],
)
def test_what_is_no_law_is_refused(errors: np.ndarray, says: str) -> None:
    law = fit_law(SIZES, errors, [400] * 8)
    assert not law.fits and says in law.why


def test_too_few_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="at least 5 different sizes"):
        fit_law([1, 2, 2, 3, 4], [0.5, 0.4, 0.4, 0.3, 0.2])
    with pytest.raises(UserError, match="finite"):
        fit_law(SIZES, [np.nan] * 8)


def test_runs_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pretraining runs, whose files are those of a real policy with other numbers of episodes."""
    from pipelines.learning.export import export_policy
    from pipelines.learning.networks.registry import build_network
    from sim2real.observation import Feature
    from sim2real.policies.file import PolicyInfo

    features = [("joint_position", 6)]
    network = build_network(
        {"kind": "mlp", "features": features, "joints": 6, "horizon": 1, "width": 8, "depth": 1}
    )
    runs = []
    for n in SIZES:
        folder = tmp_path / f"run-{n}"
        runs.append(str(folder))
        info = PolicyInfo(
            task="reach", robot="so101", joints=tuple("abcdef"), features=(Feature("joint_position", 6),), horizon=1,
            policy_rate=30, command_rate=100, provenance={"settings": {"episodes": int(n)}},
        )  # fmt: skip
        export_policy(network, info, folder / "policy.onnx")
        (folder / "config.json").write_text(
            json.dumps({"command": "pretrain", "settings": {"task": "reach"}})
        )
        won = round(1000 * (1 - 1.5 * n**-0.5 - 0.02))
        (folder / "metrics.json").write_text(json.dumps({"evaluation": {"successes": won, "draws": 1000}}))
    out = tmp_path / "laws"
    assert main(["benchmark", "--scaling", *runs, "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["varying"] == ["demonstrations"]
    assert (
        found["scaling"][0]["fits"] and found["scaling"][0]["b_95"][0] < 0.5 < found["scaling"][0]["b_95"][1]
    )
    assert "over demonstrations" in (out / "report.html").read_text()
    assert main(["benchmark", "--scaling", *runs[:3]]) == 2
    assert "at least 5" in capsys.readouterr().err
    assert main(["benchmark", "--scaling", *runs, str(tmp_path)]) == 2
    assert "not a run directory" in capsys.readouterr().err
