"""The bar that long work shows: on a terminal, in a notebook, or as a line now and then in a log."""

import sys
import warnings
from typing import Any


def progress_bar(
    total: int | None, label: str, unit: str, *, shown: bool = True, initial: int = 0, leave: bool = False
) -> Any:
    """A tqdm bar on standard error, from `initial` to `total` units; also a context manager."""
    with warnings.catch_warnings():
        # In a notebook without widgets it warns, and then does what is right there: it writes text.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    moving = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(
        total=total,
        initial=initial,
        desc=label,
        unit=unit,
        disable=not shown,
        mininterval=0.1 if moving else 10.0,
        file=sys.stderr,
        dynamic_ncols=True,
        leave=leave,
    )
