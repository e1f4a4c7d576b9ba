"""Parameters, draws and observation vectors."""

import pickle

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.observation import Feature, flatten, standard_features
from sim2real.parameters import Draw, Parameter


def test_a_parameter_defaults_to_its_nominal_value() -> None:
    parameter = Parameter("world.gravity", 9.81)
    assert (parameter.low, parameter.high, parameter.randomized) == (9.81, 9.81, False)
    assert Parameter("x", 1.0, low=0.5, high=2.0).randomized


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nominal": float("nan")}, "finite"),
        ({"nominal": 1.0, "low": 2.0, "high": 1.0}, "2.0 > 1.0"),
        ({"nominal": 1.0, "low": 0.0, "high": 1.0, "scale": "log"}, "low > 0"),
    ],
)
def test_impossible_parameters_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Parameter("x", **arguments)  # type: ignore[arg-type]


def test_a_draw_survives_json_and_pickle_to_the_bit() -> None:
    draw = Draw(3, 2**62 + 1, {"a": 0.1 + 0.2, "b": -1e-300})
    assert Draw.from_json(draw.to_json()) == draw
    assert pickle.loads(pickle.dumps(draw)) == draw


def test_a_draw_is_a_value() -> None:
    with pytest.raises(TypeError):
        Draw(values={"a": 1.0}).values["a"] = 2.0  # type: ignore[index]
    with pytest.raises(ValueError, match="b=nan"):
        Draw(values={"a": 1.0, "b": float("nan")})


def test_flatten_follows_the_order_of_the_features() -> None:
    features = standard_features(["goal", "joint_position"], 2)
    vector = flatten({"joint_position": np.array([4.0, 5.0]), "goal": np.array([1.0, 2.0, 3.0])}, features)
    assert vector.dtype == np.float32
    assert vector.tolist() == [1, 2, 3, 4, 5]


def test_flatten_names_what_is_missing() -> None:
    with pytest.raises(UserError, match="lacks 'cube'.*it has \\['goal'\\]"):
        flatten({"goal": np.zeros(3)}, [Feature("cube", 3)])
    with pytest.raises(UserError, match="'goal' has 2 numbers, the policy expects 3"):
        flatten({"goal": np.zeros(2)}, [Feature("goal", 3)])
    with pytest.raises(UserError, match="unknown observation feature 'colour'"):
        standard_features(["colour"], 6)
