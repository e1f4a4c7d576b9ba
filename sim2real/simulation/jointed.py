"""Mechanisms in Bullet: a housing that is fixed, and one part that moves on a joint with friction, a spring and play.

Each is a multibody of two links, made from a description that is written for it, since only so Bullet gives a joint its
stops. Friction is a motor that wants no speed and has no more than the friction's force, which the solver takes as
exactly that; damping is Bullet's. A spring is a motor, too, which wants to go back and has no more than the spring's
force: one that is added to the joint would make the solver forget the stop as soon as something touches the part.
"""

import math
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path

from sim2real.mechanisms import Joint, Quaternion, Vector
from sim2real.objects import ObjectSpec
from sim2real.primitives import Primitive
from sim2real.simulation.bullet import bullet, silenced

PART = 0
"""Bullet's number of the link that moves."""
BACK = -2.0
"""m/s or rad/s, faster than a spring takes anything back."""


class Jointed:
    """The body of one mechanism. The numbers of an episode come with `set_up`."""

    def __init__(self, client: int, spec: ObjectSpec) -> None:
        assert spec.joint is not None
        self.client, self.spec, self.joint = client, spec, spec.joint
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mechanism.urdf"
            ElementTree.ElementTree(_description(spec, spec.joint)).write(path)
            with silenced(1), silenced(2):
                # What is written there is ours: Bullet takes the masses and inertias as they are.
                self.body = int(
                    bullet.loadURDF(
                        str(path),
                        useFixedBase=True,
                        flags=bullet.URDF_USE_INERTIA_FROM_FILE,
                        physicsClientId=client,
                    )
                )
        self._stiffness = self._preload = self._play = self._friction = 0.0
        self._loose = False
        self.put((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), 0.0)

    def set_up(self, values: Mapping[str, float]) -> None:
        """Take the parameters of an episode."""
        name, client, joint = f"object.{self.spec.name}", self.client, self.joint
        for link in (-1, PART):
            bullet.changeDynamics(
                self.body,
                link,
                lateralFriction=values[f"{name}.friction"],
                restitution=values[f"{name}.restitution"],
                physicsClientId=client,
            )
        mass = values[f"{name}.mass"]
        share = mass / self.spec.mass
        bullet.changeDynamics(
            self.body,
            PART,
            mass=mass,
            localInertiaDiagonal=[share * moment for moment in _inertia(joint, self.spec.mass)],
            jointDamping=values[f"{name}.joint_damping"],
            physicsClientId=client,
        )
        self._stiffness = values.get(f"{name}.joint_stiffness", 0.0)
        self._preload = joint.preload * (self._stiffness / joint.stiffness if joint.stiffness else 0.0)
        self._play, self._friction = values[f"{name}.joint_play"], values[f"{name}.joint_friction"]
        self._hold(self._friction)
        self._loose = False

    def put(self, position: Vector, quaternion: Quaternion, value: float) -> None:
        """At once and at rest, the joint at `value` m or rad."""
        bullet.resetBasePositionAndOrientation(self.body, position, quaternion, physicsClientId=self.client)
        bullet.resetJointState(self.body, PART, value, 0.0, physicsClientId=self.client)

    def drive(self) -> None:
        """What acts on the joint in the next physics step."""
        if self._play == 0.0 and self._stiffness == 0.0:
            return
        value, speed, _, _ = bullet.getJointState(self.body, PART, self.client)
        loose = value < self._play
        if self._stiffness:
            force = 0.0 if loose else self._preload + self._stiffness * (value - self._play)
            self._hold(max(force + math.copysign(self._friction, speed), 0.0), BACK)
        elif loose != self._loose:
            self._hold(0.0 if loose else self._friction)
            self._loose = loose

    def state(self) -> tuple[float, float]:
        """The joint's value and speed: m, m/s or rad, rad/s."""
        value, speed, _, _ = bullet.getJointState(self.body, PART, self.client)
        return value, speed

    def _hold(self, force: float, speed: float = 0.0) -> None:
        bullet.setJointMotorControl2(
            self.body,
            PART,
            bullet.VELOCITY_CONTROL,
            targetVelocity=speed,
            force=force,
            physicsClientId=self.client,
        )


def _inertia(joint: Joint, mass: float) -> tuple[float, float, float]:
    """Moments of the moving part about its centre of mass and the frame's axes, kg·m²."""
    volume = sum(shape.volume for shape in joint.shapes)
    centre = _centre(joint)
    total = [0.0, 0.0, 0.0]
    for shape in joint.shapes:
        share = mass * shape.volume / volume
        own = shape.inertia(share)
        x, y, z = (a - b for a, b in zip(shape.position, centre))
        for k, moment in enumerate((y * y + z * z, x * x + z * z, x * x + y * y)):
            total[k] += own[k] + share * moment
    return total[0], total[1], total[2]


def _centre(joint: Joint) -> Vector:
    volume = sum(shape.volume for shape in joint.shapes)
    x, y, z = (sum(s.volume * s.position[k] for s in joint.shapes) / volume for k in range(3))
    return x, y, z


def _description(spec: ObjectSpec, joint: Joint) -> ElementTree.Element:
    """The mechanism as a URDF."""
    robot = ElementTree.Element("robot", name=spec.name)
    _link(robot, "housing", spec.shapes, 1.0, (0.0, 0.0, 0.0), (1e-3, 1e-3, 1e-3))
    _link(robot, "part", joint.shapes, spec.mass, _centre(joint), _inertia(joint, spec.mass))
    kind = "prismatic" if joint.form == "slide" else "revolute"
    element = ElementTree.SubElement(robot, "joint", name="joint", type=kind)
    ElementTree.SubElement(element, "parent", link="housing")
    ElementTree.SubElement(element, "child", link="part")
    ElementTree.SubElement(element, "origin", xyz=_text(joint.origin))
    ElementTree.SubElement(element, "axis", xyz=_text(joint.axis))
    ElementTree.SubElement(
        element, "limit", lower="0", upper=repr(float(joint.travel)), effort="100", velocity="100"
    )
    return robot


def _link(
    robot: ElementTree.Element,
    name: str,
    shapes: Sequence[Primitive],
    mass: float,
    centre: Vector,
    inertia: tuple[float, float, float],
) -> None:
    link = ElementTree.SubElement(robot, "link", name=name)
    body = ElementTree.SubElement(link, "inertial")
    ElementTree.SubElement(body, "origin", xyz=_text(centre))
    ElementTree.SubElement(body, "mass", value=repr(float(mass)))
    ixx, iyy, izz = (repr(float(moment)) for moment in inertia)
    ElementTree.SubElement(body, "inertia", ixx=ixx, iyy=iyy, izz=izz, ixy="0", ixz="0", iyz="0")
    for shape in shapes:
        collision = ElementTree.SubElement(link, "collision")
        ElementTree.SubElement(collision, "origin", xyz=_text(shape.position), rpy=f"0 0 {shape.yaw!r}")
        geometry = ElementTree.SubElement(collision, "geometry")
        if shape.form == "box":
            ElementTree.SubElement(geometry, "box", size=_text(shape.size))
        elif shape.form == "cylinder":
            radius, length = (repr(float(value)) for value in shape.size)
            ElementTree.SubElement(geometry, "cylinder", radius=radius, length=length)
        else:
            ElementTree.SubElement(geometry, "sphere", radius=repr(float(shape.size[0])))


def _text(numbers: Sequence[float]) -> str:
    return " ".join(repr(float(number)) for number in numbers)
