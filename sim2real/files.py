"""Files that are whole or not there: a crash or a full disk in the middle leaves what was there before, and a file of
the user's is not replaced at all."""

import hashlib
import json
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim2real.errors import UserError

PAGE = b"Written by sim2real"
"""What a page says that we have made."""

PICTURE = b"sim2real"
"""What pictures and plots say of the program that made them."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; UserError when it is none."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} holds no JSON object")
    return raw


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's content. Raises OSError."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file (UTF-8) whole or not at all. Raises OSError as the disk does."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all: it grows under a name that nothing has. Raises OSError as the disk does."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with open(part, "xb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """`write_text` of JSON; numbers that are not finite become null, what JSON does not know its text."""
    write_text(path, json.dumps(_finite(content), indent=2, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_own_file(path: str | Path, mark: bytes) -> None:
    """Raise UserError where writing to `path` would replace a file that does not hold `mark`, as ours do, nor is
    empty."""
    path = Path(path)
    if not os.path.lexists(path):
        return
    try:
        content = path.read_bytes()
        if mark in content or not content:
            return
    except OSError:
        pass
    what = "is a folder" if path.is_dir() else "exists and was not made by this program"
    raise UserError(f"{path} {what}; it is not overwritten: move it away, or name another file")
