"""What tables of trials hold."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


def won(table: "pa.Table") -> NDArray[np.bool_]:
    """(N,): which trials succeeded."""
    return np.asarray(table["success"].to_numpy(zero_copy_only=False), dtype=bool)


def by_task(tables: Mapping[str, "pa.Table"]) -> tuple[list[int], list[int]]:
    """Successes and trials of every task."""
    return [int(won(table).sum()) for table in tables.values()], [table.num_rows for table in tables.values()]


def seconds_to_success(tables: Mapping[str, "pa.Table"]) -> float | None:
    """Median over all successful trials; None where there was none."""
    found = [
        second
        for table in tables.values()
        for second, success in zip(table["seconds"].to_pylist(), won(table))
        if success and second is not None
    ]
    return float(np.median(found)) if found else None
