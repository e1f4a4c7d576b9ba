"""The simulated fleet: the brief's figures, what they hide, queues against closed forms, time that adds up."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("simpy")

from pipelines.api.fleet import fleet_inputs, simulate_fleet
from pipelines.cli import main
from pipelines.costs.inputs import Inputs
from pipelines.fleet.simulator.model import DAY, calendar, simulate, worked
from pipelines.fleet.simulator.run import run
from pipelines.fleet.simulator.settings import FACTORS, Settings, default_inputs, in_practice, settings
from sim2real.errors import UserError


def plain(inputs: Inputs, robots: int, days: float, pooled: bool | None = None) -> Settings:
    values = {name: one.spread.likely for name, one in inputs.by_name.items()}
    return settings(inputs, robots, days, robots > 1 if pooled is None else pooled, values)


@pytest.mark.parametrize("days", [7, 30, 31, 100, 365])
@pytest.mark.parametrize("robots, wanted", [(1, 100 / 3), (10, 950), (100, 9500)])
def test_the_figures_of_the_brief(robots: int, wanted: float, days: int) -> None:
    if robots == 100 and days > 31:
        days = 31
    found = simulate(plain(default_inputs(), robots, days), seed=0)
    assert found.rate == pytest.approx(wanted, rel=1e-3)


def test_a_month_of_the_brief_by_days() -> None:
    lone = simulate(plain(default_inputs(), 1, 30), 0)
    assert (lone.collected, lone.trainings) == (1000, 10)
    assert lone.daily[:6] == [100, 0, 0, 100, 0, 0]
    pooled = simulate(plain(default_inputs(), 10, 30), 0)
    assert pooled.collected == 28_500
    assert pooled.daily == pytest.approx([950] * 30, rel=0.01)
    assert pooled.spent["updating"] == pytest.approx(0.05 * 10 * 30 * DAY)


def test_ten_that_do_not_pool_wait_for_one_computer() -> None:
    """Each 100 episodes take two days of it: 50 a day, however many robots there are."""
    inputs = default_inputs().given("trainers", 1, "test")
    found = simulate(plain(inputs, 10, 100, pooled=False), 0)
    assert found.rate == pytest.approx(50, rel=0.02)
    apart = simulate(plain(default_inputs(), 10, 100, pooled=False), 0)
    assert apart.rate == pytest.approx(10 * 100 / 3, rel=1e-3)


@pytest.mark.parametrize("factor", [None, *FACTORS])
@pytest.mark.parametrize("pooled", [True, False])
def test_robot_time_adds_up_and_nothing_arrives_that_was_not_collected(
    factor: str | None, pooled: bool
) -> None:
    s = plain(in_practice(default_inputs(), factor).given("hours", 9.5, "test"), 7, 20, pooled)
    found = simulate(s, 3)
    assert sum(found.spent.values()) == pytest.approx(7 * 20 * DAY)
    assert found.spent["off"] > 0
    assert 0 < found.arrived <= found.collected
    assert found.collected <= found.spent["collecting"] / s.cycle + 1e-6
    assert found.collected >= found.spent["collecting"] / s.cycle - 7
    assert sum(found.daily) == pytest.approx(found.arrived * (1 - s.unusable))


def test_the_same_seed_is_the_same_fleet() -> None:
    s = plain(in_practice(default_inputs()), 5, 20)
    assert simulate(s, 1) == simulate(s, 1) != simulate(s, 2)


def test_waiting_for_people_is_the_machine_interference_of_the_books() -> None:
    """12 robots, one person: a closed queue M/M/1//N. Times between failures are nearly exponential here."""
    robots, between, service = 12, 10.0, 0.6  # h
    inputs = default_inputs().given("episodes_per_day", 2400, "t").given("update_loss", 0, "t")
    s = replace(plain(inputs, robots, 400), needs_help=24 / 2400 / between, help_time=service, operators=1)
    found = simulate(s, 0)
    load = service / between
    weights = [math.factorial(robots) / math.factorial(robots - k) * load**k for k in range(robots + 1)]
    busy = 1 - weights[0] / sum(weights)
    per_hour = busy / service
    stopped = sum(k * w for k, w in enumerate(weights)) / sum(weights)
    wait = stopped / per_hour - service
    hours = 400 * DAY
    assert found.helped_hours / hours == pytest.approx(busy, rel=0.03)
    assert found.helps / hours == pytest.approx(per_hour, rel=0.03)
    assert sum(found.help_waits) / len(found.help_waits) == pytest.approx(wait, rel=0.08)
    assert found.spent["collecting"] / hours == pytest.approx(robots - stopped, rel=0.02)


def test_breakdowns_leave_the_share_of_time_of_the_books() -> None:
    inputs = (
        default_inputs().given("mtbf", 100, "t").given("technicians", 0, "t").given("update_loss", 0, "t")
    )
    s = plain(inputs.given("mttr", 5, "t").given("spare_time", 15, "t"), 50, 200)
    found = simulate(s, 0)
    assert found.spent["collecting"] / (50 * 200 * DAY) == pytest.approx(100 / 120, rel=0.01)
    assert found.breakdowns == pytest.approx(found.spent["collecting"] / 100, rel=0.05)


