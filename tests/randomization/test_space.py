"""Spaces and designs: wildcards, modes, reproducible draws, correlations, messages."""

import pickle

import numpy as np
import pytest

from randomization.designs import DESIGNS, Grid, Saltelli, load_design
from randomization.distributions import Constant, LogUniform, Normal, Uniform
from randomization.space import Correlation, Space, Variation, parse_setting
from sim2real.errors import UserError
from sim2real.parameters import Parameter

PARAMETERS = {
    p.name: p
    for p in (
        Parameter("servo.pan.kp", 18.0, "N·m/rad", 13.5, 27.0),
        Parameter("servo.lift.kp", 20.0, "N·m/rad", 15.0, 30.0),
        Parameter("servo.pan.coulomb", 0.05, "N·m", 0.02, 0.1, "log"),
        Parameter("servo.pan.backlash", 0.0, "rad"),
        Parameter("world.tilt", 0.0, "rad", -0.02, 0.02),
        Parameter("task.goal.radius", 0.2, "m", 0.16, 0.3),
    )
}


def test_default_space_has_the_declared_ranges():
    bound = Space.default(PARAMETERS).bind(PARAMETERS)
    assert bound.names == tuple(n for n in PARAMETERS if n != "servo.pan.backlash")
    assert bound.dimension == 5
    draws = bound.draws(256, seed=3)
    for name in bound.names:
        values = np.array([draw.values[name] for draw in draws])
        parameter = PARAMETERS[name]
        assert parameter.low <= values.min() and values.max() <= parameter.high
        assert np.ptp(values) > 0.95 * (parameter.high - parameter.low)
    logs = np.log([draw.values["servo.pan.coulomb"] for draw in draws])
    assert logs.mean() == pytest.approx(np.log(0.02 * 0.1) / 2, abs=0.02)
    assert Space().bind(PARAMETERS).draws(4, 3) == Space.default(PARAMETERS).bind(PARAMETERS).draws(4, 3)


def test_base_decides_what_else_varies():
    only = {"world.tilt": Uniform(0.0, 0.1)}
    assert Space(only, base="nominal").bind(PARAMETERS).names == ("world.tilt",)
    assert Space(only, base="task").bind(PARAMETERS).names == ("world.tilt", "task.goal.radius")
    assert len(Space(only).bind(PARAMETERS).names) == 5


def test_modes_are_relative_to_the_nominal_value_and_later_entries_win():
    space = Space(
        {
            "servo.*.kp": Variation(Uniform(0.5, 2.0), "scale"),
            "servo.lift.kp": Variation(Constant(1.5), "add"),
            "world.tilt": Variation(Uniform(0.01, 0.03), "add"),
        },
        base="nominal",
    )
    bound = space.bind(PARAMETERS)
    values = bound.values(np.array([[1 / 3, 0.5]]))[0]
    assert values == pytest.approx({"servo.pan.kp": 18.0, "servo.lift.kp": 21.5, "world.tilt": 0.02})
    assert bound.range("servo.pan.kp") == (9.0, 36.0)
    assert bound.range("servo.pan.backlash") == (0.0, 0.0)


def test_shared_entries_move_together():
    space = Space({"servo.*.kp": Variation(Uniform(0.8, 1.2), "scale", shared=True)}, base="nominal")
    bound = space.bind(PARAMETERS)
    assert bound.dimension == 1 and bound.column_names == ("servo.*.kp",)
    for draw in bound.draws(8, 0):
        assert draw.values["servo.pan.kp"] / 18 == pytest.approx(draw.values["servo.lift.kp"] / 20)


def test_correlated_normals_have_their_correlation_and_their_margins():
    space = Space(
        {"servo.pan.kp": Normal(18.0, 2.0), "servo.lift.kp": Normal(20.0, 1.0)},
        base="nominal",
        correlations=(Correlation(("servo.pan.kp", "servo.lift.kp"), ((1.0, -0.7), (-0.7, 1.0))),),
    )
    draws = space.bind(PARAMETERS).draws(4096, 1)
    x = np.array([[d.values["servo.pan.kp"], d.values["servo.lift.kp"]] for d in draws])
    assert np.corrcoef(x.T)[0, 1] == pytest.approx(-0.7, abs=0.01)
    np.testing.assert_allclose(x.mean(0), [18, 20], atol=0.02)
    np.testing.assert_allclose(x.std(0), [2, 1], atol=0.02)


