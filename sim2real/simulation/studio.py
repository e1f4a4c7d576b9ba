"""What can be seen: the arm, the objects and some blocks to distract, in a PyBullet client of their own.

Pictures are drawn in another client than physics: a body that only looks like something would still cost time in
every physics step. Nothing here moves by itself; `arrange` puts everything where the world says.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.objects import ObjectSpec
from sim2real.primitives import Primitive
from sim2real.robot import Robot
from sim2real.simulation.arm_loading import load_arm
from sim2real.simulation.bullet import bullet
from sim2real.simulation.parameters import pool
from sim2real.simulation.scene import joint_indices
from sim2real.truth import ObjectState

Array = NDArray[np.float64]

AWAY = (50.0, 50.0, -50.0)
"""Where things wait that are not to be seen, m."""

HOUSING = (0.62, 0.60, 0.57)
"""Colour of what does not move of a mechanism."""

_BLOCK_COLOURS = (
    (0.15, 0.35, 0.75, 1.0),
    (0.90, 0.75, 0.15, 1.0),
    (0.45, 0.25, 0.60, 1.0),
    (0.25, 0.25, 0.28, 1.0),
)


@dataclass(frozen=True)
class Snapshot:
    """Where everything is at the moment of a picture: joint angles (n,) rad, and the objects that are there."""

    position: Array
    objects: Mapping[str, ObjectState]


@dataclass(frozen=True)
class _Look:
    """How an object of one size looks: a body for each of its shapes (a zone: the disc, with no shape), and for each of
    those that move on its joint."""

    parts: tuple[tuple[int, Primitive | None], ...]
    moved: tuple[tuple[int, Primitive], ...] = ()


class Studio:
    """The bodies to draw and the client that holds them."""

    def __init__(self, robot: Robot, objects: Sequence[ObjectSpec] = ()) -> None:
        self.client = bullet.connect(bullet.DIRECT)
        self._robot = robot
        self.arm = load_arm(self.client, robot, drawn=True)
        self._joints = joint_indices(self.client, self.arm, robot)
        self._looks = {spec.name: dict(self._sizes(spec)) for spec in objects}
        """Of every object by its name and its first measure."""
        zones = [spec.name for spec in objects if not spec.solid]
        self.painted = [body for name in zones for body in self.bodies(name)]
        """Bodies of what is painted on the table and throws no shadow."""
        self.blocks = [
            self._block((0.012 + 0.004 * i, 0.010 + 0.003 * i, 0.02), colour)
            for i, colour in enumerate(_BLOCK_COLOURS)
        ]

    def close(self) -> None:
        bullet.disconnect(self.client)

    def bodies(self, name: str) -> list[int]:
        """The bodies that an object is drawn with, of all its sizes."""
        return [body for look in self._looks[name].values() for body, _ in (*look.parts, *look.moved)]

    def _sizes(self, spec: ObjectSpec) -> Iterator[tuple[float, _Look]]:
        colour = (*spec.rgb, 1.0)
        if not spec.solid:
            yield spec.measures[0], _Look(((self._disc(spec.measures[0], colour), None),))
            return
        for scaled in map(spec.scaled, pool(spec)):
            moved = () if scaled.joint is None else scaled.joint.shapes
            housing = colour if scaled.joint is None else (*HOUSING, 1.0)
            yield (
                scaled.measures[0],
                _Look(
                    tuple((self._solid(shape, housing), shape) for shape in scaled.shapes),
                    tuple((self._solid(shape, colour), shape) for shape in moved),
                ),
            )

    def _solid(self, shape: Primitive, colour: tuple[float, ...]) -> int:
        if shape.form == "box":
            return self._block(tuple(edge / 2 for edge in shape.size), colour)
        if shape.form == "cylinder":
            return self._drum(shape.size[0], shape.size[1], colour)
        return self._body(
            bullet.createVisualShape(
                bullet.GEOM_SPHERE, radius=shape.size[0], rgbaColor=colour, physicsClientId=self.client
            )
        )

    def _body(self, visual: int) -> int:
        return int(bullet.createMultiBody(0.0, -1, visual, AWAY, physicsClientId=self.client))

    def _block(self, half: tuple[float, ...], colour: tuple[float, ...]) -> int:
        return self._body(
            bullet.createVisualShape(
                bullet.GEOM_BOX, halfExtents=half, rgbaColor=colour, physicsClientId=self.client
            )
        )

    def _drum(self, radius: float, length: float, colour: tuple[float, ...]) -> int:
        # The software renderer draws cylinders as capsules, so they are meshes of their own.
        corners = 32
        turn = np.linspace(0.0, 2 * math.pi, corners, endpoint=False)
        out = np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1)
        rim, up = radius * out, np.array([0.0, 0.0, length / 2])
        vertices: list[Array] = []
        normals: list[Array] = []
        indices: list[int] = []
        for sign in (1.0, -1.0):  # the ends
            start = len(vertices)
            vertices += [sign * up, *(rim + sign * up)]
            normals += [np.array([0.0, 0.0, sign])] * (corners + 1)
            for i in range(corners):
                a, b = start + 1 + i, start + 1 + (i + 1) % corners
                indices += [start, a, b] if sign > 0 else [start, b, a]
        start = len(vertices)
        vertices += [*(rim - up), *(rim + up)]
        normals += [*out, *out]
        for i in range(corners):
            a, b = start + i, start + (i + 1) % corners
            indices += [a, b, b + corners, a, b + corners, a + corners]
        return self._mesh(vertices, indices, normals, colour)

    def _disc(self, radius: float, colour: tuple[float, ...]) -> int:
        corners = 48
        angles = [2 * math.pi * i / corners for i in range(corners)]
        vertices = [(0.0, 0.0, 0.0)] + [(radius * math.cos(a), radius * math.sin(a), 0.0) for a in angles]
        indices = [k for i in range(corners) for k in (0, 1 + i, 1 + (i + 1) % corners)]
        return self._mesh(vertices, indices, [(0.0, 0.0, 1.0)] * len(vertices), colour)

    def _mesh(
        self,
        vertices: Sequence[Sequence[float] | Array],
        indices: Sequence[int],
        normals: Sequence[Sequence[float] | Array],
        colour: tuple[float, ...],
    ) -> int:
        return self._body(
            bullet.createVisualShape(
                bullet.GEOM_MESH,
                vertices=[tuple(map(float, vertex)) for vertex in vertices],
                indices=list(indices),
                normals=[tuple(map(float, normal)) for normal in normals],
                rgbaColor=colour,
                physicsClientId=self.client,
            )
        )

    def arrange(self, view: Snapshot, values: Mapping[str, float]) -> None:
        """Put everything where it is; `values` are the world's parameters."""
        height = values["world.table_height"]
        for joint, angle in zip(self._joints, self._robot.model.link_positions(view.position).tolist()):
            bullet.resetJointState(self.arm, joint, angle, physicsClientId=self.client)
        for name, looks in self._looks.items():
            state = view.objects.get(name)
            for size, look in looks.items():
                shown = state is not None and state.spec.measures[0] == size
                self._show(look, state if shown else None, height)
        self._scatter(int(values["distractors.count"]), values["distractors.layout"], height)

    def _show(self, look: _Look, state: ObjectState | None, height: float) -> None:
        for body, shape in look.parts:
            if state is None:
                self._place(body, AWAY)
            elif shape is None:
                # Just above the table, or the two surfaces would flicker through each other.
                self._place(body, (float(state.position[0]), float(state.position[1]), height + 4e-4))
            elif len(look.parts) == 1 and not look.moved:
                self._place(body, tuple(state.position.tolist()), state.quaternion)
            else:
                self._place(body, *_on(shape, state.position.tolist(), state.quaternion))
        if state is None or state.spec.joint is None:
            for body, _ in look.moved:
                self._place(body, AWAY)
            return
        joint = state.spec.joint.placed(state.joint)
        frame = bullet.multiplyTransforms(state.position.tolist(), state.quaternion, *joint)
        for body, part in look.moved:
            self._place(body, *_on(part, *frame))

    def _scatter(self, count: int, layout: float, height: float) -> None:
        """`count` of the blocks around the edge of the workspace; `layout` 0..1 says how."""
        rng = np.random.default_rng(int(layout * 2**32))
        for i, body in enumerate(self.blocks):
            radius, angle, yaw = rng.uniform(0.33, 0.42), rng.uniform(-1.2, 1.2), rng.uniform(0, math.pi)
            if i < count:
                place = (radius * math.cos(angle), radius * math.sin(angle), height + 0.02)
                self._place(body, place, (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)))
            else:
                self._place(body, AWAY)

    def _place(
        self,
        body: int,
        position: tuple[float, ...],
        quaternion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0),
    ) -> None:
        bullet.resetBasePositionAndOrientation(body, position, quaternion, physicsClientId=self.client)


def _on(
    shape: Primitive, position: Sequence[float], quaternion: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, float, float, float]]:
    """Where a shape is whose frame is there: position (3,) m and quaternion (x, y, z, w)."""
    turn = (0.0, 0.0, math.sin(shape.yaw / 2), math.cos(shape.yaw / 2))
    place, turned = bullet.multiplyTransforms(position, quaternion, shape.position, turn)
    return place, turned
