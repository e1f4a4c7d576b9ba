"""Files of a data set: reading them, and what their own bytes show of why one cannot be read."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sim2real.errors import UserError

_HEAD = 512
_LFS = b"version https://git-lfs.github.com/spec/"
_PARQUET = b"PAR1"
AGAIN = "copy or download it again"


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A whole parquet file, or some of its columns. Raises UserError when it is missing or broken."""
    with reading(path, "parquet"):
        return pq.ParquetFile(path).read(columns)


def parquet_schema(path: Path) -> pa.Schema:
    """Names and types of a parquet file's columns. Raises UserError when it cannot be read."""
    with reading(path, "parquet"):
        return pq.read_schema(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError when it is missing or broken."""
    with reading(path, "JSON"):
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict):
        raise UserError(f"cannot read {path}: expected a JSON object, got {str(content)[:40]}")
    return content


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """An object of JSON per line. Raises UserError when the file is missing or broken."""
    with reading(path, "JSON"):
        rows = [
            json.loads(line) for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()
        ]
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"cannot read {path}: expected a JSON object in every line")
    return rows


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """What goes wrong with reading `path`, a file of this kind ("parquet", "JSON", "video"), as UserError."""
    if not path.exists():
        raise UserError(f"the data set is incomplete: {missing(path)}")
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        raise UserError(unreadable(path, kind, error)) from None


def missing(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link to {path.readlink()}, which does not exist; copy the file itself, or fetch it again"
    return f"{path} does not exist; copy it in, or download the data set again"


def unreadable(path: Path, kind: str, error: Exception) -> str:
    """The message for a file that could not be read: what its bytes show, else what the library said."""
    shown = contradiction(path, kind)
    if shown is None:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        shown = f"it is damaged ({reason}); {AGAIN}"
    return f"cannot read {path}: {shown}" if kind == "JSON" else f"{path} is not readable as {kind}: {shown}"


def contradiction(path: Path, kind: str) -> str | None:
    """What a file shows itself to be instead of one of its kind, and what to do; None when nothing is seen."""
    if path.is_dir():
        return "it is a folder"
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            head = file.read(_HEAD)
            file.seek(max(0, size - 4))
            tail = file.read(4)
    except PermissionError:
        return "permission denied; allow yourself to read it (chmod u+r)"
    except OSError as error:
        return f"{error.strerror}"
    if size == 0:
        return f"it is empty (0 bytes); {AGAIN}"
    if head.startswith(_LFS):
        return (
            "it is a Git LFS pointer, which stands for a file that was not fetched; fetch it with `git lfs pull` in "
            "the data set's folder, or download the data set again"
        )
    if not any(head):
        return f"it holds zeros from its beginning on; {AGAIN}"
    if kind == "parquet" and head.startswith(_PARQUET):
        if tail == _PARQUET:
            return None
        return (
            f"it is cut short: it begins as parquet, but after {size} bytes the end is missing that says what is in "
            f"it; {AGAIN}. If there is no whole copy, read the other episodes with --episodes"
        )
    text = _as_text(head)
    if text is None:
        return (
            None
            if kind == "video"
            else f"it is no {kind}: it begins with the bytes {head[:8].hex(' ')}; {AGAIN}"
        )
    if text.lower().startswith(("<!doctype html", "<html")):
        return f"it is a web page ({_title(text)}), not the file; download the file itself again"
    if "/annex/objects/" in text:
        return "it is a git-annex pointer, which stands for a file that was not fetched; fetch it with `git annex get`"
    if kind == "JSON":
        return None
    return f"it is text, and begins '{' '.join(text.split())[:60]}'; download the file itself again"


def _as_text(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8-sig", errors="strict" if len(head) < _HEAD else "ignore").strip()
    except UnicodeDecodeError:
        return None
    return text if all(letter.isprintable() or letter.isspace() for letter in text) else None


def _title(text: str) -> str:
    lower = text.lower()
    start, end = lower.find("<title>"), lower.find("</title>")
    return f"'{text[start + 7 : end].strip()[:60]}'" if 0 <= start < end else "HTML"
