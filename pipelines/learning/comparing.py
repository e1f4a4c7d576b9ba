"""Two policies on the same draws: what changed, and whether chance explains it."""

from collections.abc import Mapping
from typing import Any

from randomization.comparison import compare


def paired(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Two results of `evaluate` on the same draws, side by side.

    "difference" of the success rates with its 95 % interval "interval_95", "only_before" and "only_after" (draws that
    succeeded in one of them alone) and "p" (McNemar's exact test, two-sided).
    """
    found = compare(_won(before), _won(after))
    return {
        "before": dict(before),
        "after": dict(after),
        "difference": found.difference,
        "interval_95": [found.low, found.high],
        "only_before": found.only_a,
        "only_after": found.only_b,
        "p": found.p_value,
    }


def _won(result: Mapping[str, Any]) -> list[bool]:
    """Of every draw whether it succeeded."""
    failed = set(result["failures"])
    return [draw not in failed for draw in range(result["draws"])]


def worse(compared: Mapping[str, Any]) -> bool:
    """Whether success fell by more than chance explains: the whole interval is below zero."""
    return bool(compared["interval_95"][1] < 0)


def change_text(compared: Mapping[str, Any]) -> str:
    """For people: "80.0% → 96.0% (+16.0 points, 95 % interval +5.1 to +26.4)"."""
    low, high = (100 * end for end in compared["interval_95"])
    return (
        f"{compared['before']['success_rate']:.1%} → {compared['after']['success_rate']:.1%} "
        f"({100 * compared['difference']:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f})"
    )
