"""What can be touched: the bodies in the physics client, and their reset without reloading anything.

Every body is made once. Objects come from a pool of sizes, because Bullet cannot rescale a shape; those that an
episode does not use are parked far away as static bodies, where they cost next to nothing. Only primitive shapes
are used: they restore bit-identically. What is only looked at is in `studio.py`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.errors import UserError
from sim2real.objects import KINDS, ByName, ObjectSpec, Pose, unknown
from sim2real.primitives import Primitive
from sim2real.robot import Robot
from sim2real.simulation.arm_loading import load_arm
from sim2real.simulation.bullet import bullet
from sim2real.simulation.jointed import Jointed
from sim2real.simulation.parameters import pool
from sim2real.truth import ObjectState

Array = NDArray[np.float64]

FORGETTING = 16, 6
"""Steps in free air in which Bullet forgets all contacts, and more for every object: one contact goes in each."""
ROLLING = 2.0
"""Damping of the rotation of what rolls, 1/s: on a real table a ball comes to rest. Bullet's direct solver has no
rolling friction."""
CONTACT_STIFFNESS, CONTACT_DAMPING = 1e4, 30.0
"""Of fingers and gripper. With Bullet's default, rigid contact a grasped cube slips out."""
PARKED = 50.0
"""Distance at which unused bodies wait, m."""
TABLE_HALF = (0.7, 0.7, 0.02)
TABLE_CENTRE = (0.3, 0.0)


@dataclass(frozen=True)
class _Placed:
    """An object that is there in this episode: its size's spec, its body (None: a zone), where it was put."""

    spec: ObjectSpec
    body: int | None
    position: tuple[float, float, float]
    yaw: float
    joint: float = 0.0
    """m or rad, of what has one."""

    @cached_property
    def lying(self) -> ObjectState:
        """The state of what stays where it was put."""
        turn = _about_z(self.yaw)
        return ObjectState(self.spec, np.array(self.position), rotation_from_quaternion(*turn), turn)


