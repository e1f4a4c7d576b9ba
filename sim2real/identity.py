"""Identity by content: what decides a result, as hashes, whatever its files are called.

A name says what its user meant; two runs may only be mixed, continued or compared when what the names stood for was
equal.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim2real.files import file_hash
from sim2real.robot import Robot


def content_hash(value: Any) -> str:
    """SHA-256 of plain values, arrays, mappings and dataclasses, whatever the order of keys."""
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True).encode()).hexdigest()


def dataset_hash(folder: str | Path) -> str:
    """One hash of a LeRobot data set: its descriptions and its tables; videos by name and size."""
    folder = Path(folder)
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if name.parts[0] in ("meta", "data"):
            digest.update(f"{name}\0{file_hash(path)}\0".encode())
        elif name.parts[0] == "videos":
            digest.update(f"{name}\0{path.stat().st_size}\0".encode())
    return digest.hexdigest()


def robot_identity(robot: Robot) -> str:
    """One hash of everything that describes a robot: its TOML's values, its URDF, the meshes that it names."""
    about = {name: value for name, value in vars(robot).items() if name in Robot.__dataclass_fields__}
    urdf = about.pop("urdf")
    text = urdf.read_bytes()
    named = sorted(set(re.findall(rb'filename\s*=\s*"([^"]+)"', text)))
    meshes = [urdf.parent / name.decode(errors="replace").rpartition("://")[2] for name in named]
    return content_hash(
        {
            "description": about,
            "urdf": hashlib.sha256(text).hexdigest(),
            "meshes": [file_hash(path) for path in meshes if path.is_file()],
        }
    )


def differences(there: Any, here: Any, path: str = "") -> Iterator[str]:
    """Where two JSON values differ, a line each."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in [*there, *(k for k in here if k not in there)]:
            yield from differences(there.get(key), here.get(key), f"{path}.{key}" if path else str(key))
    elif there != here:
        yield f"{path}: {_short(there)} there, {_short(here)} here"


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