def test_a_slow_network_is_the_limit() -> None:
    """A robot's 0.1 Mbit/s carry 77 episodes of 14 MB a day, of the 95 that it collects."""
    inputs = default_inputs().given("episode_size", 14, "t").given("link", 0.1, "t")
    found = simulate(plain(inputs, 4, 40), 0)
    assert found.rate == pytest.approx(4 * 0.1e6 * 86400 / (14 * 8e6), rel=0.04)
    inputs = default_inputs().given("episode_size", 14, "t").given("hub_link", 0.2, "t")
    assert simulate(plain(inputs, 4, 40), 0).rate == pytest.approx(0.2e6 * 86400 / (14 * 8e6), rel=0.03)


def test_people_who_go_home_leave_robots_standing() -> None:
    inputs = in_practice(default_inputs(), "help")
    day_and_night = simulate(plain(inputs.given("operator_hours", 24, "t"), 10, 60), 0)
    by_day = simulate(plain(inputs, 10, 60), 0)
    assert by_day.rate < 0.6 * day_and_night.rate
    assert max(by_day.help_waits) > 10


@pytest.mark.parametrize("hours", [24.0, 8.0, 0.5])
def test_the_calendar_and_the_hours_worked_agree(hours: float) -> None:
    for start in (0.0, 3.3, 7.9, 9.0, 23.9, 48.0):
        for work in (0.1, 1.0, hours, 5 * hours + 0.2):
            end = calendar(start, work, hours)
            assert worked(start, end, hours) == pytest.approx(work)
            assert worked(start, end - 0.01, hours) < work


def test_what_is_set_is_not_replaced_by_what_is_usual() -> None:
    inputs = in_practice(default_inputs().given("operators", 4, "mine"))
    assert inputs["operators"].spread.likely == 4
    assert inputs["success"].spread.likely == pytest.approx(0.82)


def test_more_is_not_said_to_be_hidden_than_is() -> None:
    inputs = default_inputs()
    for name in inputs.by_name:
        inputs = inputs.given(name, {"success": 0.9, "operators": 2, "update_loss": 0.1}.get(name, 1), "mine")
    found = run(inputs, robots=2, days=3, seed=0)
    assert found["hides"] == []


def test_the_command_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "f"
    words = ["fleet", "simulate", "--robots", "10", "--days", "10", "--set", "success=0.9:0.95:1", "--set"]
    words += ["operators=1", "--runs", "5", "--out", str(out), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((out / "result.json").read_text())
    wanted = {"robots", "days", "episodes", "effective_per_day", "utilisation", "interventions_per_day"}
    assert wanted <= found.keys()
    assert [row["robots"] for row in found["scale"]] == [1, 10, 100, 1000]
    assert sum(found["shares"].values()) == pytest.approx(1)
    spread = found["spread"]["effective_per_day"]
    assert spread["p10"] <= spread["p50"] <= spread["p90"]
    assert "What the assumptions hide" in (out / "report.html").read_text()
    from pipelines.api.cost import cost_inputs

    assert cost_inputs(fleet=out)["robots"].spread.likely == 10
    assert main([*words, "--seed", "3"]) == 2
    assert "holds another run" in capsys.readouterr().err


def test_the_command_s_default_is_the_brief(tmp_path: Path) -> None:
    assert simulate_fleet(1, 30).effective_per_day == pytest.approx(33.3, abs=0.1)
    result = simulate_fleet(10, 30, out=tmp_path / "f")
    assert result.effective_per_day == pytest.approx(950, abs=0.5)
    assert result.episodes == 28_500
    assert "950.0 effective episodes a day" in str(result)


@pytest.mark.parametrize(
    "words, said",
    [
        (["--robots", "0"], "--robots must be 1 to 10000"),
        (["--days", "nan"], "--days must be 1 to 3650"),
        (["--days", "0.2"], "--days must be 1 to 3650"),
        (["--runs", "0"], "--runs must be"),
        (["--seed", "-2"], "--seed must not be negative"),
        (["--set", "sucess=0.9"], "did you mean 'success'?"),
        (["--set", "success=120%"], "at most 100 %"),
        (["--set", "operators=1.5"], "whole number"),
        (["--set", "training_time=0"], "more than 0 day"),
        (
            ["--robots", "10000", "--days", "3650", "--set", "success=0.5"],
            "ask for fewer days, robots or runs",
        ),
        ([], "name a run directory with --out"),
    ],
)
def test_nonsense_is_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "f")] if words else []
    assert main(["fleet", "simulate", *words, *out]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (tmp_path / "f").exists()


def test_subcommands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet"]) == 2
    assert "required: SUBCOMMAND" in capsys.readouterr().err
    assert main(["fleet", "simulate", "--help"]) == 0
    assert "sim2real fleet simulate --robots" in capsys.readouterr().out
    (tmp_path / "file").touch()
    assert main(["fleet", "simulate", "--out", str(tmp_path / "file")]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err
    assert main(["fleet", "simulate", "--inputs"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in default_inputs().by_name)


def test_without_simpy_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "simpy", None)
    assert main(["fleet", "simulate", "--out", str(tmp_path / "f")]) == 2
    assert "pip install 'sim2real-transfer[fleet]'" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_success_of_a_benchmark(tmp_path: Path) -> None:
    counts: dict[str, Any] = {"draws": 99, "successes": 79}
    (tmp_path / "result.json").write_text(json.dumps(counts))
    assert fleet_inputs(benchmark=tmp_path)["success"].spread.likely == pytest.approx(79.5 / 100)
    with pytest.raises(UserError, match="fleet simulate --inputs"):
        fleet_inputs(settings={"no_such_thing": 1})