class SceneBodies:
    """All bodies of a client and the numbers needed to address them. One instance per World."""

    def __init__(self, client: int, robot: Robot, objects: Sequence[ObjectSpec] = ()) -> None:
        self.client = client
        self.robot = robot
        self.specs = {spec.name: spec for spec in objects}
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
        # A tool without a moving jaw is both.
        names = (("finger", "jaw"),) if len(self.fingers) == 1 else (("finger",), ("jaw",))
        self._parts = dict(zip(self.fingers, names))
        self.table = self._table()
        self._pools = {
            spec.name: [(scaled, self._object(scaled)) for scaled in map(spec.scaled, pool(spec))]
            for spec in objects
            if spec.moves
        }
        """The bodies of every object, one for each size."""
        self._jointed = {spec.name: Jointed(client, spec) for spec in objects if spec.joint is not None}
        self.driven: list[Jointed] = []
        """The mechanisms that are there in this episode, whose joints something acts on in every step."""
        self._names = {body: name for name, sizes in self._pools.items() for _, body in sizes}
        self._mechanisms = {jointed.body: name for name, jointed in self._jointed.items()}
        self._placed: dict[str, _Placed] = {}
        # One body made of one shape has nothing to be out of order with.
        several = sum(len(spec.shapes) for spec in objects) > 1
        bodies = len(self._pools) + len(self._jointed)
        self._forgetting = FORGETTING[0] + FORGETTING[1] * bodies if several else 1
        for body in self._names:
            self._park(body)
        for jointed in self._jointed.values():
            jointed.put((PARKED + jointed.body, PARKED, -PARKED), _about_z(0.0), 0.0)
        self._names |= self._mechanisms
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

    def _object(self, spec: ObjectSpec) -> int:
        # A plain rigid body: as a multibody it would cost more and could not be made static while parked.
        # It needs a mass when it is made, or it would stay in the group of bodies that never collide.
        body = bullet.createMultiBody(
            0.02, self._shape(spec.shapes), useMaximalCoordinates=True, physicsClientId=self.client
        )
        bullet.changeDynamics(
            body,
            -1,
            linearDamping=0.0,
            angularDamping=ROLLING if KINDS[spec.kind].rolls else 0.0,
            activationState=bullet.ACTIVATION_STATE_DISABLE_SLEEPING,
            physicsClientId=self.client,
        )
        return int(body)

    def _shape(self, shapes: Sequence[Primitive]) -> int:
        """Bullet's collision shape."""
        if len(shapes) == 1 and shapes[0].form == "box":
            half = tuple(edge / 2 for edge in shapes[0].size)
            shape = bullet.createCollisionShape(
                bullet.GEOM_BOX, halfExtents=half, physicsClientId=self.client
            )
            return int(shape)
        forms = {"box": bullet.GEOM_BOX, "cylinder": bullet.GEOM_CYLINDER, "sphere": bullet.GEOM_SPHERE}
        shape = bullet.createCollisionShapeArray(
            shapeTypes=[forms[shape.form] for shape in shapes],
            halfExtents=[[edge / 2 for edge in s.size] if s.form == "box" else [1, 1, 1] for s in shapes],
            radii=[s.size[0] for s in shapes],
            lengths=[s.size[1] if s.form == "cylinder" else 1.0 for s in shapes],
            collisionFramePositions=[list(s.position) for s in shapes],
            collisionFrameOrientations=[list(_about_z(s.yaw)) for s in shapes],
            physicsClientId=self.client,
        )
        return int(shape)

    # Episodes

    def _place(self, body: int, position: tuple[float, float, float], yaw: float = 0.0) -> None:
        bullet.resetBasePositionAndOrientation(body, position, _about_z(yaw), physicsClientId=self.client)

    def _park(self, body: int) -> None:
        bullet.changeDynamics(body, -1, mass=0.0, physicsClientId=self.client)
        self._place(body, (PARKED + body, PARKED, -PARKED))

    def restore(self) -> None:
        """Back to the state after construction, contacts included; everything is parked."""
        self._clear()
        bullet.restoreState(self._saved, physicsClientId=self.client)

    def _clear(self) -> None:
        for name, placed in self._placed.items():
            if name in self._jointed:
                self._jointed[name].put(
                    (PARKED + self._jointed[name].body, PARKED, -PARKED), _about_z(0.0), 0.0
                )
            elif placed.body is not None:
                self._park(placed.body)
        self._placed = {}
        self.driven = []

    def set_up(self, values: Mapping[str, float], poses: Mapping[str, Pose], gravity: Array) -> None:
        """Place everything for an episode, after `restore`.

        `values` are all of the world's parameters; `gravity` (3,) m/s² in the base frame. Raises UserError for
        poses of objects that are unknown.
        """
        for name in poses:
            if name not in self.specs:
                raise UserError(unknown(name, self.specs, "object"))
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
        self._clear()
        # In the task's order, whatever the order of the poses.
        for name, spec in self.specs.items():
            if name in poses:
                self._placed[name] = self._set_up(spec, poses[name], values, height)

    def _set_up(self, spec: ObjectSpec, pose: Pose, values: Mapping[str, float], height: float) -> _Placed:
        if (jointed := self._jointed.get(spec.name)) is not None:
            jointed.set_up(values)
            self.driven.append(jointed)
            value = pose.joint * jointed.joint.travel
            placed = _Placed(spec, jointed.body, (pose.x, pose.y, height + pose.above), pose.yaw, value)
            jointed.put(placed.position, _about_z(pose.yaw), value)
            return placed
        if not spec.moves:
            return _Placed(spec, None, (pose.x, pose.y, height + pose.above), pose.yaw)
        wanted = values[f"object.{spec.name}.size"]
        sizes = self._pools[spec.name]
        scaled, body = min(sizes, key=lambda one: abs(one[0].measures[0] - wanted))
        mass = values[f"object.{spec.name}.mass"]
        bullet.changeDynamics(
            body,
            -1,
            mass=mass,
            localInertiaDiagonal=scaled.inertia(mass),
            lateralFriction=values[f"object.{spec.name}.friction"],
            restitution=values[f"object.{spec.name}.restitution"],
            physicsClientId=self.client,
        )
        placed = _Placed(scaled, body, (pose.x, pose.y, height + pose.above + scaled.rest), pose.yaw)
        self._put(body, placed.position, placed.yaw)
        return placed

    def _put(self, body: int, position: tuple[float, float, float], yaw: float) -> None:
        """At once and at rest."""
        self._place(body, position, yaw)
        bullet.resetBaseVelocity(body, (0, 0, 0), (0, 0, 0), physicsClientId=self.client)

    def forget(self) -> None:
        """Let the objects forget the episode before. Between `set_up` and `reset_arm`, not while the arm moves.

        Setting a pose leaves the inertia tensor as the last episode turned it; a step in free air turns it. Contacts
        of the episode before are forgotten only by and by, and with them the order in which several between two bodies
        (a bowl has many plates) are solved: until then nothing must touch anything, not even the table.
        """
        bodies = [(name, placed) for name, placed in self._placed.items() if placed.body is not None]
        place, turn = bullet.getBasePositionAndOrientation(self.table, self.client)
        for step in range(self._forgetting if bodies else 0):
            if step == 0:
                self._place(self.table, (place[0], place[1], -PARKED))
            for i, (name, placed) in enumerate(bodies):
                x, y, _ = placed.position
                # So far apart that none touches another. Bullet only looks for what to forget when something moved.
                self._return(name, placed, (x, y, PARKED + 2 * i + step % 2))
            bullet.stepSimulation(physicsClientId=self.client)
        bullet.resetBasePositionAndOrientation(self.table, place, turn, physicsClientId=self.client)
        for name, placed in bodies:
            self._return(name, placed, placed.position)

    def _return(self, name: str, placed: _Placed, position: tuple[float, float, float]) -> None:
        """Put what an episode has there as it begins, but at `position`."""
        if name in self._jointed:
            self._jointed[name].put(position, _about_z(placed.yaw), placed.joint)
        elif placed.body is not None:
            self._put(placed.body, position, placed.yaw)

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

    def states(self) -> ByName[ObjectState]:
        """Where the objects are that are there, in the task's order; without velocities and contacts."""
        found: ByName[ObjectState] = ByName()
        for name, placed in self._placed.items():
            if placed.body is None:
                found[name] = placed.lying
                continue
            if (jointed := self._jointed.get(name)) is not None:
                value, speed = jointed.state()
                found[name] = replace(placed.lying, joint=value, joint_speed=speed)
                continue
            position, quaternion = bullet.getBasePositionAndOrientation(placed.body, self.client)
            rotation = rotation_from_quaternion(*quaternion)
            found[name] = ObjectState(placed.spec, np.array(position), rotation, quaternion)
        return found

    def moving(self, states: Mapping[str, ObjectState]) -> ByName[ObjectState]:
        """`states` with velocities and contacts."""
        found: ByName[ObjectState] = ByName()
        for name, state in states.items():
            body = self._placed[name].body
            if name in self._jointed and body is not None:
                found[name] = replace(state, touches=self._touched(body))
            elif body is not None:
                velocity, spin = bullet.getBaseVelocity(body, self.client)
                found[name] = ObjectState(
                    state.spec, state.position, state.rotation, state.quaternion,
                    np.array(velocity), np.array(spin), self._touched(body),
                )  # fmt: skip
            else:
                found[name] = state
        return found

    def _touched(self, body: int) -> frozenset[str]:
        """Names of what this body touches."""
        touched: set[str] = set()
        for contact in bullet.getContactPoints(body, physicsClientId=self.client):
            if contact[8] <= 0.0:
                other, link = contact[2], contact[4]
                if other == self.arm:
                    touched.update(self._parts.get(link, ("arm",)))
                else:
                    touched.add("table" if other == self.table else self._names.get(other, "table"))
        return frozenset(touched)

    def owner(self, body: int) -> str | None:
        """The object that has this body, None for others."""
        return self._names.get(body)

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


def _about_z(angle: float) -> tuple[float, float, float, float]:
    return 0.0, 0.0, math.sin(angle / 2), math.cos(angle / 2)


@njit(cache=True, nogil=True, error_model="numpy")
def rotation_from_quaternion(x: float, y: float, z: float, w: float) -> Array:
    """(3, 3) rotation matrix of a unit quaternion (x, y, z, w)."""
    r = np.empty((3, 3))
    r[0, 0], r[0, 1], r[0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    r[1, 0], r[1, 1], r[1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    r[2, 0], r[2, 1], r[2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    return r
