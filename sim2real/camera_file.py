"""Changing one camera in a cameras file and nothing else: other cameras, unknown lines and comments stay."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sim2real.camera import CameraModel
from sim2real.errors import UserError

_KEY = re.compile(r"\s*(\w+)\s*=")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def write_camera(path: str | Path, camera: CameraModel) -> Path | None:
    """Put `camera` into the cameras file, whole or not at all. Returns where the older file was kept, if there was one.

    Raises UserError when the file cannot be read or written, or is written in a way that cannot be changed in place.
    """
    path = Path(path)
    before = ""
    if path.exists():
        try:
            before = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the cameras file {path}: {error}") from None
    after = with_camera(before, camera, str(path))
    if after == before:
        return None
    part, kept = path.with_name(f".{path.name}.part"), None
    try:
        part.write_text(after, encoding="utf-8")
        if path.exists():
            kept = path.with_name(f"{path.name}.bak")
            copy = path.with_name(f".{kept.name}.part")
            copy.write_text(before, encoding="utf-8")
            os.replace(copy, kept)
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return kept


def with_camera(text: str, camera: CameraModel, where: str = "the cameras file") -> str:
    """The text of a cameras file with the table of `camera` (by its name) changed or added."""
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"cannot read the cameras file {where}: {error}") from None
    table = camera.table()
    lines = text.splitlines(keepends=True)
    if camera.name in before:
        first, last = _section(lines, camera.name)
        body = _replaced(lines[first + 1 : last], table) if first < last else []
        after = "".join(lines[: first + 1] + body + lines[last:])
    else:
        gap = "" if not text.strip() else "\n" if text.endswith("\n") else "\n\n"
        after = text + gap + f"[{_name(camera.name)}]\n" + "".join(_lines(table))
    expected = before | {camera.name: {**before.get(camera.name, {}), **table}}
    try:
        same = tomllib.loads(after) == expected
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise UserError(
            f"{where} describes '{camera.name}' in a way that cannot be changed in place; give it a table of its own, "
            f"[{_name(camera.name)}] and a line per value, or name another file"
        )
    return after


def _section(lines: list[str], name: str) -> tuple[int, int]:
    """The lines of [name]: its header, and where the next table begins; both 0 where there is no such header."""
    quoted = "|".join(re.escape(form) for form in (name, f'"{name}"', f"'{name}'"))
    header = re.compile(rf"\s*\[\s*(?:{quoted})\s*\]\s*(#.*)?$")
    starts = [
        number for number, line, depth in _depths(lines) if depth == 0 and line.lstrip().startswith("[")
    ]
    for place, number in enumerate(starts):
        if header.match(lines[number].rstrip("\r\n")):
            return number, starts[place + 1] if place + 1 < len(starts) else len(lines)
    return 0, 0


def _depths(lines: list[str]) -> Iterator[tuple[int, str, int]]:
    """Each line with its number and how many brackets of values are open where it begins."""
    depth = 0
    for number, line in enumerate(lines):
        yield number, line, depth
        depth += _opened(line, depth)


def _opened(line: str, depth: int) -> int:
    """By how many brackets of values a line opens more than it closes; strings and comments do not count."""
    code = re.sub(r'"(?:\\.|[^"\\])*"|\'[^\']*\'', "", line).split("#")[0]
    if depth == 0 and not _KEY.match(line):
        return 0
    return sum(code.count(one) for one in "[{") - sum(code.count(one) for one in "]}")


def _replaced(lines: list[str], table: Mapping[str, Any]) -> list[str]:
    """A table's lines with new values in the places of the old; what is new comes after the last value."""
    out: list[str] = []
    left, end, skipping = dict(table), 0, False
    for _, line, depth in _depths(lines):
        if depth > 0:
            if not skipping:
                out.append(line)
                end = len(out)
            continue
        skipping = False
        key = _KEY.match(line)
        if key is None:
            out.append(line)
            continue
        name = key[1]
        if name in left:
            skipping = True
            comment = re.search(r"#.*$", re.sub(r'"(?:\\.|[^"\\])*"', "", line.rstrip("\r\n")))
            new = _lines({name: left.pop(name)})
            out += [new[0].rstrip("\n") + (f"  {comment[0]}" if comment else "") + "\n", *new[1:]]
        else:
            out.append(line if line.endswith("\n") else line + "\n")
        end = len(out)
    return out[:end] + _lines(left) + out[end:]


def _lines(table: Mapping[str, Any]) -> list[str]:
    import tomli_w

    return tomli_w.dumps(dict(table)).splitlines(keepends=True)


def _name(name: str) -> str:
    if _BARE.fullmatch(name):
        return name
    import json

    return json.dumps(name)
