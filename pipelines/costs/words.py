"""How costs are written for people."""

import math
from collections.abc import Mapping
from typing import Any

from pipelines.costs.inputs import Inputs


def money(value: float | None, digits: int = 3) -> str:
    """Dollars with three digits: "$7.28", "$91.2k", "-$1.35M"; "–" for what does not exist."""
    if value is None:
        return "–"
    sign, size = "-" if value < 0 else "", abs(value)
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= 0.9995 * factor:
            return f"{sign}${_short(size / factor, digits)}{letter}"
    return f"{sign}${_short(size, digits)}"


def figure(value: float | None, unit: str) -> str:
    """A figure with what it counts, as short as can be."""
    if value is None:
        return "–"
    kind = unit.split("/")[0]
    if kind == "USD":
        return money(value)
    if kind == "share":
        return f"{100 * value:.3g} %"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def spread(row: Mapping[str, Any], unit: str | None = None) -> str:
    """ "median [p10 … p90]"."""
    low, middle, high = (figure(row[key], unit or row["unit"]) for key in ("p10", "p50", "p90"))
    return f"{middle} [{low} … {high}]"


def inputs_text(inputs: Inputs, groups: Mapping[str, str]) -> str:
    """All inputs for a terminal, by group (`groups` gives their titles)."""
    lines = []
    for group, title in groups.items():
        lines.append(f"{title}:")
        for one in inputs.by_name.values():
            if one.group == group:
                low, likely, high = (f"{v:.6g}" for v in (one.spread.low, one.spread.likely, one.spread.high))
                values = likely if one.fixed else f"{low}:{likely}:{high}"
                lines.append(f"  {one.name:20} {values:>22} {one.unit:18} {one.about}")
                lines.append(f"  {'':20} {'':>22} {'':18} ({one.source}; {one.date})")
        lines.append("")
    return "\n".join(
        [*lines, "Values are low : most likely : high; a share of 1 is 100 %. Change them with --set."]
    )


def _short(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    decimals = max(digits - 1 - math.floor(math.log10(value)), 0)
    return f"{value:.{decimals}f}"
