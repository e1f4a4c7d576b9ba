"""Episodes of a data set with everything that is checked of them: the one reader of `data`, `replay`, `identify` and
`finetune`.

What cannot be read is left out with its reason, at whatever rate the frames were really taken they are read, and turns
that an encoder lost are put back.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.identification.following import follow, mismatch
from pipelines.identification.recording_checks import contradicts, measured_rate, without_turns
from sim2real.episode import Episode
from sim2real.errors import UserError, spans
from sim2real.lerobot import schema
from sim2real.lerobot.reader import Converter, LeRobotDataset
from sim2real.robot import Robot

WHOLE = 1e-3
"""A measured rate that is so near to a whole number is that number."""
OTHER_RATE = 0.2
"""Relative difference from the others' rate from which on an episode was recorded at another one, not with jitter."""


@dataclass(frozen=True, eq=False)
class Readings:
    """What could be read of a data set.

    `episodes` by position, each at its `fps`; `rate` Hz is the one that most of them have. `broken` are the reasons
    for those that could not be read, by position; `unwrapped` those with turns put back; `remarks` what the user
    should know of all of it.
    """

    dataset: LeRobotDataset
    convert: Converter
    episodes: Mapping[int, Episode]
    broken: Mapping[int, str]
    rate: float
    stamped: bool
    """Whether `time` tells which frames are missing: not where the user has told the rate."""
    unwrapped: tuple[int, ...]
    remarks: tuple[str, ...]

    @property
    def numbers(self) -> dict[int, int]:
        """The episodes' own numbers by position."""
        return {position: entry.index for position, entry in enumerate(self.dataset.episodes)}

    def lost(self) -> list[str]:
        """The remarks on what could not be read."""
        return [
            f"left out: {line}"
            for line in grouped((self.numbers[position], reason) for position, reason in self.broken.items())
        ]

    def require_any(self) -> None:
        """Raise UserError, with the first reason, when nothing could be read."""
        if self.episodes:
            return
        if not self.broken:
            raise UserError(f"the data set {self.dataset.root} has no episodes")
        first = next(iter(self.broken.values()))
        raise UserError(f"no episode of {self.dataset.root} can be read; {first}")


def open_readings(
    data: str | Path,
    robot: Robot,
    *,
    calibration: str | Path | None = None,
    units: str = "auto",
    episodes: str | None = None,
    arm: str | None = None,
    fps: float | None = None,
    names: Mapping[str, str] | None = None,
) -> Readings:
    """Read the chosen episodes of a LeRobot data set; `arm` chooses one of several, `fps` (Hz) overrules the stated
    rate and the time stamps, `names` are ours by theirs (`sim2real/lerobot/mapping.py`).

    Raises UserError for what is missing or unclear in it as a whole, when no episode can be read, and for actions that
    cannot be the commands of the states.
    """
    dataset = LeRobotDataset.open(data, arm, names)
    dataset.require(schema.STATE, schema.ACTION)
    convert = dataset.converter(robot, dataset.calibration(robot, calibration), units)
    found = read_episodes(dataset, robot, convert, positions=dataset.select(episodes), fps=fps)
    found.require_any()
    problem = not_following(found, robot)
    if problem:
        raise UserError(f"in {data} {problem}")
    return found


def not_following(readings: Readings, robot: Robot) -> str | None:
    """Why the recorded commands cannot be those of the states, if they cannot: see `following.py`."""
    lower, upper = readings.convert.calibration.limits
    alike = [episode for episode in readings.episodes.values() if episode.fps == readings.rate]
    found = follow([e.executed for e in alike], [e.state for e in alike], readings.rate)
    return mismatch(found, robot, upper - lower)


def read_episodes(
    dataset: LeRobotDataset,
    robot: Robot,
    convert: Converter,
    *,
    positions: Sequence[int] | None = None,
    fps: float | None = None,
    commands: bool = True,
) -> Readings:
    """Read episodes of an open data set, by default all; without `commands`, actions are not asked for."""
    read: dict[int, Episode] = {}
    broken: dict[int, str] = {}
    for position in range(len(dataset)) if positions is None else positions:
        try:
            read[position] = dataset.episode(position, robot, convert, commands=commands)
        except UserError as error:
            broken[position] = str(error)
    remarks = [*convert.remarks, *dataset.remarks, *(dataset.unlisted if positions is None else ())]
    remarks += grouped((e.info["episode"], remark) for e in read.values() for remark in e.info["remarks"])
    unwrapped = [position for position, episode in read.items() if _unwrap(episode)]
    rate = fps
    if rate is None:
        rate = _rates(dataset, list(read.values()), remarks)
    else:
        for episode in read.values():
            episode.fps = rate
    return Readings(dataset, convert, read, broken, rate, fps is None, tuple(unwrapped), tuple(remarks))


