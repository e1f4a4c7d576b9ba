"""Figures of reports: matplotlib without a display, one look for all, returned as SVG data addresses."""

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipelines.page import svg_uri
from randomization.sensitivity import Level, PairMap

INK, SOFT, GRID = "#1d2733", "#5b6773", "#e3e7ec"
ACCENT, SECOND, GOOD, BAD = "#1f6f8b", "#d98e32", "#2f7d4f", "#b5482f"
SERIES = (ACCENT, SECOND, GOOD, "#7a5aa6", BAD, "#5b6773")

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": "#c3cad2",
    "axes.linewidth": 0.8,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "normal",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "report",
    "figure.dpi": 72,
    "lines.linewidth": 1.6,
    "axes.prop_cycle": cycler(color=SERIES),
}


class Canvas:
    """A figure under construction: `with Canvas(6, 3) as c: c.axes[0].plot(…)`, then `c.uri`.

    Width and height in inches (72 of the page's points each), `rows` × `columns` axes.
    """

    def __init__(self, width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> None:
        self._context = matplotlib.rc_context(STYLE)
        self._context.__enter__()
        self.figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(self.figure)
        self.axes: list[Any] = list(np.ravel(self.figure.subplots(rows, columns, squeeze=False, **options)))
        self.uri = ""

    def __enter__(self) -> "Canvas":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if error is None:
                buffer = io.BytesIO()
                # No date in the file: the same data give the same bytes.
                self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
                self.uri = svg_uri(buffer.getvalue())
        finally:
            self._context.__exit__(kind, error, trace)


def intervals(
    labels: Sequence[str],
    values: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    *,
    unit: str,
    faded: Sequence[bool] | None = None,
    marks: Sequence[tuple[float, float, float] | None] | None = None,
    mark_label: str = "",
    value_label: str = "",
    percent: bool = True,
) -> str:
    """Horizontal bars with interval whiskers, first label on top; faded ones are not significant.

    `marks` are further (value, low, high) per bar, shown as points.
    """
    n = len(labels)
    with Canvas(7.6, (0.85 if marks else 0.55) + 0.3 * n) as c:
        ax, y = c.axes[0], np.arange(n)[::-1]
        fade = faded or [False] * n
        colors = ["#b9c4cc" if f else ACCENT for f in fade]
        ax.barh(y, values, height=0.56, color=colors, label=value_label or None)
        errors = np.maximum([np.subtract(values, lows), np.subtract(highs, values)], 0)
        ax.errorbar(values, y, xerr=errors, fmt="none", ecolor=INK, elinewidth=0.9, capsize=2.5, capthick=0.9)
        if marks:
            drawn = [(m, v) for m, v in zip(marks, y) if m is not None]
            if drawn:
                v, lo, hi = np.array([m for m, _ in drawn]).T
                at = np.array([p for _, p in drawn]) - 0.36
                ax.errorbar(
                    v, at, xerr=np.maximum([v - lo, hi - v], 0), fmt="o", color=SECOND, markersize=3.6,
                    elinewidth=0.9, label=mark_label,
                )  # fmt: skip
                c.figure.legend(loc="outside upper right", ncols=2)
        ax.set_yticks(y, labels)
        ax.tick_params(axis="y", length=0, labelcolor=INK)
        ax.grid(axis="y", visible=False)
        ax.set_xlim(left=0)
        ax.set_xlabel(unit)
        if percent:
            # Noisy estimates may exceed the whole; what they say ends there.
            ax.set_xlim(right=min(ax.get_xlim()[1], 1.05))
            percent_axis(ax.xaxis)
    return c.uri


def counts(labels: Sequence[str], values: Sequence[int], unit: str, color: str = BAD) -> str:
    """Horizontal bars of counts with the number beside each."""
    with Canvas(7.6, 0.45 + 0.3 * len(labels)) as c:
        ax, y = c.axes[0], np.arange(len(labels))[::-1]
        bars = ax.barh(y, values, height=0.56, color=color)
        ax.bar_label(bars, padding=4, color=SOFT)
        ax.set_yticks(y, labels)
        ax.tick_params(axis="y", length=0, labelcolor=INK)
        ax.grid(axis="y", visible=False)
        ax.margins(x=0.08)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel(unit)
    return c.uri


def curve(
    levels: Sequence[Level],
    *,
    x_label: str,
    y_label: str,
    nominal: float | None,
    rate: bool,
    log: bool = False,
) -> str:
    """The mean outcome over one parameter with its interval as a band, nominal value marked."""
    with Canvas(3.0, 2.2) as c:
        ax = c.axes[0]
        x = [p.value for p in levels]
        ax.fill_between(x, [p.low for p in levels], [p.high for p in levels], color=ACCENT, alpha=0.16, lw=0)
        ax.plot(x, [p.mean for p in levels], "o-", color=ACCENT, markersize=3.8)
        if log:
            ax.set_xscale("log")
            _plain_log(ax, min(p.start for p in levels), max(p.stop for p in levels))
        else:
            ax.locator_params(axis="x", nbins=4)
        if nominal is not None and min(p.start for p in levels) <= nominal <= max(p.stop for p in levels):
            ax.axvline(nominal, color=SOFT, lw=0.9, ls=(0, (4, 3)))
        if rate:
            ax.set_ylim(
                min(0.0, *(p.low for p in levels)) if min(p.low for p in levels) < 0.5 else None, 1.02
            )
            percent_axis(ax.yaxis)
        ax.set_xlabel(_fit_label(x_label, 26))
        ax.set_ylabel(y_label)
    return c.uri


def success_map(
    pair: PairMap, *, x_label: str, y_label: str, rate: bool, nominal: tuple[float, float] | None
) -> str:
    """The outcome over two parameters: cells coloured, with value and number of draws written in."""
    with Canvas(4.8, 3.7) as c:
        ax = c.axes[0]
        ax.grid(visible=False)
        low, high = (0.0, 1.0) if rate else (float(np.nanmin(pair.mean)), float(np.nanmax(pair.mean)))
        # Dark is bad: few successes, or long times.
        cmap = "cividis" if rate else "cividis_r"
        mesh = ax.pcolormesh(pair.x_edges, pair.y_edges, pair.mean, cmap=cmap, vmin=low, vmax=high)
        for i, j in np.ndindex(pair.mean.shape):
            if pair.count[i, j]:
                share = (pair.mean[i, j] - low) / ((high - low) or 1.0)
                light = share if rate else 1 - share
                text = f"{pair.mean[i, j]:.0%}" if rate else f"{pair.mean[i, j]:.2f}"
                ax.text(
                    (pair.x_edges[j] + pair.x_edges[j + 1]) / 2,
                    (pair.y_edges[i] + pair.y_edges[i + 1]) / 2,
                    f"{text}\n{pair.count[i, j]}",
                    ha="center", va="center", fontsize=7.6, linespacing=1.25, color=INK if light > 0.55 else "white",
                )  # fmt: skip
        if nominal is not None:
            ax.plot(*nominal, marker="+", color=BAD, markersize=11, markeredgewidth=2)
        ax.locator_params(nbins=5)
        ax.set_xlabel(x_label)
        ax.set_ylabel(_fit_label(y_label, 36))
        bar = c.figure.colorbar(mesh, ax=ax, shrink=0.9, pad=0.02)
        bar.outline.set_visible(False)
        if rate:
            percent_axis(bar.ax.yaxis)
        else:
            bar.set_label("s")
    return c.uri


def lines(
    x: Any,
    series: Sequence[tuple[str, Any]],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    width: float = 7.6,
    height: float = 2.6,
    log_y: bool = False,
    styles: Sequence[str] = (),
) -> str:
    """Curves over a common abscissa, with a legend when there are several."""
    with Canvas(width, height) as c:
        ax = c.axes[0]
        for i, (label, y) in enumerate(series):
            ax.plot(*thin(x, y), styles[i] if i < len(styles) else "-", label=label)
        if log_y:
            ax.set_yscale("log")
        if len(series) > 1:
            ax.legend(loc="best", ncols=min(len(series), 4))
        ax.set_xlabel(x_label)
        ax.set_ylabel(y_label)
        ax.set_title(title)
        ax.margins(x=0.01)
    return c.uri


def histogram(
    values: Any, *, x_label: str, y_label: str = "samples", bins: int = 60, log_y: bool = True
) -> str:
    """A histogram; logarithmic counts show the tails."""
    with Canvas(7.6, 2.3) as c:
        ax = c.axes[0]
        ax.hist(np.asarray(values, float), bins=bins, color=ACCENT)
        if log_y:
            ax.set_yscale("log")
        ax.set_xlabel(x_label)
        ax.set_ylabel(y_label)
    return c.uri


def panels(
    x: Any,
    rows: Sequence[tuple[str, Sequence[tuple[str, Any]]]],
    *,
    x_label: str,
    y_label: str,
    columns: int = 2,
    height: float = 1.75,
    least_span: float = 0.0,
) -> str:
    """Small plots that share their abscissa: (title, [(label, y)]) each, legend in the first.

    No ordinate shows less than `least_span`: what hardly moves shall look so.
    """
    count = math.ceil(len(rows) / columns)
    with Canvas(9.4, height * count + 0.3, count, columns, sharex=True) as c:
        for i, (ax, (title, series)) in enumerate(zip(c.axes, rows)):
            for k, (label, y) in enumerate(series):
                ax.plot(*thin(x, y), label=label, lw=1.5 if k == 0 else 1.1, color=SERIES[k])
            ax.set_title(title)
            ax.margins(x=0.01)
            bottom, top = ax.get_ylim()
            if top - bottom < least_span:
                middle = (bottom + top) / 2
                ax.set_ylim(middle - least_span / 2, middle + least_span / 2)
            if i % columns == 0:
                ax.set_ylabel(y_label)
        if len(rows[0][1]) > 1:
            handles, labels = c.axes[0].get_legend_handles_labels()
            c.figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
        for ax in c.axes[len(rows) :]:
            ax.set_visible(False)
        for ax in c.axes[max(0, len(rows) - columns) : len(rows)]:
            ax.set_xlabel(x_label)
            ax.tick_params(labelbottom=True)
    return c.uri


def thin(x: Any, y: Any, most: int = 1500) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most `most` points; where there are more, the extremes of each stretch, so that no peak is lost."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(y) <= most:
        return x, y
    stretches = np.array_split(np.arange(len(y)), most // 2)
    keep: list[int] = []
    for part in stretches:
        values = np.nan_to_num(y[part])
        keep += sorted({int(part[np.argmin(values)]), int(part[np.argmax(values)])})
    return x[keep], y[keep]


def percent_axis(axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    # As many decimals as the ticks need: 2.5 % must not be written as 2 %.
    axis.set_major_formatter(PercentFormatter(1.0, decimals=None))


def _plain_log(ax: Any, low: float, high: float) -> None:
    """Readable numbers instead of powers of ten on a logarithmic axis over `low` … `high`, and few of them."""
    from matplotlib.ticker import (
        FixedLocator,
        FuncFormatter,
        LogLocator,
        MaxNLocator,
        NullFormatter,
        NullLocator,
    )

    if high < 10 * low:
        ticks = MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(low, high)
        locator: Any = FixedLocator([t for t in ticks if low <= t <= high])
    else:
        locator = LogLocator(subs=(1.0, 3.0) if high < 300 * low else (1.0,))
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _fit_label(label: str, width: int) -> str:
    """A label in two lines where one would not fit."""
    return label if len(label) <= width else label.replace(" (", "\n(")
