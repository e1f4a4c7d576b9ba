"""Runs of single servos on a bench, as they are recorded: a folder of CSV files and an index."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.recording_checks import glitches
from sim2real.errors import UserError

Array = NDArray[np.float64]

MOST_TURNS = 20.0
"""rad; a servo with a pendulum does not go round and round."""


@dataclass(frozen=True, eq=False)
class BenchRun:
    """One run of a single servo that swings a pendulum; angles are 0 when it hangs straight down.

    Arrays (T,): `time` s, `goal` and `position` rad, `enabled` 0/1, `duty` −1…1 (NaN where not recorded); `valid`
    which positions are believed. `p_gain` is the P register, `mass` kg at `length` m.
    """

    name: str
    servo: str
    p_gain: float
    mass: float
    length: float
    time: Array
    goal: Array
    position: Array
    enabled: Array
    voltage: float
    valid: NDArray[np.bool_]


def load_bench(folder: str | Path, servo: str | None = None) -> list[BenchRun]:
    """Read the runs that `folder`/index.csv lists (of one kind of servo).

    The index needs the columns file, servo, kp_register, mass_kg, length_m; runs the columns timestamp_s, goal_rad,
    position_rad, voltage_v, torque_enable. Raises UserError for whatever is missing.
    """
    folder = Path(folder)
    index = folder / "index.csv"
    if not index.is_file():
        raise UserError(f"{folder} is no folder of bench runs: it has no index.csv that lists them")
    runs = []
    try:
        with index.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {index}: {error}") from None
    wanted = ("file", "servo", "kp_register", "mass_kg", "length_m")
    if not rows or any(column not in rows[0] for column in wanted):
        raise UserError(f"{index} needs the columns {', '.join(wanted)} and at least one run")
    for row in rows:
        if servo is not None and row["servo"] != servo:
            continue
        runs.append(_bench_run(folder / row["file"], row))
    if not runs:
        kinds = sorted({row["servo"] for row in rows})
        raise UserError(f"{index} lists no run of a servo called '{servo}'; it has {', '.join(kinds)}")
    return runs


def _bench_run(path: Path, row: dict[str, str]) -> BenchRun:
    try:
        table = np.genfromtxt(path, delimiter=",", names=True)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the bench run {path}: {error}") from None
    wanted = ("timestamp_s", "goal_rad", "position_rad", "voltage_v", "torque_enable")
    missing = [name for name in wanted if name not in (table.dtype.names or ())]
    if missing:
        raise UserError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.dtype.names or ())}"
        )
    if len(table) < 20 or not (np.diff(table["timestamp_s"]) > 0).all():
        raise UserError(f"{path} needs at least 20 samples with rising time stamps")
    columns = {name: np.asarray(table[name], dtype=np.float64) for name in wanted}
    for name in ("goal_rad", "torque_enable"):
        if not np.isfinite(columns[name]).all():
            row_number = int(np.flatnonzero(~np.isfinite(columns[name]))[0]) + 2
            raise UserError(f"{path}, line {row_number}: {name} is not a number")
    time, goal = columns["timestamp_s"], columns["goal_rad"]
    position, read = _read_positions(columns["position_rad"], path)
    if not np.isfinite(columns["voltage_v"]).any():
        raise UserError(f"{path} holds no number in the column voltage_v; write the supply's voltage there")
    numbers = {key: _number(row[key], key, path) for key in ("kp_register", "mass_kg", "length_m")}
    return BenchRun(
        name=path.name,
        servo=row["servo"],
        p_gain=numbers["kp_register"],
        mass=numbers["mass_kg"],
        length=numbers["length_m"],
        time=time,
        goal=goal,
        position=position,
        enabled=columns["torque_enable"],
        # Single outliers occur; the supply is steady.
        voltage=float(np.nanmedian(columns["voltage_v"])),
        valid=read & ~glitches(position[:, None], 1.0 / float(np.median(np.diff(time))))[:, 0],
    )


def _read_positions(position: Array, path: Path) -> tuple[Array, NDArray[np.bool_]]:
    """Positions (T,) rad without jumps of a whole turn and gaps, and which were really read."""
    read = np.isfinite(position)
    if read.mean() < 0.5:
        raise UserError(f"{path}: more than half of position_rad is not a number")
    if np.abs(position[read]).max() > MOST_TURNS:
        raise UserError(
            f"{path}: position_rad reaches {np.abs(position[read]).max():.0f}; angles must be in radians, 0 when the "
            "pendulum hangs"
        )
    rows = np.arange(len(position))
    return np.interp(rows, rows[read], np.unwrap(position[read], discont=1.5 * np.pi)), read


def _number(text: str | None, key: str, path: Path) -> float:
    """A positive number of the index; without a mass the pendulum's own arm is all that swings."""
    try:
        value = float(text or "nan")
    except ValueError:
        value = float("nan")
    if not (0 < value < float("inf") or (key == "mass_kg" and value == 0)):
        raise UserError(
            f"{path.parent / 'index.csv'}: {key} of {path.name} must be a positive number, got '{text}'"
        )
    return value
