"""Whether an episode succeeded, in the ways in which data sets say so.

The table of episodes may have a column for it, or the frames a label each: an episode succeeded then when one of its
frames did. Rewards count where they are 0 and 1 and nothing else.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.lerobot.rows import EpisodeRows

IN_TABLE = (
    "success", "is_success", "succeeded", "successful", "episode_success", "next.success", "is_successful",
)  # fmt: skip
"""Columns of the table of episodes that say it, the first that is there."""
IN_FRAMES = ("next.success", "success", "is_success", "succeeded", "successful", "next.is_success")
"""Features of frames that say it, the first that is there."""
REWARDS = ("next.reward", "reward")

_YES = ("true", "yes", "1", "1.0", "success", "succeeded", "successful")
_NO = ("false", "no", "0", "0.0", "failure", "failed", "fail", "unsuccessful")
_UNJUDGED = ("", "none", "null", "nan", "unknown", "unlabeled", "unlabelled")


def column_in_table(row: Mapping[str, Any]) -> str | None:
    """The column of a row of the table of episodes that says whether the episode succeeded."""
    return next((name for name in IN_TABLE if name in row), None)


def label(value: Any) -> bool | None:
    """A label as it is stored. Raises ValueError, with the value, for what is none."""
    if isinstance(value, list | tuple | np.ndarray):
        if len(value) != 1:
            raise ValueError(f"{str(value)[:40]}")
        value = value[0]
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return None
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _YES or word in _NO:
            return word in _YES
        if word in _UNJUDGED:
            return None
        raise ValueError(repr(value[:40]))
    if isinstance(value, bool | int | float | np.generic) and value in (0, 1):
        return bool(value)
    raise ValueError(repr(value)[:40])


def of_frames(values: NDArray[Any] | Sequence[Any]) -> bool | None:
    """The label of an episode by those of its frames. Raises ValueError for what is none."""
    array = np.asarray(values)
    if array.dtype.kind in "biuf":  # the usual ones, quickly
        numbers = array.astype(np.float64).reshape(-1)
        known = numbers[~np.isnan(numbers)]
        odd = known[(known != 0) & (known != 1)]
        if len(odd):
            raise ValueError(f"{odd[0]:g}")
        return bool((known == 1).any()) if len(known) else None
    labels = [label(value) for value in values]
    return True if True in labels else False if False in labels else None


def judged(rows: EpisodeRows, features: Collection[str], table_judges: bool) -> tuple[bool | None, str]:
    """An episode's label by its frames, and what is there instead of one that can be read ("" if nothing).

    `table_judges` says that the table of episodes has labels, though none for this one: frames that say no say nothing
    then, since nobody may have judged it.
    """
    name = next((name for name in IN_FRAMES if name in features), None)
    rewards = next((name for name in REWARDS if name in features), None)
    if name is None and (rewards is None or table_judges):
        return None, ""
    try:
        found = of_frames(_stored(rows, name or str(rewards)))
    except ValueError as error:
        what = f"{name} is {error} in a frame, which says neither yes nor no"
        return (
            None,
            what if name else f"{rewards} is {error} in a frame: rewards other than 0 and 1 are no labels",
        )
    except UserError as error:
        return None, f"{name or rewards} cannot be read: {error}"
    return None if table_judges and found is False else found, ""


def _stored(rows: EpisodeRows, name: str) -> Any:
    try:
        return rows.column(name)
    except UserError:
        return list(rows.values(name))  # text, or lists
