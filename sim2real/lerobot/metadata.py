"""What the metadata of a LeRobot data set says of its episodes, v3.0 and v2.x."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sim2real.errors import UserError
from sim2real.lerobot.schema import FeatureSpec


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
    recorder died, this is what it had written), "stopped" or "fault"; empty for others.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    videos: Mapping[str, Video] = field(default_factory=dict)
    success: bool | None = None
    ended: str = ""


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A whole parquet file. Raises UserError when it is missing or broken."""
    if not path.is_file():
        raise UserError(f"the data set is incomplete: {path} does not exist; copy it in, or record again")
    try:
        return pq.ParquetFile(path).read(columns)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is not readable as parquet ({reason}); a recorder that is killed leaves such a file: "
            "what it holds is lost, remove the episodes in it or record them again"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"cannot read {path}: expected a JSON object")
    return content


def metadata_v3(
    root: Path, info: Mapping[str, Any], features: Mapping[str, FeatureSpec]
) -> tuple[tuple[str, ...], tuple[EpisodeEntry, ...]]:
    files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        if int(info.get("total_episodes", 0)) > 0:
            raise UserError(f"the data set is incomplete: there is nothing in {root}/meta/episodes")
        return (), ()
    task_table = read_parquet(root / "meta" / "tasks.parquet").to_pydict()
    numbers = task_table.pop("task_index", None)
    # The frame's index: pandas calls it so when it has no name of its own.
    texts = next(iter(task_table.values()), None)
    if numbers is None or texts is None:
        raise UserError(f"{root}/meta/tasks.parquet needs the tasks and their task_index")
    tasks = tuple(text for _, text in sorted(zip(numbers, texts)))

    videos = [name for name, spec in features.items() if spec.dtype == "video"]
    entries = []
    for path in files:
        wanted = [name for name in _column_names(path) if not name.startswith("stats/")]
        for row in read_parquet(path, wanted).to_pylist():
            try:
                entries.append(_entry_v3(root, info, row, videos))
            except (KeyError, TypeError) as error:
                raise UserError(f"{path} lacks {error} for an episode") from None
    return tasks, tuple(sorted(entries, key=lambda entry: entry.index))


def _column_names(path: Path) -> list[str]:
    """Names of a parquet file's columns. Raises UserError when it cannot be read."""
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not readable as parquet: {str(error).splitlines()[0]}") from None


def _entry_v3(
    root: Path, info: Mapping[str, Any], row: Mapping[str, Any], videos: Sequence[str]
) -> EpisodeEntry:
    data = str(info["data_path"]).format(
        chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
    )
    found = {}
    for name in videos:
        prefix = f"videos/{name}/"
        if row.get(prefix + "file_index") is None:
            continue
        path = str(info["video_path"]).format(
            video_key=name,
            chunk_index=row[prefix + "chunk_index"],
            file_index=row[prefix + "file_index"],
        )
        found[name] = Video(root / path, row[prefix + "from_timestamp"], row[prefix + "to_timestamp"])
    return EpisodeEntry(
        index=int(row["episode_index"]),
        length=int(row["length"]),
        tasks=tuple(row["tasks"] or ()),
        data=root / data,
        videos=found,
        success=row.get("success"),
        ended=row.get("ended") or "",
    )


def metadata_v2(
    root: Path, info: Mapping[str, Any], features: Mapping[str, FeatureSpec]
) -> tuple[tuple[str, ...], tuple[EpisodeEntry, ...]]:
    def lines(name: str) -> list[dict[str, Any]]:
        path = root / "meta" / name
        if not path.is_file():
            raise UserError(f"the data set is incomplete: {path} does not exist")
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"cannot read {path}: {error}") from None

    try:
        tasks = tuple(
            str(row["task"]) for row in sorted(lines("tasks.jsonl"), key=lambda row: int(row["task_index"]))
        )
        chunk_size = int(info.get("chunks_size", 1000))
        videos = [name for name, spec in features.items() if spec.dtype == "video"]
        entries = []
        for row in lines("episodes.jsonl"):
            index = int(row["episode_index"])
            where = {"episode_chunk": index // chunk_size, "episode_index": index}
            entries.append(
                EpisodeEntry(
                    index=index,
                    length=int(row["length"]),
                    tasks=tuple(row.get("tasks") or ()),
                    data=root / str(info["data_path"]).format(**where),
                    videos={
                        name: Video(
                            root / str(info["video_path"]).format(video_key=name, **where), 0.0, float("inf")
                        )
                        for name in videos
                    },
                    success=row.get("success"),
                )
            )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the metadata of {root} lacks {error}") from None
    return tasks, tuple(sorted(entries, key=lambda entry: entry.index))
