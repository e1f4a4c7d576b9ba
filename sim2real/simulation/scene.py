"""What can be touched: the bodies in the physics client, and their reset without reloading anything.

Every body is made once. Cubes come from a pool of sizes, because Bullet cannot rescale a shape; those that an
episode does not use are parked far away as static bodies, where they cost next to nothing. Only primitive shapes
are used: they restore bit-identically. What is only looked at is in `studio.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim2real.robot import Robot
from sim2real.simulation.arm_loading import load_arm
from sim2real.simulation.bullet import bullet

Array = NDArray[np.float64]

CUBE_SIZES = (0.0225, 0.025, 0.0275)
"""Sides of the pooled cubes, m; `object.size` picks the nearest."""
CONTACT_STIFFNESS, CONTACT_DAMPING = 1e4, 30.0
"""Of fingers and gripper. With Bullet's default, rigid contact a grasped cube slips out."""
PARKED = 50.0
"""Distance at which unused bodies wait, m."""
TABLE_HALF = (0.7, 0.7, 0.02)
TABLE_CENTRE = (0.3, 0.0)


@dataclass(frozen=True)
class CubeState:
    """Pose of the active cube: centre (3,) m, rotation (3, 3) and quaternion (x, y, z, w), base frame."""

    position: Array
    rotation: Array
    quaternion: tuple[float, float, float, float]


