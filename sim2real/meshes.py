"""Where the meshes of a URDF lie.

A file name in a URDF is a path relative to the URDF, an absolute path, `file://…`, or `package://NAME/…` (likewise
`model://`), which ROS looks up among its packages. Without ROS the package's folder is mostly there all the same,
around the URDF.
"""

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from sim2real.errors import UserError

SIMULATED = (".stl", ".obj", ".dae")
"""Kinds of meshes that PyBullet loads."""


@dataclass(frozen=True)
class Mesh:
    """A <mesh> of a link; `path` is None where there is no such file."""

    link: str
    use: str
    """"collision" or "visual"."""
    filename: str
    path: Path | None

    @property
    def usable(self) -> bool:
        return self.path is not None and self.path.suffix.lower() in SIMULATED

    @property
    def problem(self) -> str:
        """What is wrong with one that is not usable."""
        if self.path is None:
            return "was not found"
        return f"is of a kind that PyBullet does not load (it loads {', '.join(SIMULATED)})"


def meshes(root: ElementTree.Element, urdf: Path) -> list[Mesh]:
    """All meshes of the links, in the order of the URDF, whose <robot> element is `root`."""
    found = []
    for link in root.findall("link"):
        for use in ("collision", "visual"):
            for mesh in link.findall(f"{use}/geometry/mesh"):
                name = str(mesh.get("filename") or "")
                found.append(Mesh(str(link.get("name")), use, name, find_file(name, urdf)))
    return found


def missing_collision(mesh: Mesh, urdf: Path) -> UserError:
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
