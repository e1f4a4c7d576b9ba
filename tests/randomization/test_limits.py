"""Values that a parameter cannot have are refused in words, and no draw holds one."""

import numpy as np
import pytest

from randomization.space import Space
from sim2real.errors import UserError
from sim2real.parameters import Parameter

PARAMETERS = {
    p.name: p
    for p in (
        Parameter("mass", 1.0, "kg", 0.5, 2.0, minimum=0.1),
        Parameter("share", 0.5, "", 0.25, 0.75, minimum=0.0, maximum=1.0),
        Parameter("free", 0.0, "m"),
    )
}


def space(**entries: object) -> Space:
    return Space.from_dict({"base": "nominal", "parameters": entries})


@pytest.mark.parametrize(
    ("name", "entry", "said"),
    [
        ("mass", [-1.0, 1.0], "mass cannot be -1; it can be 0.1 or more kg"),
        ("mass", 0.0, "mass cannot be 0"),
        ("mass", {"distribution": "normal", "mean": 1.0, "std": 1.0}, "a truncated_normal keeps within"),
        ("share", {"distribution": "uniform", "low": 0.5, "high": 3.0, "mode": "scale"}, "0 … 1"),
        ("share", {"distribution": "choice", "values": [0.5, 1.5]}, "share cannot be 1.5"),
    ],
)
def test_impossible_values_are_refused(name: str, entry: object, said: str) -> None:
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        space(**{name: entry}).bind(PARAMETERS)


def test_a_range_scaled_to_the_very_limit_is_taken() -> None:
    entry = {"distribution": "uniform", "low": 1.0, "high": 2.0, "mode": "scale"}
    assert space(share=entry).bind(PARAMETERS).range("share") == (0.5, 1.0)


def test_long_tails_end_at_the_limit() -> None:
    bound = space(mass={"distribution": "normal", "mean": 1.0, "std": 0.25}).bind(PARAMETERS)
    drawn = [row["mass"] for row in bound.values(np.array([[1e-9], [0.5], [1 - 1e-9]]))]
    assert drawn[0] == 0.1 and drawn[1] == 1.0 and drawn[2] > 2.4


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"correlated": 3}, "must be an array of tables"),
        ({"correlated": [{"parameters": "mass", "matrix": 3}]}, "must be a list of names"),
        ({"correlated": [{"parameters": ["mass", "free"], "matrix": 3}]}, "a list of rows of numbers"),
        ({"parameters": {"mass": {"low": 0.5, "high": 1.0}}}, "'distribution' is missing"),
    ],
)
def test_malformed_files_are_refused_in_words(raw: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Space.from_dict(raw)
