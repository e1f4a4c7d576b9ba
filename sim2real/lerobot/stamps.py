"""Time stamps of others as seconds from an episode's start, as far as they say anything."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.lerobot import schema
from sim2real.lerobot.rows import FRAME, EpisodeRows

Array = NDArray[np.float64]

_UNITS = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
_OFF = 10.0
"""By what factor a stated rate may be wrong. Units are a thousand apart: what is further off is none of them."""
_RISING = 0.5
"""Share of the frames after which stamps must be greater, or they say nothing."""


def in_seconds(stamps: NDArray[np.number], fps: float) -> tuple[Array | None, str]:
    """Stamps of an episode (T,) as s from its start, and what is remarkable about them ("" if nothing).

    None instead where they tell nothing, with the reason. The unit is the one by which frames come at about the
    stated `fps`, Hz.
    """
    time = np.asarray(stamps, dtype=np.float64)
    if time.ndim != 1:
        return None, "are not a number for each frame"
    if len(time) < 2:
        return np.zeros(len(time)), ""
    steps = np.diff(time)
    rising = steps[np.isfinite(steps) & (steps > 0)]
    if len(rising) < _RISING * len(steps):
        return None, "do not rise from frame to frame"
    step = float(np.median(rising))
    if step == 1.0 and (rising == 1.0).all() and fps > 2.0:
        return None, "count frames"
    if stamps.dtype.kind == "f" and float(np.spacing(np.abs(stamps[np.isfinite(stamps)]).max())) > 0.5 * step:
        return None, "are too coarse: so large a number has no digits left for a frame"
    unit = next((name for name, size in _UNITS.items() if 1 / _OFF <= step * size * fps <= _OFF), None)
    if unit is None:
        return None, f"step by {step:.4g}, which is about 1/{fps:g} s in no unit"
    first = time[np.isfinite(time)][0]
    return (time - first) * _UNITS[unit], "" if unit == "seconds" else f"are {unit}"


def out_of_order(time: Array) -> int | None:
    """At which frame the times (T,) s of an episode's frames go back, where in another order they would be even.

    None when they rise, or when a clock was merely set back.
    """
    steps = np.diff(time)
    back = np.flatnonzero(steps <= 0)
    if not len(back) or not np.isfinite(time).all():
        return None
    ordered = np.diff(np.sort(time))
    typical = float(np.median(ordered))
    even = ordered.min() > 0.5 * typical and ordered.max() < 1.5 * typical
    return int(back[0]) + 1 if even and typical > 0 else None


@dataclass(frozen=True, eq=False)
class Times:
    """Times of an episode's frames, (T,) s from its start, the column that tells them, and what is remarkable.

    `column` is "" where none does: then they are frame / fps.
    """

    seconds: Array
    column: str
    remarks: tuple[str, ...]


def times_of(rows: EpisodeRows, features: Collection[str], fps: float, episode: str) -> Times:
    """When the frames of an episode at the stated `fps` Hz were taken; `episode` names it in messages.

    Raises UserError where stamps and frame_index order the frames differently.
    """
    remarks = []
    for name in (schema.TIME, schema.STAMP):
        if name == schema.TIME and name not in features:
            continue
        try:
            stamps = rows.column(name)
        except UserError as error:
            remarks.append(f"{name} cannot be read: {error}")
            continue
        turned = out_of_order(np.asarray(stamps, dtype=np.float64)) if stamps.ndim == 1 else None
        if turned is not None:
            raise UserError(
                f"{episode}: {name} goes back at frame {turned}, and would be even in another order than that of "
                f"{FRAME}; nothing says which is right"
            )
        time, remark = in_seconds(stamps, fps)
        if remark:
            remarks.append(f"{name} stamps {remark}" + ("" if time is not None else ": they are not used"))
        if time is not None:
            return Times(time, name, tuple(remarks))
    frames = np.arange(len(rows), dtype=np.float64)
    if FRAME in rows.file.names:
        frames = np.asarray(rows.column(FRAME), dtype=np.float64)
    return Times((frames - frames[:1]) / fps, "", tuple(remarks))
