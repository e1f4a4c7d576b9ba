"""The simulated world: one arm on a table in a PyBullet client of its own.

    world = World("so101", load_task("lift"))
    world.reset(Draw(seed=3, values={"object.cube.mass": 0.03}))
    world.advance(goal, steps=3)              # 3 physics steps with this servo goal
    world.truth().objects["cube"].position

A reset restores the state saved at construction and applies all parameters from their nominal values, so that
nothing of the episode before remains: the same draw gives the same episode to the bit. Time is counted in
physics steps and has no rounding drift.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from sim2real import old_names
from sim2real.camera import CameraModel
from sim2real.errors import UserError
from sim2real.gate.gate import Gate
from sim2real.model import servo
from sim2real.model.conditions import apply_conditions
from sim2real.model.dynamics import add_point_mass, gravity_vector
from sim2real.model.kinematics import tool_pose, writable
from sim2real.objects import ByName, ObjectSpec, checked
from sim2real.observation import Observation, unseen
from sim2real.parameters import Draw, Parameter
from sim2real.pictures import PictureInput, places_of
from sim2real.robot import Robot
from sim2real.simulation.bullet import bullet, silenced
from sim2real.simulation.cameras import Cameras
from sim2real.simulation.coupling import Coupling
from sim2real.simulation.disturbance import CommandLine, Pushes
from sim2real.simulation.feed import CameraFeed
from sim2real.simulation.parameters import world_parameters
from sim2real.simulation.photographs import Photograph
from sim2real.simulation.renderer import Renderer
from sim2real.simulation.scene import SceneBodies
from sim2real.simulation.sensing import JointSensor, ObjectDetector, true_entries
from sim2real.simulation.studio import Snapshot
from sim2real.task import Scene, Task
from sim2real.tracking import Hand
from sim2real.truth import ObjectState, Truth

Array = NDArray[np.float64]

SOLVER_ITERATIONS = 50
"""Only for what the direct solver cannot do."""
SOFTNESS = 1e-5
"""Of all contacts (Bullet's global constraint force mixing). Without any, contacts that determine each other more
than once, as in a cube pressed on the table, make the direct solver chatter; ten times as much lets a grip creep."""


class World:
    """See the module docstring. Not thread-safe; one process per core, since PyBullet holds the interpreter.

    `nominal` overrides nominal values by name (a twin). `physics_rate` in Hz overrides the robot's. `cameras` are
    those of a cameras file; without it, the robot's own, of which the one that looks for objects may stand anywhere.
    `backgrounds` are photographs (H, W, 3) uint8 RGB of an empty table, taken by that camera where a file is given.
    Raises UserError for names or values that cannot be.
    """

    def __init__(
        self,
        robot: Robot | str,
        task: Task | None = None,
        *,
        nominal: Mapping[str, float] | None = None,
        physics_rate: int | None = None,
        cameras: Mapping[str, CameraModel] | None = None,
        backgrounds: Sequence[NDArray[np.uint8]] = (),
    ) -> None:
        self.robot = Robot.load(robot)
        self.task = task
        self.physics_rate = int(physics_rate or self.robot.physics_rate)
        if not 100 <= self.physics_rate <= 10_000:
            raise UserError(f"the physics rate must be 100 to 10000 Hz, got {self.physics_rate}")
        self.objects: tuple[ObjectSpec, ...] = checked(task.objects) if task is not None else ()
        self.cameras = Cameras(self.robot, cameras)
        self.parameters = self._declare(nominal or {}, cameras)
        self._nominal = {name: parameter.nominal for name, parameter in self.parameters.items()}
        self._names = _ParameterNames(self.robot, self.parameters)
        # Without a cameras file nobody knows where they were taken from.
        named = self.cameras.detector if cameras is not None else None
        taken_by = None if named is None else self.cameras.described(named)
        self._photographs = [Photograph(image, taken_by) for image in backgrounds]
        self.client = bullet.connect(bullet.DIRECT)
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        self.reset()

    def _declare(
        self, nominal: Mapping[str, float], cameras: Mapping[str, CameraModel] | None
    ) -> dict[str, Parameter]:
        parameters = world_parameters(self.robot, self.objects, cameras)
        if self.task is not None:
            parameters |= self.task.parameters(self.robot)
        nominal = old_names.current(nominal, parameters)
        _refuse(nominal, parameters, "nominal value")
        for name, value in nominal.items():
            old = parameters[name]
            parameters[name] = replace(
                old, nominal=float(value), low=min(old.low, value), high=max(old.high, value)
            )
        return parameters

    def _build(self) -> None:
        client, dt = self.client, 1.0 / self.physics_rate
        bullet.setTimeStep(dt, physicsClientId=client)
        with silenced(1):
            # The direct contact solver: a cube held between fingers a hundred times heavier needs a hundred
            # iterations of the iterative one, and still creeps.
            bullet.setPhysicsEngineParameter(
                constraintSolverType=bullet.CONSTRAINT_SOLVER_LCP_DANTZIG,
                numSolverIterations=SOLVER_ITERATIONS,
                globalCFM=SOFTNESS,
                # PyBullet's default, 0, is another way through the solver, which with a tray of many contacts lying
                # about fails now and then: what the hand holds is thrown off the table. Sizes of 1 to 1000 move
                # everything alike, to ten digits.
                minimumSolverIslandSize=1,
                deterministicOverlappingPairs=1,
                physicsClientId=client,
            )
        self.bodies = SceneBodies(client, self.robot, self.objects)
        self._coupling = Coupling(
            self.robot.model, servo.nominal_parameters(self.robot), dt, self.bodies.centres()
        )
        views = self._coupling.views
        self.bodies.make_skeleton(views.carried[:, 4], views.carried[:, 0])
        views.lower[:], views.upper[:] = self.robot.lower, self.robot.upper
        self.servo = self._coupling.servo
        # Numbers are written to a memoryview in half the time that an array takes.
        self._measured_position, self._measured_velocity = views.position.data, views.velocity.data
        self.renderer = Renderer(self.robot, self.objects, self.cameras, self._photographs)
        self._torque_limit = self.robot.torque_limit
        self._dt = dt
        self._steps = 0

    # Episodes

    def reset(self, draw: Draw | None = None, *, position: Array | None = None) -> None:
        """Start an episode with this draw, the arm at rest at `position` (n,) rad (default: the task's, or home).

        The servos are on, their goal where they are. Raises UserError for parameters that do not exist and values
        that they cannot have.
        """
        draw = draw or Draw()
        drawn = old_names.current(draw.values, self.parameters)
        _refuse(drawn, self.parameters, "drawn value")
        values = self._nominal | drawn
        self.draw, self.values = draw, values
        streams = np.random.SeedSequence(draw.seed).spawn(6)
        rngs = [np.random.Generator(np.random.PCG64(stream)) for stream in streams]
        self._steps = 0
        scene = self._scene(values, rngs[0])
        start = self._start(values, position)
        self._apply_to_arm(values)
        self.bodies.restore()
        self.place(scene)
        self.bodies.forget()
        self.bodies.reset_arm(start)
        self._coupling.reset(start)
        self.servo.duty_limit[:] = self._torque_limit
        self._line = CommandLine(values, rngs[1])
        self._pushes = Pushes(values, self.bodies.joints, rngs[2])
        self._sensor = JointSensor(values, self._coupling, rngs[3])
        self.policy_rng = rngs[5]
        self.cameras.reset(values, draw.seed)
        self.renderer.reset(values, draw.seed)
        self._detector_rng = rngs[4]
        self._detector: ObjectDetector | None = None
        self._feed: CameraFeed | None = None

    def place(self, scene: Scene) -> None:
        """Put goal and objects where `scene` says, at once and at rest; the arm and the clock just go on.

        Objects that it does not mention are taken away. Raises UserError for objects that the task does not have.
        """
        self.bodies.set_up(self.values, scene.poses, self._coupling.views.gravity)
        self.scene = scene
        self._states_of = -1

    def _scene(self, values: Mapping[str, float], rng: np.random.Generator) -> Scene:
        if self.task is None:
            return Scene(goal=np.zeros(3))
        return self.task.setup(values, rng)

    def _start(self, values: Mapping[str, float], position: Array | None) -> Array:
        if position is None:
            if self.task is None:
                return np.array(self.robot.home)
            return np.array(self.task.start(values, self.robot))
        start = np.array(position, dtype=np.float64)
        if start.shape != (self.robot.n,) or not np.isfinite(start).all():
            raise UserError(f"a start position needs {self.robot.n} finite angles, got {position}")
        return start

    def _apply_to_arm(self, values: Mapping[str, float]) -> None:
        """Servos, links and payload, from the nominal arm."""
        views, names, model = self._coupling.views, self._names, self.robot.model
        views.gravity[:] = gravity_vector(
            values["world.gravity"], values["world.tilt_x"], values["world.tilt_y"]
        )
        views.parameters.reshape(-1)[names.servo_at] = names.servo(values)
        apply_conditions(views.parameters, values, self.robot.gripper)
        views.supply[:] = views.parameters[:, servo.VOLTAGE]
        views.scalars[2] = values["servo.sag"]
        links = np.zeros((model.links, 5))
        links.reshape(-1)[names.links_at] = names.links(values)
        views.inertials[:] = model.inertials
        views.inertials[:, 0] = links[:, 0]
        views.inertials[:, 1:4] += links[:, 2:5]
        views.inertials[:, 4:] *= links[:, 1:2]
        if values["payload.mass"] > 0.0:
            add_point_mass(views.inertials, int(model.tool[0]), values["payload.mass"], model.tool[10:13])

    def advance(self, goal: Array | None, steps: int) -> None:
        """Run `steps` physics steps; `goal` (n,) rad is sent to the servos first, None leaves the last one.

        No gate: what is asked for is what the servos try. Raises UserError for goals that are not finite.
        """
        if goal is not None:
            self._send(goal)
        # Everything that runs once per physics step is at hand here: this loop is half of an episode's time.
        client, arm, joints, dt = self.client, self.bodies.arm, self.bodies.joints, self._dt
        position, velocity, step = self._measured_position, self._measured_velocity, self._coupling.step
        drive, simulate, read = bullet.setJointMotorControlArray, bullet.stepSimulation, bullet.getJointStates
        mode, pushes, detector = bullet.TORQUE_CONTROL, self._pushes or None, self._detector
        feed, driven = self._feed, self.bodies.driven
        for count in range(self._steps, self._steps + steps):
            if pushes is not None:
                pushes.apply(self.bodies, count * dt)
            drive(arm, joints, mode, forces=step(), physicsClientId=client)
            for jointed in driven:
                jointed.drive()
            simulate(client)
            i = 0
            for angle, speed, _, _ in read(arm, joints, client):
                position[i] = angle
                velocity[i] = speed
                i += 1
            self._steps = count + 1
            if detector is not None and self._steps * dt >= detector.next_frame:
                detector.capture(self._steps * dt)
            if feed is not None and self._steps * dt >= feed.next_frame:
                feed.capture(self._steps * dt, self._view())

    def _send(self, goal: Array) -> None:
        goal = writable(goal)
        if goal.shape != (self.robot.n,) or not self._coupling.command(goal, self._line.send()):
            raise UserError(f"a goal needs {self.robot.n} finite angles, got {goal}")

    # Reading

    @property
    def time(self) -> float:
        """Seconds since the reset."""
        return self._steps * self._dt

    @property
    def position(self) -> Array:
        """(n,) rad, true joint angles."""
        return self._coupling.position

    @property
    def velocity(self) -> Array:
        """(n,) rad/s, true joint speeds."""
        return self._coupling.velocity

    @property
    def goal(self) -> Array:
        """(n,) rad, the last goal sent (whether or not it arrived)."""
        return self._coupling.views.sent.copy()

    @property
    def sensed_position(self) -> Array:
        """(n,) rad, what the encoders say, without noise and delay of the bus."""
        return self._coupling.sense(0.0)[0]

    @property
    def sensed_velocity(self) -> Array:
        """(n,) rad/s, what the servos say, without noise and delay of the bus."""
        return self._coupling.sense(0.0)[1]

    def truth(self) -> Truth:
        """The true state of the scene now."""
        position = self.position
        tool, rotation = tool_pose(self.robot.model, position)
        return Truth(
            time=self.time,
            joint_position=position,
            joint_velocity=self.velocity,
            joint_command=self.goal,
            tool_position=tool,
            tool_rotation=rotation,
            goal=self.scene.goal,
            objects=self.bodies.moving(self.states()),
        )

    def states(self) -> ByName[ObjectState]:
        """The objects' poses, read once per physics step."""
        if self._states_of != self._steps:
            self._objects, self._states_of = self.bodies.states(), self._steps
        return self._objects

    def observe(self, *, privileged: bool = False) -> Observation:
        """The standard observation; `privileged` hands the true state instead of what sensors say."""
        time = self.time
        goal = self.scene.goal
        objects: Observation = {}
        if privileged:
            position, velocity = self.position, self.velocity
            states = self.states()
            for spec in self.objects:
                there = spec.name in states
                objects |= true_entries(spec, states[spec.name]) if there else unseen(spec)
        else:
            position, velocity = self._sensor.read()
            if self.objects:
                objects = self.detector.entries(self.states(), time, Hand.of(self.robot, position))
                if self.task is not None and self.task.goal_zone in self.scene.poses:
                    goal = self.detector.goal(goal)
        return {
            "joint_position": position,
            "joint_velocity": velocity,
            "joint_command": self.goal,
            "goal": np.array(goal),
            **objects,
        }

    def render(
        self, camera: str | None = None, width: int | None = None, height: int | None = None
    ) -> NDArray[np.uint8]:
        """(height, width, 3) RGB image of a camera, by default of the first one, in its own size."""
        return self.renderer.image(
            camera or self.cameras.names[0], self._view(), width, height, time=self.time
        )

    def _view(self) -> Snapshot:
        return Snapshot(self.position, self.states())

    def camera_places(self, wanted: Sequence[PictureInput]) -> Observation:
        """Where the cameras of these pictures stand by their descriptions, as entries of an observation."""
        return places_of(wanted, {p.camera: self.cameras.described(p.camera) for p in wanted})

    def pictures(
        self, wanted: Sequence[PictureInput]
    ) -> dict[PictureInput, tuple[NDArray[np.uint8], dict[str, int]]]:
        """What a policy that sees gets now: pictures (H, W, 3) RGB at the cameras' rate and latency, and how many of
        their pixels show each object. The cameras run from the first time in an episode that they are asked.

        Raises UserError for a camera that the robot does not have, or of which such a picture cannot be made.
        """
        if self._feed is None:
            self._feed = CameraFeed(
                self.values,
                self.renderer,
                np.random.default_rng((self.draw.seed, 0xFEED)),
                self.time,
                self._view(),
            )
        return self._feed.look(wanted, self.time)

    def camera(self, name: str | None = None) -> CameraModel:
        """The camera as it really stands by now: its calibration errs, and it may have drifted since."""
        return self.cameras.real(name or self.cameras.names[0], self.time)

    @property
    def detector(self) -> ObjectDetector:
        """The camera's imitated detector. It watches from the first time in an episode that it is asked."""
        if self._detector is None:
            self._detector = ObjectDetector(
                self.values,
                self.cameras,
                self.bodies,
                self._detector_rng,
                self.time,
                lambda: Hand.of(self.robot, self.sensed_position),
            )
        return self._detector

    @cached_property
    def gate(self) -> Gate:
        """A gate for this world's robot, to be reset for every episode."""
        return Gate(self.robot)

    # Settings that outlive a reset

    def set_joint_limits(self, lower: Array, upper: Array) -> None:
        """Move the joints' stops to `lower`, `upper` (n,) rad, for this and all later episodes."""
        lower, upper = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
        if lower.shape != (self.robot.n,) or upper.shape != lower.shape or not (lower < upper).all():
            raise UserError(
                f"joint limits need {self.robot.n} numbers each, lower < upper; got {lower}, {upper}"
            )
        self._coupling.views.lower[:], self._coupling.views.upper[:] = lower, upper

    def close(self) -> None:
        """Free the PyBullet client. Harmless when it is closed already."""
        if self.client >= 0:
            bullet.disconnect(self.client)
            self.client = -1
        if hasattr(self, "renderer"):
            self.renderer.close()

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _ParameterNames:
    """The array-valued parameters: what reads them from the values, and where they go in the flattened arrays.

    What is not declared is a thing that does not exist, such as a joint before the first, and stays zero.
    """

    def __init__(self, robot: Robot, declared: Mapping[str, Parameter]) -> None:
        fields = [field.name for field in servo.SERVO_FIELDS]
        self.servo, self.servo_at = _located(
            [f"servo.{joint}.{field}" for joint in robot.joint_names for field in fields], declared
        )
        quantities = ("mass", "inertia", "com_x", "com_y", "com_z")
        self.links, self.links_at = _located(
            [f"link.{link}.{quantity}" for link in robot.model.link_names for quantity in quantities],
            declared,
        )


def _located(
    names: list[str], declared: Mapping[str, Parameter]
) -> tuple[Callable[[Mapping[str, float]], tuple[float, ...]], NDArray[np.intp]]:
    """A getter of the declared ones among `names`, and their places."""
    at = [i for i, name in enumerate(names) if name in declared]
    return itemgetter(*(names[i] for i in at)), np.array(at)


def _refuse(given: Mapping[str, float], known: Mapping[str, Parameter], what: str) -> None:
    unknown = given.keys() - known.keys()
    if unknown:
        name = sorted(unknown)[0]
        near = get_close_matches(name, known, n=3)
        raise UserError(
            f"{what} for '{name}', which is not a parameter of this world"
            + (f"; did you mean {' or '.join(near)}?" if near else "; 'sim2real parameters' lists them")
        )
    for name, value in given.items():
        if problem := known[name].refusal(value):
            raise UserError(f"{what}: {problem}")
