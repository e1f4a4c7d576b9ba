"""Statistics of features as LeRobot keeps them: min, max, mean, std, count and five quantiles."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Stats = dict[str, NDArray[Any]]

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
KEYS = ("min", "max", "mean", "std", "count", *QUANTILES)


def column_stats(values: NDArray[Any]) -> Stats:
    """Statistics over the frames of a column (T,) or (T, …): arrays of the frame's shape, (1,) for scalars.

    Values that are not numbers are left out; where nothing else is there, the statistics are 0.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim == 1:
        rows = rows[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any number
        stats = {
            "min": np.nanmin(rows, axis=0),
            "max": np.nanmax(rows, axis=0),
            "mean": np.nanmean(rows, axis=0),
            "std": np.nanstd(rows, axis=0),
            **dict(zip(QUANTILES, np.nanquantile(rows, list(QUANTILES.values()), axis=0))),
        }
    return {key: np.nan_to_num(value) for key, value in stats.items()} | {"count": np.array([len(rows)])}


def image_stats(pixels: NDArray[np.uint8], frames: int) -> Stats:
    """Statistics of sampled pixels (N, 3), RGB, as (3, 1, 1) arrays in [0, 1]; `frames` is the count."""
    stats = column_stats(pixels / 255.0)
    shaped = {key: value.reshape(3, 1, 1) for key, value in stats.items() if key != "count"}
    return {"count": np.array([frames]), **shaped}


def pooled(parts: Sequence[Stats]) -> Stats:
    """Statistics of the union of several parts.

    Exact but for the quantiles, which are the means of the parts' quantiles weighted by their counts.
    """
    counts = np.array([float(part["count"][0]) for part in parts])

    def stack(key: str) -> NDArray[np.float64]:
        return np.stack([np.asarray(part[key], dtype=np.float64) for part in parts])

    def weighted(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.average(values, axis=0, weights=counts))

    mean = weighted(stack("mean"))
    variance = weighted(stack("std") ** 2 + (stack("mean") - mean) ** 2)
    return {
        "min": stack("min").min(axis=0),
        "max": stack("max").max(axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([int(counts.sum())]),
        **{key: weighted(stack(key)) for key in QUANTILES},
    }
