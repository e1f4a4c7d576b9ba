"""The cost model: units, distributions, money, conservation, nonsense refused, and figures computed by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy_financial
import pytest
from scipy import stats

from pipelines.api.cost import cost, cost_inputs
from pipelines.cli import main
from pipelines.costs import finance
from pipelines.costs.brief import FIGURES
from pipelines.costs.cell import STRATEGIES, costs, teaching, work
from pipelines.costs.economics import economics, net_present_value, point_of_success, worth_and_cost
from pipelines.costs.inputs import Inputs, default_inputs
from pipelines.costs.run import METRICS
from pipelines.costs.sensitivity import sobol, tornado
from pipelines.costs.spread import Pert, Posterior, Triangular
from pipelines.costs.units import Quantity, quantity, total, unit
from sim2real.errors import UserError

FREE = {
    name: 0
    for name in (
        "arm", "end_effector", "sensors", "computer", "fixtures", "safety", "integration_hours", "installation",
        "tasks", "new_tasks", "tending", "help_share", "help_time", "help_wait", "scrap", "material", "mttr", "repair",
        "maintenance", "power", "energy", "software", "cloud", "support", "residual_value", "manual_scrap", "revenue",
    )
}  # fmt: skip
"""A cell that costs nothing, to which a test adds what it is about."""


def a_cell(**given: Any) -> Inputs:
    """Everything fixed: one year, one shift of 8 h on 250 days, one attempt a minute, all of them good."""
    plain = {
        "shifts": 1,
        "shift_hours": 8,
        "cycle_time": 60,
        "success": 1,
        "life": 1,
        "demand": 1e9,
        "robots": 1,
    }
    plain |= {"wage": 30, "manual_time": 60, "discount": 0, "operator_load": 1, "mtbf": 1e9, "engineer": 100}
    rest = {name: one.spread.likely for name, one in default_inputs().by_name.items()}
    return cost_inputs({**rest, **FREE, **plain, **given})


# Units


def test_units_are_carried_and_do_not_mix() -> None:
    rate = quantity(30, "USD/h") * quantity(2, "min/item")
    assert rate.to("USD/item") == pytest.approx(1.0)
    assert (quantity(2, "shift/workday") * quantity(8, "h/shift") * quantity(250, "workday/year")).to(
        "h/year"
    ) == pytest.approx(4000)
    assert quantity(1, "kWh").to("W*h") == pytest.approx(1000)
    with pytest.raises(TypeError, match="do not add up"):
        quantity(1, "USD/item") + quantity(1, "USD/attempt")
    with pytest.raises(TypeError, match="is not measured in USD"):
        quantity(1, "USD/item").to("USD")
    with pytest.raises(UserError, match="'hour' in 'USD/hour' is no unit"):
        unit("USD/hour")


@pytest.mark.parametrize("one", default_inputs().by_name.values(), ids=lambda one: one.name)
def test_every_default_has_a_unit_a_source_and_a_date(one: Any) -> None:
    unit(one.unit)
    assert one.source.startswith(("assumption", "project brief"))
    assert one.date and one.about


# Distributions


@pytest.mark.parametrize("low, likely, high", [(0, 1, 10), (2, 2, 3), (0.76, 0.82, 0.97), (1, 3, 3)])
def test_distributions_are_those_of_scipy(low: float, likely: float, high: float) -> None:
    u = np.linspace(0.001, 0.999, 997)
    width = high - low
    peak = (likely - low) / width
    exact = stats.triang(peak, low, width).ppf(u)
    np.testing.assert_allclose(Triangular(low, likely, high).ppf(u), exact, atol=1e-9 * width)
    exact = stats.beta(1 + 4 * peak, 5 - 4 * peak, low, width).ppf(u)
    np.testing.assert_allclose(Pert(low, likely, high).ppf(u), exact, atol=2e-6 * width)
    even = (np.arange(20000) + 0.5) / 20000
    assert Pert(low, likely, high).ppf(even).mean() == pytest.approx((low + 4 * likely + high) / 6, rel=1e-4)


def test_success_is_the_posterior_of_counts() -> None:
    one = Posterior(18, 20)
    u = np.linspace(0.01, 0.99, 99)
    np.testing.assert_allclose(one.ppf(u), stats.beta(18.5, 2.5).ppf(u))
    assert one.likely == pytest.approx(18.5 / 21)
    assert 0 < Posterior(0, 5).low < Posterior(5, 5).high < 1


def test_draws_of_an_input_depend_on_nothing_else() -> None:
    before = default_inputs().draws(50, 3)
    after = default_inputs().given("wage", "1:2:3", "test").draws(50, 3)
    np.testing.assert_array_equal(before["cycle_time"].value, after["cycle_time"].value)
    assert not np.array_equal(before["cycle_time"].value, default_inputs().draws(50, 4)["cycle_time"].value)


# Money


def _flows(seed: int = 0, count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(seed)
    flows = rng.uniform(-20, 60, (count, 6))
    flows[:, 0] = -rng.uniform(20, 150, count)
    return flows


def test_present_value_and_internal_rate_against_numpy_financial() -> None:
    flows = _flows()
    rates = np.random.default_rng(1).uniform(0, 0.3, len(flows))
    theirs = [numpy_financial.npv(rate, row) for rate, row in zip(rates, flows)]
    np.testing.assert_allclose(finance.present_value(flows, rates), theirs)
    conventional = np.sort(flows, axis=1)  # losses first: one rate at most
    ours = finance.internal_rate(conventional)
    for rate, row in zip(ours, conventional):
        if row.max() <= 0:
            assert rate == -math.inf
        else:
            assert rate == pytest.approx(numpy_financial.irr(row), rel=1e-6, abs=1e-9)


def test_an_internal_rate_that_does_not_exist() -> None:
    rates = finance.internal_rate(np.array([[-10.0, 1.0, -5.0], [5.0, 1.0, 1.0], [-10.0, 11.0, 0.0]]))
    assert rates[0] == -math.inf
    assert rates[1] == math.inf
    assert rates[2] == pytest.approx(0.1)


def test_payback_is_interpolated_and_for_good() -> None:
    flows = np.array(
        [
            [-100.0, 40.0, 40.0, 40.0],
            [-100.0, 10.0, 10.0, 10.0],
            [0.0, 1.0, 1.0, 1.0],
            [-10.0, 20.0, -15.0, 10.0],
        ]
    )
    assert finance.payback(flows).tolist() == [2.5, math.inf, 0.0, 2.5]


def test_lives_are_cut_into_years() -> None:
    parts = finance.year_parts(np.array([1.0, 2.25]))
    assert parts.tolist() == [[0, 1, 0, 0], [0, 1, 1, 0.25]]
    assert finance.last_year(np.array([1.0, 2.25]), 3).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]


# The cell


def test_throughput_by_hand() -> None:
    """600 attempts a shift-hour-day … : 250 days of 8 h make 120,000 minutes; 80 % succeed, half of the failures need
    2 min of help after 1 min of waiting: 1.3 min an attempt."""
    x = a_cell(success=0.8, help_share=0.5, help_time=2, help_wait=1, operator_load=0.5).draws(1, 0)
    did = work(x)
    attempts = 120_000 / 1.3
    assert did.attempts.to("attempt/year") == pytest.approx(attempts)
    assert did.items.to("item/year") == pytest.approx(0.8 * attempts)
    assert did.failures.to("failure/year") == pytest.approx(0.2 * attempts)
    assert did.helped.to("h/year") == pytest.approx(0.1 * attempts * 2 / 60)
    # 0.2 min of help in every 1.3 min, of which a person may be planned for half
    assert did.robots_per_operator.to("robot") == pytest.approx(0.5 * 1.3 / 0.2)
    assert did.utilisation.to("1") == pytest.approx(1.0)


def test_no_more_is_made_than_is_wanted() -> None:
    did = work(a_cell(demand=60_000, robots=3).draws(1, 0))
    assert did.items.to("item/year") == pytest.approx(60_000)
    assert did.capacity.to("item/year") == pytest.approx(360_000)
    assert did.utilisation.to("1") == pytest.approx(1 / 6)


def test_a_year_by_hand() -> None:
    """12,000 dollars for the arm, 1,000 a year of cloud; 120,000 items save 50 cents each."""
    found = cost(settings={**_as_settings(a_cell(arm=12_000, cloud="1000 USD/robot/year"))}).result
    assert found["tco"]["p50"] == pytest.approx(13_000)
    assert found["cost_per_item"]["p50"] == pytest.approx(13_000 / 120_000)
    assert found["npv"]["p50"] == pytest.approx(60_000 - 13_000)
    assert found["irr"]["p50"] == pytest.approx(59_000 / 12_000 - 1, rel=1e-6)
    assert found["payback_years"]["p50"] == pytest.approx(12_000 / 59_000)
    assert found["break_even_items"]["p50"] == pytest.approx(13_000 / 0.5)
    assert found["break_even_items_per_year"]["p50"] == pytest.approx(13_000 / 0.5)
    assert found["probability_npv_positive"] == 1.0


def _as_settings(inputs: Inputs) -> dict[str, Any]:
    return {name: inputs[name].spread.likely for name in inputs.by_name if inputs[name].fixed}


@pytest.mark.parametrize("way", STRATEGIES)
def test_teaching_a_task_by_hand(way: str) -> None:
    given = dict(
        demos=120, demos_factor=3, demo_time=2, task_hours=5, training_hours=4, compute=10, pretraining=900
    )
    x = a_cell(**given, pretraining_tasks=9, fleet_equivalent=6, fleet_attention=0.5).draws(1, 0)
    engineering, computing = 5 * 100, 4 * 10
    wanted = {
        "demonstrations": 120 * 2 / 60 * 30,
        "pretraining": 40 * 2 / 60 * 30 + 100,
        "fleet": 40 * 6 * 0.5 / 60 * 30 + 100,
    }[way]
    assert total(teaching(x, way)).to("USD/task") == pytest.approx(engineering + computing + wanted)


def test_parts_sum_to_the_total_and_flows_discount_to_the_value() -> None:
    x = default_inputs().draws(300, 1)
    found = economics(x, "pretraining")
    by_parts = np.sum([part.sum(axis=1) for part in found.parts.values()], axis=0)
    np.testing.assert_allclose(by_parts, found.tco)
    spent = costs(x, work(x), "pretraining")
    life = x["life"].to("year")
    closed = (
        total(spent.once).to("USD") + total(spent.yearly).to("USD/year") * life + total(spent.end).to("USD")
    )
    np.testing.assert_allclose(found.tco, closed)
    rate = x["discount"].to("1/year")
    theirs = [numpy_financial.npv(r, row) for r, row in zip(rate, found.flows)]
    np.testing.assert_allclose(found.npv, theirs, atol=1e-6)
    np.testing.assert_allclose(found.flows.sum(axis=1), found.saving * found.items - found.tco, atol=1e-6)
    short = worth_and_cost(x, "pretraining")
    np.testing.assert_allclose(short[0], found.npv, atol=1e-6)
    np.testing.assert_allclose(short[1], found.tco, atol=1e-6)


def test_break_even_is_where_it_pays_nothing() -> None:
    x = default_inputs().draws(300, 2)
    found = economics(x, "pretraining")
    finite = np.isfinite(found.break_even_yearly) & (
        found.break_even_yearly < found.did.capacity.to("item/year")
    )
    at = {**x, "demand": quantity(np.where(finite, found.break_even_yearly, 1.0), "item/year")}
    worth = net_present_value(at, "pretraining")[finite]
    assert finite.sum() > 50
    np.testing.assert_allclose(worth, 0, atol=1e-6 * np.abs(found.npv).max())


def test_a_rented_robot_costs_its_rent() -> None:
    x = a_cell(arm=5000, rent=100, maintenance=0.1).draws(1, 0)
    bought, rented = (net_present_value(x, "pretraining", rented=r) for r in (False, True))
    assert rented - bought == pytest.approx(5000 + 500 - 1200)


def test_a_point_of_success_by_hand() -> None:
    """Of 120,000 attempts one in a hundred more succeeds, and saves 50 cents."""
    assert point_of_success(a_cell(success=0.7).draws(1, 0), "pretraining") == pytest.approx(1200 * 0.5)


# Which inputs decide


def test_indices_of_a_sum_are_shares_of_its_variance() -> None:
    inputs = a_cell(arm=(0, 1, 2), sensors=(0, 2, 4), computer=5)

    def model(x: Any) -> tuple[np.ndarray, ...]:
        return ((x["arm"] + x["sensors"] + x["computer"]).to("USD/robot"),)

    (found,) = sobol(inputs, model, 0)
    assert [one.name for one in found] == ["sensors", "arm"]
    assert [one.first for one in found] == pytest.approx([0.8, 0.2], abs=0.02)
    assert [one.total for one in found] == pytest.approx([0.8, 0.2], abs=0.02)
    (swings,) = tornado(inputs, model)
    assert [one.name for one in swings] == ["sensors", "arm"]
    expected = Pert(0, 2, 4).ppf(np.array([0.1, 0.9]))
    assert [swings[0].at_low, swings[0].at_high] == pytest.approx(expected + 1 + 5)


def test_nothing_that_varies_is_no_error() -> None:
    result = cost(settings=_as_settings(a_cell(arm=1))).result
    assert result["sobol"]["npv"] == result["tornado"]["npv"] == []
    assert result["npv"]["p10"] == result["npv"]["p90"]


# The figures of the brief


@pytest.mark.parametrize(
    "name, computed, agrees",
    [
        ("cost_per_item", 7.28, False),
        ("fleet_bandwidth", 13.2, False),
        ("half_a_point", 12.5, False),
        ("lone_robot", 33.3, True),
        ("pooled_robots", 950.0, True),
    ],
)
def test_figures_of_the_brief(name: str, computed: float, agrees: bool) -> None:
    one = next(figure for figure in FIGURES if figure.name == name)
    assert one.computed == pytest.approx(computed, rel=0.005)
    assert one.agrees is agrees


def test_the_brief_s_cost_per_item_by_the_model() -> None:
    """91,000 dollars, 50 items a day on 250 days."""
    settings = _as_settings(a_cell(arm=91_000, demand="12500 item/year"))
    found = cost(settings=settings)
    assert found.cost_per_item.p50 == pytest.approx(7.28)
    assert found.result["items_per_year"]["p50"] == pytest.approx(50 * 250)


# Nonsense


@pytest.mark.parametrize(
    "setting, said",
    [
        ("wage=1 --draws 5", "--draws must be 100 to"),
        ("wage=1 --draws 500 --teach luck", "--teach is one of demonstrations"),
        ("wage=1 --seed -1", "--seed must not be negative"),
        ("success=120%", "success must be at most 100 %, got 120 %"),
        ("success=90", "for 90 % write 90% or 0.9"),
        ("success=0.9:0.8:1", "must rise"),
        ("success=-0.1", "must be at least 0 %"),
        ("life=0", "life must be more than 0 year"),
        ("wage=nan", "wage: nan is no number"),
        ("wage=inf", "wage: inf is no number"),
        ("wage=cheap", "'cheap' is no number"),
        ("wage=1:2", "one value or three"),
        ("wage=3 USD/item", "is measured in USD/h"),
        ("wage=3 EUR/h", "'EUR' in 'EUR/h' is no unit"),
        ("wages=3", "did you mean 'wage'?"),
        ("robots=1.5", "robots must be a whole number"),
        ("robots=1:2:3", "robots is one whole number"),
        ("shifts=4", "a day has 24"),
        ("cycle_time=0", "cycle_time must be more than 0"),
        ("wage", "--set takes NAME=VALUE"),
    ],
)
def test_nonsense_is_one_line(
    setting: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value, *options = setting.split(" ") if " --" in setting else [setting]
    assert main(["cost", "--set", value, *options, "--out", str(tmp_path / "c")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    "text, said",
    [
        ("[inputs]\nwage = true", "wage: a number is needed"),
        ("[inputs]\nwage = {low = 1, high = 2}", "likely is missing"),
        ("[inputs]\nwage = {value = 1, low = 2}", "either value, or low"),
        ("[inputs]\nwage = {lo = 1}", "did you mean 'low'?"),
        ('[inputs]\nwage = {value = 1, shape = "normal"}', "unknown shape 'normal'"),
        ("[input]\nwage = 1", "did you mean 'inputs'?"),
        ("wage = 1", "inputs stand in the table [inputs]"),
        ("[inputs", "cannot read the scenario"),
        ("inputs = 3", "[inputs] a table"),
    ],
)
def test_a_wrong_scenario_is_one_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.toml").write_text(text)
    assert main(["cost", "--scenario", str(tmp_path / "s.toml"), "--out", str(tmp_path / "c")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_a_scenario_carries_units_and_sources(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(
        'title = "Kitting"\n[inputs]\narm = 350\ncycle_time = "0.5 min"\nsuccess = "80:90:95%"\n'
        'mtbf = {low = 1, likely = 2, high = 3, unit = "week", shape = "triangular", source = "log", date = "June"}\n'
    )
    inputs = cost_inputs(tmp_path / "s.toml")
    assert inputs.title == "Kitting"
    assert inputs["cycle_time"].spread.likely == pytest.approx(30)
    assert inputs["success"].spread == Pert(0.8, 0.9, 0.95)
    assert inputs["mtbf"].spread == Triangular(168, 336, 504)
    assert (inputs["mtbf"].source, inputs["mtbf"].date) == ("log", "June")
    assert inputs["arm"].source == "s.toml"


# Measured inputs


@pytest.mark.parametrize(
    "content, counted",
    [
        ({"draws": 200, "successes": 180, "success_rate": 0.9}, (180, 200)),
        ({"episodes": 12, "successes": 7, "unknown": 2}, (7, 10)),
        ({"evaluation": {"draws": 50, "success_rate": 0.5}}, (25, 50)),
        ({"simulation": {"after": {"draws": 10, "successes": 10}}}, (10, 10)),
        (
            {
                "trials": 30,
                "success_rate": 0.725,
                "per_task": [{"trials": 20, "successes": 19}, {"trials": 10, "successes": 5}],
            },
            (24, 30),
        ),
    ],
)
def test_success_from_a_benchmark(content: dict[str, Any], counted: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(content))
    for path in (tmp_path, tmp_path / "result.json"):
        inputs = cost_inputs(benchmark=path)
        assert inputs["success"].spread == Posterior(*counted)
        assert f"{counted[0]} of {counted[1]}" in inputs["success"].source
    found = cost(benchmark=tmp_path, draws=4000).result["success"]
    posterior = stats.beta(counted[0] + 0.5, counted[1] - counted[0] + 0.5)
    assert [found[k] for k in ("p10", "p50", "p90")] == pytest.approx(
        posterior.ppf([0.1, 0.5, 0.9]), abs=0.02
    )


@pytest.mark.parametrize(
    "content, said",
    [
        ({"draws": 3, "successes": 5}, "5 successes of 3"),
        ({"draws": 0, "successes": 0}, "has judged no episode"),
        ({"loss": 3}, "no counts of success"),
        ([1], "no JSON object"),
    ],
)
def test_a_benchmark_that_says_nothing(content: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=said):
        cost_inputs(benchmark=tmp_path)


def test_what_a_fleet_showed(tmp_path: Path) -> None:
    content = {"robots": 10, "effective_per_day": 950.0, "help_wait_min": {"mean": 2.5}}
    (tmp_path / "result.json").write_text(json.dumps(content))
    inputs = cost_inputs(fleet=tmp_path)
    assert inputs["robots"].spread.likely == 10
    assert inputs["fleet_episodes"].spread.likely == 95
    assert inputs["help_wait"].spread.likely == 2.5
    (tmp_path / "result.json").write_text('{"robots": 0.5}')
    with pytest.raises(UserError, match="has no `robots` and `effective_per_day`"):
        cost_inputs(fleet=tmp_path)


# The command


def test_the_command_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c"
    words = ["cost", "--draws", "500", "--out", str(out), "--json"]
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "result.json").read_text())
    for name in METRICS:
        row = printed[name]
        known = [row[key] for key in ("p10", "p50", "p90") if row[key] is not None]
        assert known == sorted(known) and "unit" in row, name
    assert sum(row["mean"] for row in printed["parts"].values()) == pytest.approx(printed["tco"]["mean"])
    assert sum(row["mean"] for row in printed["years"]) == pytest.approx(printed["tco"]["mean"])
    for row in printed["years"]:
        assert sum(row["parts"].values()) == pytest.approx(row["mean"])
    assert {"automate", "add_robot", "buy_or_rent", "collect_more", "how_to_teach"} == printed[
        "decisions"
    ].keys()
    assert all(0 <= row["probability_of_regret"] <= 1 for row in printed["decisions"].values())
    page = (out / "report.html").read_text()
    assert "Does it pay?" in page and "Tornado" in page
    assert main(words) == 0  # the same again
    assert json.loads(capsys.readouterr().out) == printed
    assert main([*words, "--seed", "1"]) == 2
    assert "holds another run" in capsys.readouterr().err


def test_inputs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--inputs", "--set", "wage=20:30:40"]) == 0
    text = capsys.readouterr().out
    assert "20:30:40" in text and all(name in text for name in default_inputs().by_name)
    assert main(["cost", "--inputs", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["inputs"]
    assert all({"low", "likely", "high", "unit", "source", "date"} <= row.keys() for row in rows)
    assert main(["cost"]) == 2
    assert "name a run directory with --out" in capsys.readouterr().err


def test_a_cell_that_never_succeeds_costs_no_figure_per_item() -> None:
    found = cost(settings={"success": 0}, draws=200)
    assert found.cost_per_item.p50 is None and found.payback_years.p50 is None and found.irr.p10 is None
    assert found.break_even_items.p50 is None
    assert found.probability_npv_positive == 0
    assert found.decisions["automate"] == "do not automate"
    assert "–" in str(found)
    json.dumps(found.result, allow_nan=False)


def test_a_certain_gain_is_no_regret() -> None:
    found = cost(settings={"success": 0.999, "manual_time": 60, "demand": 1e6}, draws=300)
    assert found.decisions["automate"] == "automate"
    assert found.result["decisions"]["automate"]["probability_of_regret"] == 0
    assert found.result["decisions"]["add_robot"]["choice"] == "add one"


def test_a_quantity_keeps_its_array() -> None:
    assert isinstance(quantity([1, 2], "h").value, np.ndarray)
    assert Quantity(np.array(2.0)).to("1") == 2
