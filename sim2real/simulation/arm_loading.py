"""The arm's URDF as PyBullet can load it: joints that nothing drives are fixed, and meshes have a path.

Bullet would let such joints swing, looks for meshes in its own way, and says nothing of what it does not find.
"""

import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from functools import cache
from multiprocessing import parent_process
from pathlib import Path

from sim2real.errors import UserError
from sim2real.meshes import Mesh, find_file, meshes, missing_collision
from sim2real.robot import Robot
from sim2real.simulation.bullet import bullet, silenced
from sim2real.urdf_file import UrdfFile


def load_arm(client: int, robot: Robot, *, flags: int = 0, drawn: bool = False) -> int:
    """Bullet's number of the arm, its base fixed; without `drawn` it has no visual meshes.

    Raises UserError for a collision mesh that is missing, or that Bullet does not take.
    """
    file = UrdfFile(robot.urdf)
    changed = _lock(file, robot)
    changed = _meshes(file, drawn) or changed
    with tempfile.TemporaryDirectory() as folder:
        path = robot.urdf
        if changed:
            path = Path(folder) / robot.urdf.name
            ElementTree.ElementTree(file.root).write(path)
        with silenced(1), silenced(2):
            try:
                return int(bullet.loadURDF(str(path), useFixedBase=True, flags=flags, physicsClientId=client))
            except bullet.error:
                pass
    raise _refused(file)


def _lock(file: UrdfFile, robot: Robot) -> bool:
    """Fix the joints that nothing drives, at the place where the model has them."""
    moving = set(robot.model.link_joints)
    changed = False
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
        changed = True
    return changed


def rpy(rotation: object) -> tuple[float, float, float]:
    """Roll, pitch, yaw in rad of a rotation (3, 3), as a URDF has them."""
    import math

    import numpy as np

    r = np.asarray(rotation)
    pitch = math.atan2(-r[2, 0], math.hypot(r[0, 0], r[1, 0]))
    if math.hypot(r[0, 0], r[1, 0]) > 1e-9:
        return math.atan2(r[2, 1], r[2, 2]), pitch, math.atan2(r[1, 0], r[0, 0])
    return math.atan2(-r[1, 2], r[1, 1]), pitch, 0.0


def _meshes(file: UrdfFile, drawn: bool) -> bool:
    """Give meshes their paths, leave out what is not drawn, and textures that are not there."""
    by_name = {(mesh.use, mesh.filename): mesh for mesh in meshes(file.root, file.path)}
    changed = False
    unseen = []
    for link in file.root.findall("link"):
        for use in ("collision", "visual"):
            for shape in link.findall(use):
                element = shape.find("geometry/mesh")
                if element is None:
                    continue
                mesh = by_name[use, str(element.get("filename") or "")]
                changed = True
                if use == "collision" and not mesh.usable:
                    raise missing_collision(mesh, file.path)
                if use == "visual" and not mesh.usable:
                    unseen.append(mesh)
                if use == "visual" and not (drawn and mesh.usable):
                    link.remove(shape)
                else:
                    element.set("filename", str(mesh.path))
    for texture in file.root.iter("texture"):
        found = find_file(str(texture.get("filename") or ""), file.path)
        texture.set("filename", "" if found is None else str(found))
        changed = True
    if unseen and parent_process() is None:
        _note(str(file.path), len(unseen), unseen[0].filename, unseen[0].problem)
    return changed


@cache
def _note(urdf: str, count: int, first: str, problem: str) -> None:
    """Once: which visual meshes will not be seen."""
    which = f"the visual mesh '{first}'" if count == 1 else f"{count} visual meshes (the first: '{first}')"
    print(f"note: {urdf}: {which} {problem}; it is simulated, but not drawn", file=sys.stderr)


def _refused(file: UrdfFile) -> UserError:
    """Why Bullet does not load a file that has passed all checks: a mesh that cannot be read, if there is one."""
    client = bullet.connect(bullet.DIRECT)
    try:
        for mesh in _unreadable(client, file):
            return UserError(
                f"{file.path}: PyBullet cannot read the mesh {mesh.path} of link '{mesh.link}'; is it complete, and "
                "of the kind that its name says?"
            )
    finally:
        bullet.disconnect(client)
    return UserError(
        f"PyBullet does not load {file.path}, and does not say why; check it with another reader (check_urdf)"
    )


def _unreadable(client: int, file: UrdfFile) -> list[Mesh]:
    found = []
    for mesh in meshes(file.root, file.path):
        if mesh.path is None:
            continue
        with silenced(1), silenced(2):
            try:
                shape = bullet.createCollisionShape(
                    bullet.GEOM_MESH, fileName=str(mesh.path), physicsClientId=client
                )
            except bullet.error:
                shape = -1
        if shape < 0:
            found.append(mesh)
    return found
