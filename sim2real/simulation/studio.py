"""What can be seen: the arm, the cube, the mark and some blocks to distract, in a PyBullet client of their own.

Pictures are drawn in another client than physics: a body that only looks like something would still cost time in
every physics step. Nothing here moves by itself; `arrange` puts everything where the world says.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real.robot import Robot
from sim2real.simulation.arm_loading import load_arm
from sim2real.simulation.bullet import bullet
from sim2real.simulation.scene import CUBE_SIZES, CubeState, joint_indices

Array = NDArray[np.float64]

MARK_RADIUS = 0.03
CUBE_COLOUR = (0.85, 0.08, 0.08, 1.0)
MARK_COLOUR = (0.10, 0.62, 0.22, 1.0)
AWAY = (50.0, 50.0, -50.0)
"""Where things wait that are not to be seen, m."""

_BLOCK_COLOURS = (
    (0.15, 0.35, 0.75, 1.0),
    (0.90, 0.75, 0.15, 1.0),
    (0.45, 0.25, 0.60, 1.0),
    (0.25, 0.25, 0.28, 1.0),
)


@dataclass(frozen=True)
class View:
    """Where everything is at the moment of a picture: joint angles (n,) rad, the cube and its side, the mark."""

    position: Array
    cube: CubeState | None
    cube_size: float
    mark: tuple[float, float] | None


class Studio:
    """The bodies to draw and the client that holds them."""

    def __init__(self, robot: Robot) -> None:
        self.client = bullet.connect(bullet.DIRECT)
        self._robot = robot
        self.arm = load_arm(self.client, robot, drawn=True)
        self._joints = joint_indices(self.client, self.arm, robot)
        self.cubes = {size: self._block((size / 2,) * 3, CUBE_COLOUR) for size in CUBE_SIZES}
        self.mark = self._disc(MARK_RADIUS, MARK_COLOUR)
        self.blocks = [
            self._block((0.012 + 0.004 * i, 0.010 + 0.003 * i, 0.02), colour)
            for i, colour in enumerate(_BLOCK_COLOURS)
        ]

    def close(self) -> None:
        bullet.disconnect(self.client)

    def _body(self, visual: int) -> int:
        return int(bullet.createMultiBody(0.0, -1, visual, AWAY, physicsClientId=self.client))

    def _block(self, half: tuple[float, ...], colour: tuple[float, ...]) -> int:
        return self._body(
            bullet.createVisualShape(
                bullet.GEOM_BOX, halfExtents=half, rgbaColor=colour, physicsClientId=self.client
            )
        )

    def _disc(self, radius: float, colour: tuple[float, ...]) -> int:
        # The software renderer draws cylinders as capsules, so the disc is a mesh of its own.
        corners = 48
        angles = [2 * math.pi * i / corners for i in range(corners)]
        vertices = [(0.0, 0.0, 0.0)] + [(radius * math.cos(a), radius * math.sin(a), 0.0) for a in angles]
        indices = [k for i in range(corners) for k in (0, 1 + i, 1 + (i + 1) % corners)]
        return self._body(
            bullet.createVisualShape(
                bullet.GEOM_MESH,
                vertices=vertices,
                indices=indices,
                normals=[(0.0, 0.0, 1.0)] * len(vertices),
                rgbaColor=colour,
                physicsClientId=self.client,
            )
        )

    def arrange(self, view: View, values: Mapping[str, float]) -> None:
        """Put everything where it is; `values` are the world's parameters."""
        height = values["world.table_height"]
        for joint, angle in zip(self._joints, self._robot.model.link_positions(view.position).tolist()):
            bullet.resetJointState(self.arm, joint, angle, physicsClientId=self.client)
        for size, body in self.cubes.items():
            if view.cube is not None and size == view.cube_size:
                self._place(body, tuple(view.cube.position.tolist()), view.cube.quaternion)
            else:
                self._place(body, AWAY)
        # Just above the table, or the two surfaces would flicker through each other.
        self._place(self.mark, AWAY if view.mark is None else (*view.mark, height + 4e-4))
        self._scatter(int(values["distractors.count"]), values["distractors.layout"], height)

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
