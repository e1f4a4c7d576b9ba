"""A world in MuJoCo with the members of `World` that an emulated arm needs: one arm, its servos, objects on a table.

The servo's controller, delay, profile and motor are the project's (`sim2real/model/servo.py`); everything that comes
after the motor's torque is MuJoCo's: the articulated arm with its armature, dry friction as a constraint whose level
follows the servo's friction law (Stribeck, load), the play of the gears as a hinge of its own, joint stops, contacts.
The encoder is on the motor's side of the play. Nothing here is randomized and nothing trains on it.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.errors import UserError
from sim2real.model import servo
from sim2real.model.conditions import apply_conditions
from sim2real.model.dynamics import add_point_mass, gravity_vector
from sim2real.model.kinematics import tool_pose
from sim2real.model.servo import (
    COMMAND_COLUMNS,
    CURRENT,
    DRIVE_COLUMNS,
    DRIVE_LIMIT,
    DRIVE_STOP,
    DRIVE_U0,
    DUTY,
    ENABLED,
    RESISTANCE,
    STATE_COLUMNS,
    TORQUE,
    TORQUE_CONSTANT,
    VISCOUS,
    VOLTAGE,
    drive_into,
    friction_level,
    nominal_command,
    reset_into,
)
from sim2real.objects import ByName, ObjectSpec, checked, unknown, without_joints
from sim2real.parameters import Parameter
from sim2real.robot import Robot
from sim2real.simulation.coupling import ServoBank, sag_into
from sim2real.simulation.crosssim.description import TIMESTEP, Body, by_object, finger_links, mjcf
from sim2real.simulation.parameters import world_parameters
from sim2real.task import Scene, Task
from sim2real.truth import ObjectState, Truth

Array = NDArray[np.float64]

PARKED = 50.0
"""Where objects wait that are not there, m."""


def load_mujoco() -> Any:
    """The module `mujoco`. Raises UserError that says how to get it."""
    try:
        import mujoco
    except ImportError:
        raise UserError(
            "this needs the physics engine MuJoCo, which is not installed: "
            "pip install 'sim2real-transfer[crosssim]' (or pip install mujoco)"
        ) from None
    return mujoco


class _Arrays:
    """What `ServoBank` shows of the servos; (n, …) arrays."""

    def __init__(self, parameters: Array) -> None:
        n = len(parameters)
        self.parameters = parameters
        self.command = nominal_command(n)
        self.state = np.zeros((n, STATE_COLUMNS))
        self.external = np.zeros(n)
        self.mass = np.zeros((n, n))
        self.bias = np.zeros(n)
        assert self.command.shape == (n, COMMAND_COLUMNS)


class MujocoWorld:
    """See the module docstring. `nominal` sets parameters by name, as in `World`; the others are nominal.

    Positions and velocities (n,) rad and rad/s are those of the links; `sensed_position` the encoders'. Raises
    UserError without MuJoCo, for names or values that cannot be, and for robots with meshes as collision shapes.
    """

    def __init__(
        self, robot: Robot | str, task: Task | None = None, *, nominal: Mapping[str, float] | None = None
    ) -> None:
        self._mujoco = load_mujoco()
        self.robot = Robot.load(robot)
        self.task = task
        self.objects: tuple[ObjectSpec, ...] = checked(task.objects) if task is not None else ()
        without_joints(self.objects, "the other engine does not have those")
        self.parameters: dict[str, Parameter] = world_parameters(self.robot, self.objects)
        if task is not None:
            self.parameters |= task.parameters(self.robot)
        self.values = {name: parameter.nominal for name, parameter in self.parameters.items()}
        for name, value in (nominal or {}).items():
            if name not in self.parameters:
                raise UserError(unknown(name, self.parameters, "parameter of this world"))
            if problem := self.parameters[name].refusal(value):
                raise UserError(problem)
            self.values[name] = float(value)
        self.physics_rate = round(1 / TIMESTEP)
        self.scene = Scene(goal=np.zeros(3))
        self._build()
        self.reset()

    def _build(self) -> None:
        robot, values = self.robot, self.values
        parameters = servo.nominal_parameters(robot)
        for i, joint in enumerate(robot.joint_names):
            for field, column in servo.FIELD_INDEX.items():
                parameters[i, column] = values.get(f"servo.{joint}.{field}", parameters[i, column])
        apply_conditions(parameters, values, robot.gripper)
        play = parameters[:, servo.BACKLASH].copy()
        # The play is a hinge in MuJoCo; the encoder on the motor has none.
        parameters[:, servo.BACKLASH] = 0.0
        inertials = np.array(robot.model.inertials)
        for i, link in enumerate(robot.model.link_names):
            inertials[i, 0] = values.get(f"link.{link}.mass", inertials[i, 0])
            inertials[i, 1:4] += [values.get(f"link.{link}.com_{axis}", 0.0) for axis in "xyz"]
            inertials[i, 4:] *= values.get(f"link.{link}.inertia", 1.0)
        if values["payload.mass"] > 0.0:
            tool = robot.model.tool
            add_point_mass(inertials, int(tool[0]), values["payload.mass"], tool[10:13])
        gravity = gravity_vector(values["world.gravity"], values["world.tilt_x"], values["world.tilt_y"])
        self._things = by_object(values, self.objects)
        body = Body(
            inertials=inertials,
            armature=parameters[:, servo.ARMATURE],
            play=play,
            things=self._things,
            table_friction=values["world.table_friction"],
            table_height=values["world.table_height"],
            finger_friction=values["gripper.friction"],
            gravity=gravity,
        )
        mujoco = self._mujoco
        self.model = mujoco.MjModel.from_xml_string(mjcf(robot, body))
        self.data = mujoco.MjData(self.model)
        names = robot.joint_names
        joints = [self.model.joint(name) for name in names]
        self._motor = np.array([int(joint.dofadr[0]) for joint in joints])
        self._motor_q = np.array([int(joint.qposadr[0]) for joint in joints])
        self._play = np.array([int(self.model.joint(f"{name}.play").dofadr[0]) for name in names])
        self._play_q = np.array([int(self.model.joint(f"{name}.play").qposadr[0]) for name in names])
        self._stops = np.array([joint.id for joint in joints])
        self._of = {
            spec.name: (int(self.model.joint(f"object.{spec.name}").qposadr[0]),
                        int(self.model.joint(f"object.{spec.name}").dofadr[0]))
            for spec, _, _ in self._things
        }  # fmt: skip
        self._specs = {spec.name: spec for spec, _, _ in self._things}
        self._part = self._parts()
        self._arrays = _Arrays(parameters)
        self._supply = parameters[:, VOLTAGE].copy()
        self._drive = np.zeros((robot.n, DRIVE_COLUMNS))
        self._scratch = np.zeros((4, robot.n))
        self.servo = ServoBank(self._arrays)  # type: ignore[arg-type]  # it looks at these arrays alone
        self._steps = 0

    def _parts(self) -> list[str]:
        """Of every shape the name under which `ObjectState.touches` has it."""
        fingers = finger_links(self.robot)
        both = len(fingers) == 1
        found = []
        for g in range(self.model.ngeom):
            name = str(self.model.geom(g).name)
            link = name.rpartition(".")[0]
            if name == "table":
                found.append("table")
            elif link.startswith("object."):
                found.append(link)
            else:
                carrier = self.robot.model.places[link][0]
                found.append("finger jaw" if both and carrier in fingers else fingers.get(carrier, "arm"))
        return found

    # Episodes

    def reset(self, draw: None = None, *, position: Array | None = None) -> None:
        """The arm at rest at `position` (n,) rad (default: home), torque on, its goal where it is; nothing lies on
        the table until `place`."""
        start = np.array(self.robot.home if position is None else position, dtype=np.float64)
        self._mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._motor_q] = start
        model = self.robot.model
        for i, link in enumerate(model.link_joints):
            if i not in model.rows:
                self.data.qpos[int(self.model.joint(link).qposadr[0])] = model.link_positions(start)[i]
        for name in self._of:
            self._park(name)
        arrays = self._arrays
        arrays.command[:] = nominal_command(self.robot.n)
        reset_into(arrays.parameters, start, arrays.command, arrays.state)
        arrays.external[:] = 0.0
        self.servo.duty_limit[:] = self.robot.torque_limit
        self._steps = 0
        self._mujoco.mj_forward(self.model, self.data)
        self._inertia()

    def place(self, scene: Scene) -> None:
        """Put goal and objects where `scene` says, at once and at rest; arm and clock go on. See `World.place`."""
        known = {spec.name: spec for spec in self.objects}
        for name in scene.poses:
            if name not in known:
                raise UserError(unknown(name, known, "object"))
        self.scene = scene
        for name, (at, dof) in self._of.items():
            if name not in scene.poses:
                self._park(name)
                continue
            pose = scene.poses[name]
            height = self.values["world.table_height"] + pose.above + self._specs[name].rest
            self.data.qpos[at : at + 3] = pose.x, pose.y, height
            self.data.qpos[at + 3 : at + 7] = math.cos(pose.yaw / 2), 0.0, 0.0, math.sin(pose.yaw / 2)
            self.data.qvel[dof : dof + 6] = 0.0
        self._mujoco.mj_forward(self.model, self.data)

    def _park(self, name: str) -> None:
        at, dof = self._of[name]
        place = PARKED + list(self._of).index(name)
        height = self.values["world.table_height"] + self._specs[name].rest
        self.data.qpos[at : at + 7] = place, PARKED, height, 1.0, 0.0, 0.0, 0.0
        self.data.qvel[dof : dof + 6] = 0.0

    def advance(self, goal: Array | None, steps: int) -> None:
        """Run `steps` steps of 1 ms; `goal` (n,) rad is sent to the servos first."""
        if goal is not None:
            if not np.isfinite(goal).all():
                raise UserError(f"a goal needs {self.robot.n} finite angles, got {goal}")
            self.servo.goal[:] = goal
        arrays, data, model = self._arrays, self.data, self.model
        q, v, step = data.qpos, data.qvel, self._mujoco.mj_step
        damping, dry, applied, bias = (
            model.dof_damping,
            model.dof_frictionloss,
            data.qfrc_applied,
            data.qfrc_bias,
        )
        sag = self.values["servo.sag"]
        for _ in range(steps):
            _act(
                arrays.parameters, arrays.command, arrays.state, self._drive, self._supply, sag, arrays.external,
                q, v, bias, self._motor_q, self._motor, damping, dry, applied, TIMESTEP,
            )  # fmt: skip
            step(model, data)
        self._steps += steps
        if steps == 1:
            self._inertia()

    def _inertia(self) -> None:
        """What a hand on the arm needs to know of it."""
        full = np.zeros((self.model.nv, self.model.nv))
        self._mujoco.mj_fullM(self.model, self.data, full)
        self._arrays.mass[:] = full[np.ix_(self._motor, self._motor)] - np.diag(
            self.model.dof_armature[self._motor]
        )
        self._arrays.bias[:] = self.data.qfrc_bias[self._motor]

    # Reading

    @property
    def time(self) -> float:
        """s since the reset."""
        return self._steps * TIMESTEP

    @property
    def position(self) -> Array:
        """(n,) rad, where the links are."""
        return np.asarray(self.data.qpos[self._motor_q] + self.data.qpos[self._play_q])

    @property
    def velocity(self) -> Array:
        """(n,) rad/s of the links."""
        return np.asarray(self.data.qvel[self._motor] + self.data.qvel[self._play])

    @property
    def sensed_position(self) -> Array:
        """(n,) rad, what the encoders say."""
        return np.asarray(self.data.qpos[self._motor_q] + self._arrays.parameters[:, servo.OFFSET])

    def states(self) -> ByName[ObjectState]:
        """Where the objects are that are there, in the task's order; without velocities and contacts."""
        return self._states(contacts=False)

    def truth(self) -> Truth:
        """The true state of the scene now."""
        position = self.position
        tool, rotation = tool_pose(self.robot.model, position)
        return Truth(
            time=self.time,
            joint_position=position,
            joint_velocity=self.velocity,
            joint_command=self.servo.goal.copy(),
            tool_position=tool,
            tool_rotation=rotation,
            goal=self.scene.goal,
            objects=self._states(contacts=True),
        )

    def _states(self, contacts: bool) -> ByName[ObjectState]:
        touched = self._touches() if contacts else {}
        found: ByName[ObjectState] = ByName()
        for spec in self.objects:
            if spec.name not in self.scene.poses:
                continue
            if not spec.moves:
                pose = self.scene.poses[spec.name]
                height = self.values["world.table_height"] + pose.above
                c, s = math.cos(pose.yaw), math.sin(pose.yaw)
                found[spec.name] = ObjectState(
                    spec, np.array([pose.x, pose.y, height]), np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]),
                    (0.0, 0.0, math.sin(pose.yaw / 2), math.cos(pose.yaw / 2)),
                )  # fmt: skip
                continue
            at, dof = self._of[spec.name]
            w, x, y, z = self.data.qpos[at + 3 : at + 7].tolist()
            flat = np.empty(9)
            self._mujoco.mju_quat2Mat(flat, self.data.qpos[at + 3 : at + 7])
            rotation = flat.reshape(3, 3)
            velocity = self.data.qvel[dof : dof + 6]
            found[spec.name] = ObjectState(
                self._specs[spec.name], np.array(self.data.qpos[at : at + 3]), rotation, (x, y, z, w),
                np.array(velocity[:3]), rotation @ velocity[3:],
                frozenset(touched.get(f"object.{spec.name}", ())),
            )  # fmt: skip
        return found

    def _touches(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for k in range(self.data.ncon):
            contact = self.data.contact[k]
            if contact.dist > 0.0 or contact.efc_address < 0:
                continue
            a, b = (self._part[int(g)] for g in contact.geom)
            for one, other in ((a, b), (b, a)):
                if one.startswith("object."):
                    found.setdefault(one, set()).update(other.removeprefix("object.").split())
        return found

    def set_joint_limits(self, lower: Array, upper: Array) -> None:
        """Move the joints' stops to `lower`, `upper` (n,) rad."""
        self.model.jnt_range[self._stops] = np.stack([lower, upper], axis=1)

    def close(self) -> None:
        """Nothing is open; as `World` has it."""

    def __enter__(self) -> "MujocoWorld":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@njit(cache=True, nogil=True, error_model="numpy")
def _act(
    parameters: Array, command: Array, state: Array, drive: Array, supply: Array, sag: float, external: Array,
    qpos: Array, qvel: Array, qbias: Array, place: NDArray[np.int64], dof: NDArray[np.int64], damping: Array,
    dry: Array, applied: Array, dt: float,
) -> None:  # fmt: skip
    """One step of all servos: fills what MuJoCo applies to their motors (equations of servo.py).

    The back-EMF and the viscous friction are damping, which MuJoCo integrates implicitly; dry friction is its
    constraint, at the level that the torques of the last step have.
    """
    n = len(parameters)
    q, w = np.empty(n), np.empty(n)
    for i in range(n):
        q[i], w[i] = qpos[place[i]], qvel[dof[i]]
    if sag > 0.0:
        sag_into(supply, sag, w, state, parameters)
    drive_into(parameters, command, state, q, dt, drive)
    for i in range(n):
        p, d = parameters[i], dof[i]
        back = p[TORQUE_CONSTANT] * p[TORQUE_CONSTANT] / p[RESISTANCE]
        load = external[i] - qbias[d] + drive[i, DRIVE_STOP]
        dry[d] = friction_level(p, w[i], state[i, TORQUE], load)
        duty, torque = 0.0, 0.0
        damping[d] = p[VISCOUS]
        state[i, DUTY], state[i, CURRENT], state[i, TORQUE] = 0.0, 0.0, 0.0
        if command[i, ENABLED] != 0.0:
            limit = drive[i, DRIVE_LIMIT]
            duty = min(max(drive[i, DRIVE_U0], -limit), limit)
            torque = p[TORQUE_CONSTANT] * p[VOLTAGE] * duty / p[RESISTANCE]
            damping[d] += back
            state[i, DUTY] = duty
            state[i, CURRENT] = (p[VOLTAGE] * duty - p[TORQUE_CONSTANT] * w[i]) / p[RESISTANCE]
            state[i, TORQUE] = p[TORQUE_CONSTANT] * state[i, CURRENT]
        applied[d] = torque + drive[i, DRIVE_STOP] + external[i]
