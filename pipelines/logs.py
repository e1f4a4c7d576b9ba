"""Real logs as what simulation replays: a data set's commands and states in radians, or a servo bench's runs."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.recording_checks import contradicts, glitches, hand_guided, measured_rate, moving_frames
from sim2real.errors import UserError
from sim2real.lerobot import schema
from sim2real.lerobot.reader import LeRobotDataset
from sim2real.robot import Robot
from sim2real.twin import Recording

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ArmLog:
    """A data set's episodes, ready to be replayed.

    `lower`, `upper` (n,) rad: the calibrated range. `valid` (T, n): which states are believed (glitches are not).
    `units` and `reason` say how stored values were read, `remarks` what else the user should know.
    """

    recording: Recording
    lower: Array
    upper: Array
    valid: NDArray[np.bool_]
    units: str
    reason: str
    episodes: tuple[int, ...]
    remarks: tuple[str, ...]

    def outcome(self) -> Array:
        """(T, n) recorded state[t + 1] for row t in rad; NaN where there is none, or none that is believed."""
        state = np.where(self.valid, self.recording.state, np.nan)
        outcome = np.full_like(state, np.nan)
        outcome[:-1] = state[1:]
        outcome[~self.recording.compared()] = np.nan
        return outcome

    def select(self, episodes: Sequence[int]) -> "ArmLog":
        """The log of some of its episodes, by position."""
        starts = self.recording.starts
        rows = np.concatenate([np.arange(starts[e], starts[e + 1]) for e in episodes])
        return ArmLog(
            self.recording.select(list(episodes)), self.lower, self.upper, self.valid[rows], self.units, self.reason,
            tuple(self.episodes[e] for e in episodes), self.remarks,
        )  # fmt: skip


def load_arm_log(
    data: str | Path, robot: Robot, *, calibration: str | Path | None = None, units: str = "auto",
    episodes: str | None = None,
) -> ArmLog:  # fmt: skip
    """Read a LeRobot data set. Raises UserError for whatever is missing or unclear in it, naming what to do."""
    dataset = LeRobotDataset.open(data)
    convert = dataset.converter(robot, dataset.calibration(robot, calibration), units)
    chosen = dataset.select(episodes)
    loaded = [(position, dataset.episode(position, robot, convert)) for position in chosen]
    short = [dataset.episodes[position].index for position, episode in loaded if len(episode.state) < 10]
    loaded = [(position, episode) for position, episode in loaded if len(episode.state) >= 10]
    if not loaded:
        raise UserError(f"{data} has no episode of at least 10 frames among those asked for")
    remarks = [f"episodes {short} are shorter than 10 frames and left out"] if short else []
    lengths = [len(episode.state) for _, episode in loaded]
    state = np.concatenate([episode.state for _, episode in loaded])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    fps = measured_rate([episode.time for _, episode in loaded]) or dataset.fps
    valid = np.concatenate([~glitches(episode.state, fps) for _, episode in loaded])
    if not valid.all():
        remarks.append(f"{int((~valid).sum())} single-sample read errors are ignored")
        state = _mended(state, valid, starts)
    if not contradicts(fps, dataset.fps):
        fps = dataset.fps
    else:
        remarks.append(
            f"the data set says {dataset.fps:g} Hz, its timestamps {fps:.2f} Hz: the timestamps are used"
        )
    lower, upper = convert.calibration.limits
    ramp = schema.EXECUTED in dataset.features
    recording = Recording(
        np.concatenate([episode.executed for _, episode in loaded]), state, starts, fps, ramp
    )
    return ArmLog(
        recording=recording,
        # A calibration that is nominal can be narrower than where the arm has been.
        lower=np.minimum(lower, state.min(axis=0)),
        upper=np.maximum(upper, state.max(axis=0)),
        valid=valid,
        units=convert.found.units,
        reason=convert.found.reason,
        episodes=tuple(dataset.episodes[position].index for position, _ in loaded),
        remarks=tuple(remarks),
    )


def refuse_without_information(log: ArmLog, source: str) -> None:
    """Raise UserError for hand-guided recordings: their actions are the measured states and say nothing of servos."""
    recording = log.recording
    bounds = recording.starts[1:-1]
    command, state = np.split(recording.command, bounds), np.split(recording.state, bounds)
    if moving_frames(state) < 10:
        raise UserError(f"in {source} the arm does not move, so nothing can be identified; record it moving")
    repeats = hand_guided(command, state)
    if repeats is not None:
        raise UserError(
            f"{source} was guided by hand: action[t] equals {repeats} in nearly all frames that move, so the "
            "recording carries no information about the servos; use a data set recorded by teleoperation or "
            "by a policy"
        )


def _mended(state: Array, valid: NDArray[np.bool_], starts: NDArray[np.int64]) -> Array:
    """The states with believed neighbours in place of what is not: simulations start from them."""
    state = state.copy()
    for row, joint in zip(*np.nonzero(~valid)):
        state[row, joint] = state[row + 1 if row in starts else row - 1, joint]
    return state


# Servo benches


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