@pytest.mark.parametrize("name", list(DESIGNS))
def test_draw_i_is_the_same_whatever_the_count_and_the_start(name):
    bound = Space.default(PARAMETERS).bind(PARAMETERS)
    design = load_design(name, levels=2)
    many = bound.draws(70, seed=5, design=design)
    assert [d.index for d in many] == list(range(70))
    assert bound.draws(70, seed=5, design=design, start=33) == many[33:]
    if design.prefix_stable:
        assert bound.draws(45, seed=5, design=design) == many[:45]
    assert bound.draws(70, seed=6, design=design) != many
    pickle.loads(pickle.dumps(bound)).draws(3, 0)


def test_episode_seeds_are_distinct_and_survive_json():
    draws = Space().bind(PARAMETERS).draws(500, seed=1)
    assert len({d.seed for d in draws}) == 500
    assert all(0 <= d.seed < 2**53 for d in draws)
    assert type(draws[0]).from_json(draws[0].to_json()) == draws[0]


def test_latin_hypercube_covers_each_slice_once():
    points = load_design("lhs").points(40, 3, seed=0)
    for column in points.T:
        assert sorted((column * 40).astype(int)) == list(range(40))


def test_one_at_a_time_moves_one_column_and_shares_noise():
    bound = Space.default(PARAMETERS).bind(PARAMETERS)
    draws = bound.draws(15, 0, "oat")
    assert len({d.seed for d in draws}) == 1
    for i, draw in enumerate(draws):
        moved = [n for n, v in draw.values.items() if v != PARAMETERS[n].nominal]
        assert moved in ([bound.names[i % 5]], [])  # the middle of a symmetric range is the nominal value
    levels = [draws[i].values["task.goal.radius"] for i in (4, 9, 14)]
    assert levels == pytest.approx([0.23, 0.195, 0.265])


def test_grid_crosses_its_columns_and_randomizes_the_rest():
    points = Grid(levels=3, columns=(0, 2)).points(20, 4, seed=0)
    cells = {(round(a * 6), round(b * 6)) for a, b in points[:9, [0, 2]]}
    assert cells == {(a, b) for a in (1, 3, 5) for b in (1, 3, 5)}
    assert len(set(points[:, 1])) == 20
    np.testing.assert_array_equal(points[9:18, [0, 2]], points[:9, [0, 2]])
    with pytest.raises(UserError, match="81 cells"):
        Grid(levels=3).points(20, 4, seed=0)


def test_saltelli_blocks_differ_by_one_column():
    points = Saltelli().points(10, 3, seed=0).reshape(2, 5, 3)
    for block in points:
        a, b = block[0], block[-1]
        for i in range(3):
            expected = a.copy()
            expected[i] = b[i]
            np.testing.assert_array_equal(block[i + 1], expected)
    assert Saltelli().seed_index(10, 3).tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 2, 3]


def test_space_file_round_trip(tmp_path):
    space = Space(
        {
            "servo.*.kp": Variation(LogUniform(0.5, 2.0), "scale", shared=True),
            "servo.pan.coulomb": Variation(Normal(0.05, 0.01)),
            "world.tilt": Variation(Normal(0.0, 0.01)),
        },
        base="task",
        correlations=(Correlation(("servo.pan.coulomb", "world.tilt"), ((1.0, 0.3), (0.3, 1.0))),),
    )
    space.save(tmp_path / "space.toml", about="made by a test")
    assert Space.load(tmp_path / "space.toml") == space


