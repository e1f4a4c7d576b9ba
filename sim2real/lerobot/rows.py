"""The rows of one data file: columns as arrays, an episode's frames in their order.

Columns are read when they are asked for, by their actual types: what nobody needs cannot make a file unreadable.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sim2real.errors import UserError, spans
from sim2real.lerobot.files import parquet_schema, read_parquet

EPISODE, FRAME = "episode_index", "frame_index"

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


class DataFile:
    """A parquet file with the frames of one or several episodes. `usual` are columns that are worth reading together;
    `stored` says what columns are called in the file, where that is not what they are asked for by.

    Raises UserError when it is missing or broken.
    """

    def __init__(
        self, path: Path, usual: Sequence[str] = (), stored: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        self._ours = {theirs: ours for ours, theirs in (stored or {}).items()}
        self._theirs = dict(stored or {})
        self.names = tuple(self._ours.get(name, name) for name in parquet_schema(path).names)
        if EPISODE not in self.names:
            raise UserError(f"{path} lacks the column {EPISODE}")
        self._usual = [name for name in dict.fromkeys([EPISODE, FRAME, *usual]) if name in self.names]
        self._tables: dict[str, pa.ChunkedArray] = {}
        self._arrays: dict[str, NDArray[Any]] = {}

    def column(self, name: str) -> NDArray[Any]:
        """The whole column of a numeric feature, (rows,) or (rows, size). Raises UserError when it holds no numbers."""
        if name not in self._arrays:
            self._arrays[name] = to_numpy(self._stored(name), f"{name} in {self.path}")
        return self._arrays[name]

    def values(self, name: str, rows: NDArray[np.intp]) -> list[Any]:
        """What the column holds in these rows, as plain values (text, pictures)."""
        return list(self._stored(name).take(pa.array(rows)).to_pylist())

    def _stored(self, name: str) -> pa.ChunkedArray:
        if name not in self.names:
            raise UserError(f"{self.path} lacks the column {name} that meta/info.json promises")
        if name not in self._tables:
            wanted = self._usual if name in self._usual else [name]
            try:
                table = self._read(wanted)
            except UserError:
                if wanted == [name]:
                    raise
                table = self._read([name])  # one of the others may be what is broken
            self._tables |= {column: table[column] for column in table.column_names}
        return self._tables[name]

    def _read(self, names: Sequence[str]) -> pa.Table:
        table = read_parquet(self.path, [self._theirs.get(name, name) for name in names])
        return table.rename_columns([self._ours.get(name, name) for name in table.column_names])

    def episodes(self) -> tuple[int, ...]:
        """The numbers of the episodes that it holds rows of; none where it does not tell."""
        try:
            return tuple(int(number) for number in np.unique(self._numbers))
        except UserError:
            return ()

    @cached_property
    def _numbers(self) -> NDArray[np.int64]:
        return self._whole(EPISODE)

    @cached_property
    def _by_episode(self) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Rows ordered by episode, and the episode of each."""
        order = np.argsort(self._numbers, kind="stable")
        return order, self._numbers[order]

    def _whole(self, name: str) -> NDArray[np.int64]:
        numbers = self.column(name)
        if numbers.ndim == 2 and numbers.shape[1] == 1:
            numbers = numbers[:, 0]
        if numbers.ndim != 1 or not np.isfinite(numbers).all() or (numbers != np.rint(numbers)).any():
            raise UserError(f"{name} in {self.path} must be a whole number in each row")
        return numbers.astype(np.int64)

    def frames(self, episode: int, length: int) -> "EpisodeRows":
        """The rows of an episode's `length` frames in their order.

        Raises UserError, naming what contradicts what, when it has other frames.
        """
        order, numbers = self._by_episode
        first, last = np.searchsorted(numbers, [episode, episode + 1])
        rows = order[first:last]
        if not len(rows) and length:
            held = spans(self.episodes()) or "none"
            raise UserError(f"{self.path} holds no frame of episode {episode}; it holds those of {held}")
        remarks: list[str] = []
        if FRAME in self.names and len(rows):
            frames = self._whole(FRAME)[rows]
            if (np.diff(frames) <= 0).any():
                rows, frames = rows[np.argsort(frames, kind="stable")], np.sort(frames)
                twice = frames[1:][np.diff(frames) == 0]
                if len(twice):
                    raise UserError(
                        f"episode {episode} has {len(rows)} rows in {self.path} for {len(np.unique(frames))} frames "
                        f"({length} by its metadata): frame {twice[0]} is there {(frames == twice[0]).sum()} times, "
                        "and nothing says which row counts"
                    )
                remarks.append(f"rows are not stored in the order of {FRAME}; they are taken in that order")
            lost = int((np.diff(frames) - 1).sum())
            if lost and len(rows) != length:
                gap = int(np.flatnonzero(np.diff(frames) > 1)[0])
                raise UserError(
                    f"episode {episode} has {len(rows)} frames in {self.path}, but its metadata says {length}: after "
                    f"frame {frames[gap]} comes {frames[gap + 1]}"
                )
            if lost:
                remarks.append(f"{FRAME} leaves out numbers, as if frames were missing")
        if len(rows) != length:
            raise UserError(
                f"episode {episode} has {len(rows)} frames in {self.path}, but its metadata says {length}; the two do "
                f"not belong together, or the file is not whole: {'copy or download both again'}"
            )
        return EpisodeRows(self, rows, tuple(remarks))


