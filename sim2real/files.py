"""Files that are whole or not there: a crash or a full disk in the middle leaves what was there before."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim2real.errors import UserError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; UserError when it is none."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} holds no JSON object")
    return raw


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises OSError as the disk does."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """`write_text` of JSON; numbers that are not finite become null, what JSON does not know its text."""
    write_text(path, json.dumps(_finite(content), indent=2, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
