"""Runs of single servos on a bench, as they are recorded: a folder of CSV files and an index."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.recording_checks import glitches
from sim2real.errors import UserError

Array = NDArray[np.float64]


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
    with index.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
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
    position = np.asarray(table["position_rad"], dtype=np.float64)
    time = np.asarray(table["timestamp_s"], dtype=np.float64)
    try:
        numbers = {key: float(row[key]) for key in ("kp_register", "mass_kg", "length_m")}
    except ValueError as error:
        raise UserError(f"{path.parent / 'index.csv'}, {path.name}: {error}") from None
    return BenchRun(
        name=path.name,
        servo=row["servo"],
        p_gain=numbers["kp_register"],
        mass=numbers["mass_kg"],
        length=numbers["length_m"],
        time=time,
        goal=np.asarray(table["goal_rad"], dtype=np.float64),
        position=position,
        enabled=np.asarray(table["torque_enable"], dtype=np.float64),
        # Single outliers occur; the supply is steady.
        voltage=float(np.median(table["voltage_v"])),
        valid=~glitches(position[:, None], 1.0 / float(np.median(np.diff(time))))[:, 0],
    )
