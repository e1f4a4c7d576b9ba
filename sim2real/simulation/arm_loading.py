"""The arm's URDF as PyBullet can load it: joints that nothing drives are fixed, and meshes have a path.

Bullet would let such joints swing, looks for meshes in its own way, says nothing of what it does not find, takes STL
written as text for empty, and crashes at some broken files.
"""

import math
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.meshes import ascii_stl, find_file, meshes, missing_collision, note_unseen
from sim2real.robot import Robot
from sim2real.simulation.bullet import bullet, silenced
from sim2real.urdf_file import UrdfFile


def load_arm(client: int, robot: Robot, *, flags: int = 0, drawn: bool = False) -> int:
    """Bullet's number of the arm, its base fixed; without `drawn` it has no visual meshes.

    Raises UserError for a collision mesh that is missing, or that Bullet does not take.
    """
    file = UrdfFile(robot.urdf)
    _lock(file, robot)
    # A folder of its own each time: Bullet remembers files by their names, whatever has become of them.
    with tempfile.TemporaryDirectory() as folder:
        _meshes(file, Path(folder), drawn)
        path = Path(folder) / robot.urdf.name
        ElementTree.ElementTree(file.root).write(path)
        with silenced(1), silenced(2):
            try:
                return int(bullet.loadURDF(str(path), useFixedBase=True, flags=flags, physicsClientId=client))
            except bullet.error:
                pass
    raise UserError(
        f"PyBullet does not load {robot.urdf}, and does not say why; check it with another reader (check_urdf)"
    )


def _lock(file: UrdfFile, robot: Robot) -> None:
    """Fix the joints that nothing drives, at the place where the model has them."""
    moving = set(robot.model.link_joints)
    for element in file.root.findall("joint"):
        joint = file.by_name[str(element.get("name"))]
        if joint.kind == "fixed" or joint.name in moving:
            continue
        rotation, position = joint.displaced(robot.model.locked.get(joint.name, 0.0))
        for old in element.findall("origin"):
            element.remove(old)
        turn, shift = (" ".join(repr(float(x)) for x in values) for values in (rpy(rotation), position))
        ElementTree.SubElement(element, "origin", {"xyz": shift, "rpy": turn})
        element.set("type", "fixed")


def rpy(r: NDArray[np.float64]) -> tuple[float, float, float]:
    """Roll, pitch, yaw in rad of a rotation `r` (3, 3), as a URDF has them."""
    pitch = math.atan2(-r[2, 0], math.hypot(r[0, 0], r[1, 0]))
    if math.hypot(r[0, 0], r[1, 0]) > 1e-9:
        return math.atan2(r[2, 1], r[2, 2]), pitch, math.atan2(r[1, 0], r[0, 0])
    return math.atan2(-r[1, 2], r[1, 1]), pitch, 0.0


def _meshes(file: UrdfFile, folder: Path, drawn: bool) -> None:
    """Give meshes their paths, leave out what is not drawn, and textures that are not there."""
    found = meshes(file.root, file.path)
    by_name = {(mesh.use, mesh.filename): mesh for mesh in found}
    note_unseen(found, file.path)
    for link in file.root.findall("link"):
        for use in ("collision", "visual"):
            for shape in link.findall(use):
                element = shape.find("geometry/mesh")
                if element is None:
                    continue
                mesh = by_name[use, str(element.get("filename") or "")]
                if mesh.problem and use == "collision":
                    raise missing_collision(mesh, file.path)
                if use == "visual" and (mesh.problem or not drawn):
                    link.remove(shape)
                else:
                    assert mesh.path is not None
                    element.set("filename", str(_readable(mesh.path, folder)))
    for texture in file.root.iter("texture"):
        path = find_file(str(texture.get("filename") or ""), file.path)
        texture.set("filename", "" if path is None else str(path))


def _readable(path: Path, folder: Path) -> Path:
    """The mesh, or for one that Bullet does not read (STL as text) one in `folder` that it does."""
    triangles = ascii_stl(path) if path.suffix.lower() == ".stl" else None
    if triangles is None:
        return path
    rows = np.zeros(len(triangles), dtype=[("numbers", "<f4", 12), ("more", "<u2")])
    rows["numbers"][:, 3:] = triangles.reshape(-1, 9)
    binary = folder / f"{len(list(folder.iterdir()))}_{path.name}"
    binary.write_bytes(bytes(80) + len(rows).to_bytes(4, "little") + rows.tobytes())
    return binary