def _rates(dataset: LeRobotDataset, episodes: Sequence[Episode], remarks: list[str]) -> float:
    """The rate of most episodes, Hz: the stated one, or that of the time stamps where they contradict it.

    Each episode's `fps` becomes its own: that rate, or another one where its stamps differ from the others'.
    """
    timed = [episode for episode in episodes if episode.info["clock"]]
    own = {id(episode): measured_rate([episode.time]) for episode in timed}
    untold = [e.info["episode"] for e in timed if own[id(e)] is None and len(e) > 1]
    if untold:
        remarks.append(
            f"episodes {spans(untold)}: time stamps tell no rate that arms are recorded at; they are not used"
        )
    told = [(rate, len(e)) for e in timed if (rate := own[id(e)]) is not None]
    usual = _weighted_median(told) if told else dataset.fps
    alike = [e.time for e in timed if (rate := own[id(e)]) is not None and not _differs(rate, usual)]
    measured = measured_rate(alike) or dataset.fps
    rate = _rounded(measured) if contradicts(measured, dataset.fps) else dataset.fps
    if rate != dataset.fps:
        remarks.append(
            f"the data set says {dataset.fps:g} Hz, its timestamps {measured:.2f} Hz: the timestamps are used"
        )
    others: dict[float, list[int]] = {}
    for episode in episodes:
        its = own.get(id(episode))
        episode.fps = _rounded(its) if its is not None and _differs(its, usual) else rate
        if its is None:
            frames = np.arange(len(episode)) if episode.info["clock"] else episode.time * dataset.fps
            episode.time = np.rint(frames) / episode.fps
        if episode.fps != rate:
            others.setdefault(round(episode.fps, 1), []).append(episode.info["episode"])
    for hz, numbers in others.items():
        remarks.append(
            f"by their time stamps, episodes {spans(numbers)} were recorded at {hz:g} Hz, the others at {rate:g} Hz"
        )
    return rate


def _weighted_median(values: Sequence[tuple[float, int]]) -> float:
    """The value that half of the frames are below, of pairs (value, frames)."""
    ordered = sorted(values)
    counts = np.cumsum([count for _, count in ordered])
    return ordered[int(np.searchsorted(counts, counts[-1] / 2))][0]


def _differs(rate: float, usual: float) -> bool:
    return abs(rate / usual - 1) > OTHER_RATE


def _rounded(rate: float) -> float:
    return float(round(rate)) if abs(rate - round(rate)) < WHOLE * rate else rate


def _unwrap(episode: Episode) -> bool:
    """Put back the turns that encoders lost; whether there were any."""
    executed, state, jumped = without_turns(episode.executed, episode.state)
    action, _, asked = without_turns(episode.action, episode.state)
    if jumped or asked:
        episode.executed, episode.state, episode.action = executed, state, action
    return jumped or asked


def selection(positions: Sequence[int]) -> str:
    """What chooses these episodes with --episodes: "0:4,6"."""
    chosen = sorted(set(positions))
    starts = [p for p in chosen if p - 1 not in chosen]
    ends = [p + 1 for p in chosen if p + 1 not in chosen]
    return ",".join(str(a) if b == a + 1 else f"{a}:{b}" for a, b in zip(starts, ends))


def grouped(reasons: Iterable[tuple[int, str]]) -> list[str]:
    """(episode, reason) as lines for people, one for each cause: "episodes 0-57, 60: no pictures …".

    Reasons that differ by their numbers alone are of one cause; then the first is told.
    """
    causes: dict[str, list[tuple[int, str]]] = {}
    for episode, reason in reasons:
        causes.setdefault(_NUMBER.sub("#", reason), []).append((episode, reason))
    lines = []
    for alike in causes.values():
        (first, text), numbers = alike[0], [episode for episode, _ in alike]
        if len(set(numbers)) == 1:
            named = re.search(rf"\bepisode {first}\b", text)
            lines.append(text if named else f"episode {first}: {text}")
        elif len({reason for _, reason in alike}) == 1:
            lines.append(f"episodes {spans(numbers)}: {text}")
        else:
            lines.append(f"episodes {spans(numbers)}: as in episode {first}: {text}")
    return lines


_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
