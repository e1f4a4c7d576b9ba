"""Where the meshes of a URDF lie.

A file name in a URDF is a path relative to the URDF, an absolute path, `file://…`, or `package://NAME/…` (likewise
`model://`), which ROS looks up among its packages. Without ROS the package's folder is mostly there all the same,
around the URDF.
"""

import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import parent_process
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError

SIMULATED = (".stl", ".obj", ".dae")
"""Kinds of meshes that PyBullet loads."""


@dataclass(frozen=True)
class LinkMesh:
    """A <mesh> of a link; `path` is None where there is no such file."""

    link: str
    use: str
    """"collision" or "visual"."""
    filename: str
    path: Path | None

    @cached_property
    def problem(self) -> str:
        """Why it cannot be used; "" when it can. PyBullet would take it for empty, or crash."""
        if self.path is None:
            return "was not found"
        kind = self.path.suffix.lower()
        if kind not in SIMULATED:
            return f"is of a kind that PyBullet does not load (it loads {', '.join(SIMULATED)})"
        try:
            holds = _HOLDS[kind](self.path)
        except (OSError, ValueError, ElementTree.ParseError) as error:
            return f"cannot be read ({error})"
        return "" if holds else f"holds no triangles that can be read as {kind}"


def ascii_stl(path: Path) -> NDArray[np.float32] | None:
    """(k, 3, 3) m, the triangles of an STL file written as text, which PyBullet does not read; None for others."""
    data = path.read_bytes()
    if not data.lstrip()[:5].lower() == b"solid" or _binary_stl(data):
        return None
    words = re.findall(rb"vertex\s+(\S+)\s+(\S+)\s+(\S+)", data)
    return np.array(words, dtype=np.float32)[: len(words) // 3 * 3].reshape(-1, 3, 3)


def _binary_stl(data: bytes) -> bool:
    return len(data) > 84 and len(data) >= 84 + 50 * int.from_bytes(data[80:84], "little") > 84


def _stl_holds(path: Path) -> bool:
    triangles = ascii_stl(path)
    return _binary_stl(path.read_bytes()) if triangles is None else len(triangles) > 0


_HOLDS: dict[str, Callable[[Path], bool]] = {
    ".stl": _stl_holds,
    ".obj": lambda path: re.search(rb"^\s*f\s", path.read_bytes(), re.MULTILINE) is not None,
    ".dae": lambda path: ElementTree.parse(path).getroot().tag.endswith("COLLADA"),
}
"""By kind, whether a file holds what its name says."""


def meshes(root: ElementTree.Element, urdf: Path) -> list[LinkMesh]:
    """All meshes of the links, in the order of the URDF, whose <robot> element is `root`."""
    found = []
    for link in root.findall("link"):
        for use in ("collision", "visual"):
            for mesh in link.findall(f"{use}/geometry/mesh"):
                name = str(mesh.get("filename") or "")
                found.append(LinkMesh(str(link.get("name")), use, name, find_file(name, urdf)))
    return found


def missing_collision(mesh: LinkMesh, urdf: Path) -> UserError:
    """The error for a collision mesh that cannot be used: it names where it was looked for."""
    text = f"{urdf}: the collision mesh '{mesh.filename}' of link '{mesh.link}' {mesh.problem}"
    if mesh.path is not None:
        return UserError(f"{text}; convert it, or give the link boxes, cylinders or spheres as <collision>")
    places = list(dict.fromkeys(str(place) for place in _candidates(mesh.filename, urdf)))
    shown = ", ".join(places[:4]) + (f" and {len(places) - 4} more places" if len(places) > 4 else "")
    advice = (
        "put it there, set ROS_PACKAGE_PATH (or AMENT_PREFIX_PATH) to where the package is"
        if "://" in mesh.filename
        else "put it there"
    )
    return UserError(
        f"{text} (looked for {shown}); {advice}, or give the link boxes, cylinders or spheres as <collision>"
    )


def note_unseen(found: Sequence[LinkMesh], urdf: Path) -> None:
    """Say on standard error, once per URDF and not in worker processes, which visual meshes will not be drawn."""
    unseen = [mesh for mesh in found if mesh.use == "visual" and mesh.problem]
    if not unseen or str(urdf) in _noted or parent_process() is not None:
        return
    _noted.add(str(urdf))
    first = f"'{unseen[0].filename}'"
    which = (
        f"the visual mesh {first}"
        if len(unseen) == 1
        else f"{len(unseen)} visual meshes (the first: {first})"
    )
    print(f"note: {urdf}: {which} {unseen[0].problem}; it is simulated, but not drawn", file=sys.stderr)


_noted: set[str] = set()


def find_file(filename: str, urdf: Path) -> Path | None:
    """The file that a URDF means by `filename`; None where there is none."""
    return next((path for path in _candidates(filename, urdf) if path.is_file()), None)


def _candidates(filename: str, urdf: Path) -> Iterator[Path]:
    """Where the file may be, likeliest first."""
    folder = urdf.resolve().parent
    scheme, separator, rest = filename.partition("://")
    if not separator:
        if filename:
            yield folder / filename
        return
    rest = unquote(rest)
    if scheme == "file":
        yield Path("/" + rest.removeprefix("localhost").lstrip("/"))
        # file://meshes/a.stl is not an absolute path, but it is written.
        yield folder / rest.lstrip("/")
        return
    if scheme not in ("package", "model"):
        return
    package, _, inner = rest.partition("/")
    above = (folder, *folder.parents)
    for place in above:
        if place.name == package or _package_name(place) == package:
            yield place / inner
    for place in above:
        yield place / package / inner
    for entry in _entries("ROS_PACKAGE_PATH"):
        if entry.name == package or _package_name(entry) == package:
            yield entry / inner
        yield entry / package / inner
        for depth in ("*", "*/*"):
            yield from (each / inner for each in sorted(entry.glob(f"{depth}/{package}")))
    for entry in _entries("AMENT_PREFIX_PATH"):
        yield entry / "share" / package / inner
    # A package's folder that was unpacked under another name.
    for place in above[:3]:
        yield place / inner


def _entries(variable: str) -> list[Path]:
    return [Path(entry) for entry in os.environ.get(variable, "").split(os.pathsep) if entry]


def _package_name(folder: Path) -> str:
    """The <name> in the folder's package.xml, "" without one."""
    manifest = folder / "package.xml"
    if not manifest.is_file():
        return ""
    try:
        return (ElementTree.parse(manifest).getroot().findtext("name") or "").strip()
    except (OSError, ElementTree.ParseError):
        return ""