@dataclass(frozen=True, eq=False)
class EpisodeRows:
    """The rows (T,) of an episode in the order of its frames, and what is remarkable about them."""

    file: DataFile
    rows: NDArray[np.intp]
    remarks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str, shape: tuple[int, ...] = (1,)) -> NDArray[Any]:
        """A numeric feature, (T,) or (T, size) as stored; in the promised `shape` where its numbers are so many.

        Raises UserError when it is missing or holds no numbers.
        """
        values = self.file.column(name)[self.rows]
        if shape == (1,):
            return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        return values.reshape(len(self), *shape) if values[:1].size == np.prod(shape) else values

    def values(self, name: str) -> Iterator[Any]:
        """What a column holds as plain values (text, pictures), one by one."""
        for row in self.rows:
            yield from self.file.values(name, np.array([row]))


def to_numpy(column: pa.ChunkedArray, what: str) -> NDArray[Any]:
    """A column of numbers, of lists of them or of lists of lists, as an array; missing numbers are NaN.

    Times are seconds. `what` names the column in messages. Raises UserError for anything else in it.
    """
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # none, or more than one array can hold
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], column.type)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    shape = [len(values)]
    while any(is_list(values.type) for is_list in _LISTS):
        lengths = pc.list_value_length(values)
        if values.null_count or len(pc.unique(lengths)) > 1:
            sizes = lengths.to_pylist()
            odd = next(
                i for i, size in enumerate(sizes) if size is None or size != sizes[0] or sizes[0] is None
            )
            raise UserError(
                f"{what} holds lists of different lengths: {sizes[0]} first, {sizes[odd]} in row {odd}"
            )
        fixed = values.type.list_size if pa.types.is_fixed_size_list(values.type) else 0
        shape.append(lengths[0].as_py() if len(values) else fixed)
        values = values.flatten()
    kind = values.type
    scale = 1.0
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        scale, values = _SECONDS[kind.unit], values.cast(pa.int64())
        start = values[0].as_py() if len(values) and values[0].is_valid else 0
        values = pc.subtract(values, start)  # nanoseconds since 1970 have more digits than a float
    elif pa.types.is_decimal(kind) or pa.types.is_null(kind):
        values = values.cast(pa.float64())
    elif pa.types.is_boolean(kind) and values.null_count:
        values = values.cast(pa.uint8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise UserError(f"{what} does not hold numbers but values of the type {kind}")
    flat = np.asarray(values.to_numpy(zero_copy_only=False))
    array = flat.reshape(shape)
    return array if scale == 1.0 else array * scale


_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