def test_short_forms_in_a_file(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text('base = "nominal"\n[parameters]\nworld.tilt = [0.0, 0.1]\n"servo.pan.kp" = 17\n')
    bound = Space.load(path).bind(PARAMETERS)
    assert bound.names == ("world.tilt",) and bound.fixed == {"servo.pan.kp": 17.0}
    assert bound.draws(1, 0)[0].values["servo.pan.kp"] == 17.0


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("nonsense", "cannot read"),
        ('[parameters]\n"servo.kp" = {distribution = "unifrom", low = 1, high = 2}', "servo.kp"),
        ('[parametres]\n"a" = 1', "parametres"),
        ('base = "nothing"', "allowed are default, nominal, task"),
        ('[parameters]\n"a" = {distribution = "constant", value = 1, mode = "times"}', "allowed are set"),
        ('[[correlated]]\nparameters = ["a", "b"]\nmatrix = [[1, 2], [2, 1]]', "positive definite"),
        ('[[correlated]]\nparameters = ["a", "b"]', "matrix"),
    ],
)
def test_broken_space_files_are_refused(tmp_path, text, complaint):
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        Space.load(path)
    assert complaint in str(caught.value)
    with pytest.raises(UserError, match="no space file"):
        Space.load(tmp_path / "missing.toml")


def test_unknown_names_get_the_nearest_ones():
    with pytest.raises(UserError, match=r"servo\.pan\.coulomb"):
        Space({"servo.pan.columb": Constant(1.0)}).bind(PARAMETERS)
    with pytest.raises(UserError, match=r"nearest are .*servo\.pan\.kp"):
        Space({"servos.*.kp": Constant(1.0)}).bind(PARAMETERS)


def test_scaling_a_zero_nominal_is_refused():
    with pytest.raises(UserError, match="nominal value is 0"):
        Space({"world.*": Variation(Uniform(0.5, 2.0), "scale")}).bind(PARAMETERS)


def test_correlating_a_parameter_that_does_not_vary_is_refused():
    group = Correlation(("servo.pan.backlash", "world.tilt"), ((1.0, 0.1), (0.1, 1.0)))
    with pytest.raises(UserError, match=r"servo\.pan\.backlash"):
        Space(correlations=(group,)).bind(PARAMETERS)


@pytest.mark.parametrize(
    "text, variation",
    [
        ("object.mass=0.01:0.1", Variation(Uniform(0.01, 0.1))),
        ("servo.*.kp=x0.5:x2", Variation(Uniform(0.5, 2.0), "scale")),
        ("servo.*.kp=x1.1", Variation(Constant(1.1), "scale")),
        ("world.tilt=+-0.1:+0.2", Variation(Uniform(-0.1, 0.2), "add")),
        ("world.tilt=-0.1:0.2", Variation(Uniform(-0.1, 0.2))),
        ("world.gravity=9.7", Variation(Constant(9.7))),
    ],
)
def test_command_line_settings(text, variation):
    assert parse_setting(text) == (text.split("=")[0], variation)


@pytest.mark.parametrize("text", ["a", "a=", "=1:2", "a=1:2:3", "a=x1:2", "a=lo:hi", "a=2:1", "a=nan"])
def test_unreadable_settings_are_refused(text):
    with pytest.raises(UserError, match="setting"):
        parse_setting(text)


def test_settings_override_the_file():
    space = Space({"servo.pan.kp": Constant(15.0)}).with_parameters(["servo.*.kp=x1:x2"])
    assert set(space.bind(PARAMETERS).names) >= {"servo.pan.kp", "servo.lift.kp"}


def test_sobol_columns_are_even_and_do_not_alias():
    points = load_design("sobol").points(1024, 60, seed=0)
    for column in points.T:
        assert np.bincount((column * 64).astype(int), minlength=64).tolist() == [16] * 64
    # A pair's interaction must not look like a third column's effect: signs of the halves, all triples.
    signs = np.where(points > 0.5, 1.0, -1.0)
    for i in range(0, 60, 7):
        products = np.abs((signs[:, [i]] * signs).T @ signs) / 1024
        for j in range(60):
            products[[i, j], j] = 0  # i with j gives j back
        products[i] = 0
        products[:, i] = 0
        assert products.max() < 0.2