class SceneBodies:
    """All bodies of a client and the numbers needed to address them. One instance per World."""

    def __init__(self, client: int, robot: Robot) -> None:
        self.client = client
        self.robot = robot
        # Every link costs in every step, and those that are fixed to others (a tool frame) do nothing.
        self.arm = load_arm(client, robot, flags=bullet.URDF_MERGE_FIXED_LINKS)
        self.joints = joint_indices(client, self.arm, robot)
        for link in range(bullet.getNumJoints(self.arm, physicsClientId=client)):
            # Without this every joint keeps a motor that holds zero velocity.
            bullet.setJointMotorControl2(
                self.arm, link, bullet.VELOCITY_CONTROL, force=0.0, physicsClientId=client
            )
            bullet.changeDynamics(
                self.arm,
                link,
                linearDamping=0.0,
                angularDamping=0.0,
                jointDamping=0.0,
                maxJointVelocity=1e3,
                physicsClientId=client,
            )
            # Joint stops are the coupling's; as constraints they would cost solver rows. Not in the call above:
            # together with maxJointVelocity they would be ignored.
            bullet.changeDynamics(
                self.arm, link, jointLowerLimit=-1e3, jointUpperLimit=1e3, physicsClientId=client
            )
        self.fingers = self._finger_links()
        self.table = self._table()
        self.cubes = [self._cube(size) for size in CUBE_SIZES]
        self.cube: int | None = None
        self.cube_size = CUBE_SIZES[1]
        for body in self.cubes:
            self._park(body)
        bullet.resetBasePositionAndOrientation(
            self.table, (*TABLE_CENTRE, -TABLE_HALF[2]), (0, 0, 0, 1), physicsClientId=client
        )
        self._saved = bullet.saveState(physicsClientId=client)

    # Building

    def _finger_links(self) -> tuple[int, ...]:
        """Links that touch what is grasped: the gripper joint's child and parent; the last link without one."""
        if self.robot.gripper is None:
            return (self.joints[-1],)
        model = self.robot.model
        row = int(model.rows[self.robot.gripper])
        jaw = self.joints[row]
        others = [self.joints[i] for i in np.flatnonzero(model.driver == self.robot.gripper) if i != row]
        if others:
            # A parallel gripper: the other finger follows.
            return (others[0], jaw)
        parent = bullet.getJointInfo(self.arm, jaw, physicsClientId=self.client)[16]
        return (int(parent), jaw)

    def _table(self) -> int:
        shape = bullet.createCollisionShape(
            bullet.GEOM_BOX, halfExtents=TABLE_HALF, physicsClientId=self.client
        )
        return int(
            bullet.createMultiBody(0.0, shape, useMaximalCoordinates=True, physicsClientId=self.client)
        )

    def _cube(self, size: float) -> int:
        half = (size / 2,) * 3
        shape = bullet.createCollisionShape(bullet.GEOM_BOX, halfExtents=half, physicsClientId=self.client)
        # A plain rigid body: as a multibody it would cost more and could not be made static while parked.
        # It needs a mass when it is made, or it would stay in the group of bodies that never collide.
        body = bullet.createMultiBody(0.02, shape, useMaximalCoordinates=True, physicsClientId=self.client)
        bullet.changeDynamics(
            body,
            -1,
            linearDamping=0.0,
            angularDamping=0.0,
            activationState=bullet.ACTIVATION_STATE_DISABLE_SLEEPING,
            physicsClientId=self.client,
        )
        return int(body)

    # Episodes

    def _place(self, body: int, position: tuple[float, float, float], yaw: float = 0.0) -> None:
        rotation = (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))
        bullet.resetBasePositionAndOrientation(body, position, rotation, physicsClientId=self.client)

    def _park(self, body: int) -> None:
        bullet.changeDynamics(body, -1, mass=0.0, physicsClientId=self.client)
        self._place(body, (PARKED + body, PARKED, -PARKED))

    def restore(self) -> None:
        """Back to the state after construction, contacts included; everything is parked."""
        if self.cube is not None:
            self._park(self.cube)
            self.cube = None
        bullet.restoreState(self._saved, physicsClientId=self.client)

    def set_up(
        self,
        values: Mapping[str, float],
        cube: tuple[float, float, float] | None,
        gravity: Array,
    ) -> None:
        """Place everything for an episode, after `restore`.

        `values` are all of the world's parameters; `cube` is (x, y, yaw) in m and rad, `gravity` (3,) m/s² in
        the base frame.
        """
        client = self.client
        height = values["world.table_height"]
        bullet.setGravity(*gravity, physicsClientId=client)
        self._place(self.table, (*TABLE_CENTRE, height - TABLE_HALF[2]))
        bullet.changeDynamics(
            self.table,
            -1,
            lateralFriction=values["world.table_friction"],
            restitution=1.0,
            physicsClientId=client,
        )
        for link in self.fingers:
            bullet.changeDynamics(
                self.arm,
                link,
                lateralFriction=values["gripper.friction"],
                restitution=0.0,
                contactStiffness=CONTACT_STIFFNESS,
                contactDamping=CONTACT_DAMPING,
                physicsClientId=client,
            )
        if self.cube is not None:
            self._park(self.cube)
            self.cube = None
        if cube is not None:
            self._set_up_cube(values, cube, height)

    def _set_up_cube(
        self, values: Mapping[str, float], cube: tuple[float, float, float], height: float
    ) -> None:
        index = int(np.argmin([abs(size - values["object.size"]) for size in CUBE_SIZES]))
        size, body = CUBE_SIZES[index], self.cubes[index]
        mass = values["object.mass"]
        bullet.changeDynamics(
            body,
            -1,
            mass=mass,
            localInertiaDiagonal=(mass * size**2 / 6,) * 3,
            lateralFriction=values["object.friction"],
            restitution=values["object.restitution"],
            physicsClientId=self.client,
        )
        self._put_cube(body, (cube[0], cube[1], height + size / 2), cube[2])
        self.cube, self.cube_size = body, size

    def _put_cube(self, body: int, position: tuple[float, float, float], yaw: float) -> None:
        self._cube_pose = (position, yaw)
        self._place(body, position, yaw)
        bullet.resetBaseVelocity(body, (0, 0, 0), (0, 0, 0), physicsClientId=self.client)

    def forget(self) -> None:
        """Let the cube forget the episode before. Between `set_up` and `reset_arm`, not while the arm moves.

        Setting a pose leaves the inertia tensor as the last episode turned it; a step in free air turns it.
        """
        if self.cube is not None:
            position, yaw = self._cube_pose
            self._put_cube(self.cube, (position[0], position[1], PARKED), yaw)
            bullet.stepSimulation(physicsClientId=self.client)
            self._put_cube(self.cube, position, yaw)

    def make_skeleton(self, inertia: Array, mass: Array) -> None:
        """Give the moving links `inertia` (L,) kg·m² about every axis and `mass` (L,) kg; see coupling.py."""
        for link, moment, kilograms in zip(self.joints, inertia.tolist(), mass.tolist()):
            bullet.changeDynamics(
                self.arm,
                link,
                mass=kilograms,
                localInertiaDiagonal=(moment,) * 3,
                physicsClientId=self.client,
            )

    def centres(self) -> Array:
        """(L, 3) m, where Bullet has the centres of mass of the moving links, in their frames."""
        return np.array(
            [bullet.getDynamicsInfo(self.arm, link, physicsClientId=self.client)[3] for link in self.joints]
        )

    def reset_arm(self, position: Array) -> None:
        """All joints at rest at `position` (n,) rad."""
        for joint, angle in zip(self.joints, self.robot.model.link_positions(position).tolist()):
            bullet.resetJointState(self.arm, joint, angle, 0.0, physicsClientId=self.client)

    # Reading

    def cube_state(self) -> CubeState | None:
        """Pose of the active cube, None without one."""
        if self.cube is None:
            return None
        position, quaternion = bullet.getBasePositionAndOrientation(self.cube, self.client)
        return CubeState(np.array(position), rotation_from_quaternion(*quaternion), quaternion)

    def finger_contacts(self) -> tuple[bool, bool]:
        """Whether the fixed finger and the moving jaw touch the cube."""
        if self.cube is None:
            return False, False
        touching = {
            contact[3]
            for contact in bullet.getContactPoints(self.arm, self.cube, physicsClientId=self.client)
            if contact[8] <= 0.0
        }
        if len(self.fingers) == 1:
            touched = self.fingers[0] in touching
            return touched, touched
        return self.fingers[0] in touching, self.fingers[1] in touching

    def arm_strikes(self, within: float = 0.001) -> bool:
        """Whether the arm touched anything but itself in the last physics step, or was `within` m of it."""
        return any(
            contact[2] != self.arm and contact[8] <= within
            for contact in bullet.getContactPoints(self.arm, physicsClientId=self.client)
        )

    def kick(self, link: int, force: tuple[float, float, float]) -> None:
        """Push the link at its centre of mass for the next physics step, N, base frame."""
        state = bullet.getLinkState(self.arm, link, physicsClientId=self.client)
        # Not Bullet's own centre of mass: for it a merged link without any mass weighs a kilogram.
        centre = self.robot.model.com[self.joints.index(link)].tolist()
        position, _ = bullet.multiplyTransforms(state[4], state[5], centre, (0.0, 0.0, 0.0, 1.0))
        bullet.applyExternalForce(
            self.arm, link, force, position, bullet.WORLD_FRAME, physicsClientId=self.client
        )


def joint_indices(client: int, body: int, robot: Robot) -> list[int]:
    """Bullet's numbers of the joints that move the links of the robot's model, in their order."""
    count = bullet.getNumJoints(body, physicsClientId=client)
    names = {bullet.getJointInfo(body, i, physicsClientId=client)[1].decode(): i for i in range(count)}
    return [names[name] for name in robot.model.link_joints]


@njit(cache=True, nogil=True, error_model="numpy")
def rotation_from_quaternion(x: float, y: float, z: float, w: float) -> Array:
    """(3, 3) rotation matrix of a unit quaternion (x, y, z, w)."""
    r = np.empty((3, 3))
    r[0, 0], r[0, 1], r[0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    r[1, 0], r[1, 1], r[1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    r[2, 0], r[2, 1], r[2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    return r
