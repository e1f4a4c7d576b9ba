"""What the metadata of a LeRobot data set says of its episodes, v3.0 and v2.x, and where it contradicts itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from sim2real.errors import UserError, spans
from sim2real.lerobot import labels
from sim2real.lerobot.files import parquet_schema, read_json_lines, read_parquet
from sim2real.lerobot.schema import FeatureSpec

DATA_PATHS = {
    3: "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    2: "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
}
VIDEO_PATHS = {
    3: "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    2: "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
}
"""Where files are, by the format's version, when meta/info.json does not say."""


@dataclass(frozen=True)
class Video:
    """Where an episode's pictures are: seconds `start`..`end` of a file (`end` may be infinite)."""

    path: Path
    start: float
    end: float


@dataclass(frozen=True)
class EpisodeEntry:
    """What the metadata says of an episode.

    `success` is None when nobody judged it. `ended` says what is unusual about its end: "recovered" (the
    recorder died, this is what it had written), "stopped" or "fault"; empty for others. `problem` says why the
    episode cannot be read, whatever its files hold; `label_problem` why what is said of its success cannot.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    videos: Mapping[str, Video] = field(default_factory=dict)
    success: bool | None = None
    ended: str = ""
    problem: str = ""
    label_problem: str = ""


@dataclass(frozen=True)
class Metadata:
    """Tasks, episodes in order, and what contradicts itself. `labelled`: the table of episodes judges them."""

    tasks: tuple[str, ...] = ()
    episodes: tuple[EpisodeEntry, ...] = ()
    labelled: bool = False
    remarks: tuple[str, ...] = ()


def read_metadata(
    root: Path, version: int, info: Mapping[str, Any], features: Mapping[str, FeatureSpec]
) -> Metadata:
    """The metadata of a data set of version 2 or 3. Raises UserError when it is missing or broken."""
    remarks: list[str] = []
    table = root / "meta" / ("episodes" if version == 3 else "episodes.jsonl")
    rows = _table_v3(root, info, remarks) if version == 3 else read_json_lines(table)
    videos = [name for name, spec in features.items() if spec.dtype == "video"]
    places = _Places(root, version, info, videos)
    entries = [_entry(row, places, table) for row in rows]
    labelled = any(labels.column_in_table(row) for row in rows)
    unique = _unique(entries, table, remarks)
    remarks += _contradictions(unique, info, table)
    return Metadata(_tasks(root, version, unique, remarks), tuple(unique), labelled, tuple(remarks))


def visible(paths: Sequence[Path], root: Path) -> list[Path]:
    """The `paths` under `root` that are not hidden: what a system or a downloader leaves (.DS_Store, ._x, .cache) is
    not data."""
    return [
        path for path in sorted(paths) if not any(part[:1] == "." for part in path.relative_to(root).parts)
    ]


def _table_v3(root: Path, info: Mapping[str, Any], remarks: list[str]) -> list[dict[str, Any]]:
    files = visible(list((root / "meta" / "episodes").rglob("*.parquet")), root)
    if not files and info.get("total_episodes"):
        raise UserError(f"the data set is incomplete: there is no parquet file in {root}/meta/episodes")
    rows: list[dict[str, Any]] = []
    problems: list[UserError] = []
    for path in files:
        try:
            wanted = [name for name in parquet_schema(path).names if not name.startswith("stats/")]
            rows += read_parquet(path, wanted).to_pylist()
        except UserError as error:
            problems.append(error)
    if problems and not rows:
        raise problems[0]
    remarks += [f"the episodes listed in one file are unknown: {problem}" for problem in problems]
    return rows


class _Places:
    """Where the files of an episode are, by its row in the table."""

    def __init__(self, root: Path, version: int, info: Mapping[str, Any], videos: Sequence[str]) -> None:
        self.root, self.version, self.videos = root, version, videos
        self.data_path = str(info.get("data_path") or DATA_PATHS[version])
        self.video_path = str(info.get("video_path") or VIDEO_PATHS[version])
        size = info.get("chunks_size")
        self.chunk_size = size if isinstance(size, int) and size > 0 else 1000

    def data(self, row: Mapping[str, Any]) -> Path:
        return self.root / _filled(self.data_path, self._where(row, "data/"))

    def of_videos(self, row: Mapping[str, Any]) -> dict[str, Video]:
        found = {}
        for name in self.videos:
            prefix = f"videos/{name}/"
            if self.version == 3 and row.get(prefix + "file_index") is None:
                continue
            path = self.root / _filled(self.video_path, {"video_key": name, **self._where(row, prefix)})
            start, end = row.get(prefix + "from_timestamp"), row.get(prefix + "to_timestamp")
            found[name] = Video(
                path, 0.0 if start is None else float(start), float("inf") if end is None else float(end)
            )
        return found

    def _where(self, row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        if self.version == 3:
            return {name: _whole(row, prefix + name) for name in ("chunk_index", "file_index")}
        index = _whole(row, "episode_index")
        return {"episode_chunk": index // self.chunk_size, "episode_index": index}


_FIELD = re.compile(r"\{(\w+)(?::0?(\d)d)?\}")


def _filled(template: str, values: Mapping[str, Any]) -> str:
    """`template` with its {name} and {name:03d} filled in, and nothing else that str.format knows."""

    def fill(match: re.Match[str]) -> str:
        value = values[match.group(1)]
        return str(value) if match.group(2) is None else f"{int(value):0{int(match.group(2))}d}"

    return _FIELD.sub(fill, template)


def _whole(row: Mapping[str, Any], name: str) -> int:
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def _entry(row: Mapping[str, Any], places: _Places, table: Path) -> EpisodeEntry:
    try:
        index, data = _whole(row, "episode_index"), places.data(row)
        length, videos = _whole(row, "length"), places.of_videos(row)
    except KeyError as error:
        raise UserError(f"{table} lacks {error} for an episode") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{table}: {error}") from None
    tasks = row.get("tasks") or ()
    column, success, label_problem = labels.column_in_table(row), None, ""
    if column is not None:
        try:
            success = labels.label(row[column])
        except ValueError as error:
            label_problem = f"the column {column} of {table} holds {error}, which says neither yes nor no"
    return EpisodeEntry(
        index=index,
        length=length,
        tasks=(tasks,)
        if isinstance(tasks, str)
        else tuple(map(str, tasks))
        if isinstance(tasks, list)
        else (),
        data=data,
        videos=videos,
        success=success,
        ended=str(row.get("ended") or ""),
        label_problem=label_problem,
    )


def _unique(entries: Sequence[EpisodeEntry], table: Path, remarks: list[str]) -> list[EpisodeEntry]:
    """The entries in order, each episode once; those that are listed twice in different ways have a problem."""
    found: dict[int, EpisodeEntry] = {}
    twice: set[int] = set()
    for entry in entries:
        first = found.setdefault(entry.index, entry)
        if first is entry:
            continue
        twice.add(entry.index)
        if replace(first, problem="") != entry:
            differ = [
                name
                for name in vars(entry)
                if name != "problem" and getattr(first, name) != getattr(entry, name)
            ]
            what = f"{differ[0]} {getattr(first, differ[0])} and {getattr(entry, differ[0])}"
            problem = f"episode {entry.index} is listed twice in {table}, with {what}, and nothing says which is right"
            found[entry.index] = replace(first, problem=problem)
    if twice:
        remarks.append(f"{table} lists more than once the episodes {spans(sorted(twice))}; each counts once")
    return sorted(found.values(), key=lambda entry: entry.index)


def _contradictions(entries: Sequence[EpisodeEntry], info: Mapping[str, Any], table: Path) -> list[str]:
    """What the table of episodes and meta/info.json do not agree on."""
    remarks = []
    there = [entry.index for entry in entries]
    if there:
        gaps = [(a + 1, b - 1) for a, b in pairwise(there) if b > a + 1]
        if gaps:
            lacking = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in gaps[:8]) + ", …" * (
                len(gaps) > 8
            )
            remarks.append(f"{table} leaves out the episodes {lacking} between those that it lists")
    for key, found in (
        ("total_episodes", len(entries)), ("total_frames", sum(entry.length for entry in entries)),
    ):  # fmt: skip
        stated = info.get(key)
        if isinstance(stated, int) and stated != found:
            what = key.removeprefix("total_")
            remarks.append(f"meta/info.json says {stated} {what}, the table of episodes {found}")
    return remarks


def _tasks(root: Path, version: int, entries: Sequence[EpisodeEntry], remarks: list[str]) -> tuple[str, ...]:
    """The tasks in the order of their numbers; as the episodes name them when their own table cannot be read."""
    names = ("tasks.parquet", "tasks.jsonl") if version == 3 else ("tasks.jsonl", "tasks.parquet")
    paths = [root / "meta" / name for name in names]
    path = next((each for each in paths if each.exists()), paths[0])
    try:
        if path.suffix == ".parquet":
            table = read_parquet(path).to_pydict()
            numbers = table.pop("task_index", None)
            # The frame's index: pandas calls it so when it has no name of its own.
            texts = next(iter(table.values()), None)
        else:
            lines = read_json_lines(path)
            numbers, texts = ([row.get(key) for row in lines] for key in ("task_index", "task"))
        if numbers is None or texts is None:
            raise UserError(f"{path} needs the tasks and their task_index")
        if all(isinstance(number, int) for number in numbers):
            return tuple(str(text) for _, text in sorted(zip(numbers, texts), key=lambda pair: pair[0]))
        raise UserError(f"task_index in {path} must be whole numbers")
    except UserError as error:
        if entries:
            remarks.append(f"tasks are taken from the table of episodes: {error}")
        return tuple(dict.fromkeys(task for entry in entries for task in entry.tasks))
