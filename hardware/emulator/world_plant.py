"""A simulated world behind the emulated servos, in real time, with the objects on its table.

The world is PyBullet's, or MuJoCo's (`sim2real/simulation/crosssim/`): the plant knows only what both have.

Physics advances in whole steps towards the time it is told. The true state is there for the camera, for judges
and for tests; nothing on the bus can see it.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hardware.drawing.picture import OBJECT
from hardware.emulator.actuation import Actuation
from hardware.emulator.deviations import default_twin
from hardware.emulator.hand import Hand
from hardware.emulator.plant import DUTY, OFF, POSITION, Drive
from hardware.emulator.wire import PROTECTION_PERIOD, STALL
from hardware.servos.family import joint_models
from sim2real.calibration import Calibration
from sim2real.objects import without_joints
from sim2real.parameters import Parameter
from sim2real.robot import Robot
from sim2real.simulation.crosssim.world import MujocoWorld
from sim2real.simulation.parameters import world_parameters
from sim2real.simulation.world import World
from sim2real.task import HOLD, Hold, Scene, Task
from sim2real.tasks.registry import load_task
from sim2real.truth import Truth

Array = NDArray[np.float64]

Engine = Literal["bullet", "mujoco"]
ENGINES: Mapping[Engine, Callable[..., World | MujocoWorld]] = {"bullet": World, "mujoco": MujocoWorld}
"""Who can compute the physics."""

JUDGE_RATE = 30.0
"""How often the true state is kept for judging, Hz."""


@dataclass
class Past:
    """An episode: its number, the farthest stage that was reached (number), and the s by which physics fell behind."""

    episode: int
    stage: int = 0
    behind: float = 0.0

    def row(self, stages: tuple[str, ...]) -> dict[str, Any]:
        """As plain values, the stage by its name."""
        return {
            "episode": self.episode,
            "stage": stages[self.stage] if stages else "",
            "behind": round(self.behind, 4),
        }


def drawn_episode(task: Task, robot: Robot, seed: int, episode: int) -> tuple[dict[str, float], Scene]:
    """What an episode's task parameters are, and where its goal and objects, from (seed, episode) alone."""
    rng = np.random.default_rng((seed, episode))
    values = {p.name: _uniform(p, rng) for p in task.parameters(robot).values()}
    return values, task.setup(values, rng)


class WorldPlant:
    """A `Plant` over a world. `task` decides which objects lie on the table; `twin` the arm's parameters, `engine` who
    computes its physics.

    The arm begins limp at the robot's rest pose. Episode k places objects from (seed, k) alone.
    """

    def __init__(
        self,
        robot: Robot,
        calibration: Calibration,
        *,
        task: Task,
        twin: Mapping[str, float] | None = None,
        seed: int = 0,
        engine: Engine = "bullet",
    ) -> None:
        without_joints(task.objects, "an emulated arm's camera does not tell where its joint is")
        self.robot = robot
        self.task = task
        self.seed = seed
        self.episode = 0
        if twin is None:
            twin = default_twin(world_parameters(robot, task.objects) | task.parameters(robot))
        self.twin = dict(twin)
        self.world: World | MujocoWorld = ENGINES[engine](robot, task, nominal=self.twin)
        # What a step and judging it compile, they compile now.
        self.world.advance(None, 1)
        self.world.truth()
        self.world.set_joint_limits(*calibration.limits)
        self._limits = calibration.limits
        self.watch: Callable[[float], None] | None = None
        """Observer's callback: called with the time, s, whenever the physics has been brought up to it."""
        self.drive = Drive(robot.n)
        self._nominal_p = _scale(_tuned(robot, "p_coefficient"))
        self._nominal_d = _scale(_tuned(robot, "d_coefficient"))
        values = self.world.values
        volts = max(values[f"servo.{name}.voltage"] for name in robot.joint_names)
        self.supply = volts * values["servo.voltage"]
        self.hand = Hand(robot.n)
        self.actuation = Actuation(self.world)
        self._truths: deque[Truth] = deque(maxlen=int(2 * HOLD * JUDGE_RATE))
        self.past: deque[Past] = deque(maxlen=1000)
        """What became of the episodes, the one under way last."""
        self.restart(0.0)
        self.new_episode()

    def restart(self, time: float, position: Array | None = None) -> None:
        """As new at `time`, s since the plant began: the arm limp and at rest at `position` (n,) rad, by default its
        rest pose."""
        start = self.robot.rest if position is None else position
        self.world.reset(position=np.clip(start, *self._limits))
        self.world.servo.enabled[:] = 0.0
        self.drive.mode[:] = OFF
        self.drive.goal[:] = self.world.servo.sensed
        self._rng = np.random.default_rng((self.seed, self.episode, 0x1A7E))
        self._asked = self.drive.goal.copy()
        self._origin = time
        """Plant time at which the world's clock stood at 0."""
        self._truths.clear()
        self._under_way: Past | None = None
        self._read()

    # Plant

    def advance(self, time: float) -> None:
        """See `Plant`."""
        rate = self.world.physics_rate
        behind = time - self._origin - self.world.time
        if behind > STALL:
            # The line skips what the machine was too slow for; so does the world, and says so.
            if self._under_way is not None:
                self._under_way.behind += behind - PROTECTION_PERIOD
            self._origin += behind - PROTECTION_PERIOD
            behind = PROTECTION_PERIOD
        steps = int(behind * rate + 1e-6)
        if steps > 0:
            self._step(steps)
        # Between steps the encoders go on: half a degree at full speed.
        self.position = self._sensed + self.velocity * max(behind - steps / rate, 0.0)
        if self.watch is not None:
            self.watch(time)

    def _step(self, steps: int) -> None:
        servo, drive = self.world.servo, self.drive
        driven = drive.mode >= DUTY
        beyond = np.count_nonzero(driven) > 0
        self.actuation.settle(drive, driven)
        self._delay()
        servo.goal[:] = np.where(driven, servo.goal, drive.goal) if beyond else drive.goal
        servo.enabled[:] = np.where(driven, POSITION, drive.mode) if beyond else drive.mode
        servo.duty_limit[:] = drive.duty_limit
        self._relative(drive.p, self._nominal_p, servo.kp)
        self._relative(drive.d, self._nominal_d, servo.kd)
        servo.ki[:] = drive.i
        servo.speed[:] = drive.speed
        servo.acceleration[:] = drive.acceleration
        limited = np.count_nonzero(np.isfinite(drive.current_limit)) > 0
        if beyond or limited or self.hand.holding or np.count_nonzero(servo.external):
            for _ in range(steps):
                self.actuation.act(drive, driven)
                self.actuation.guide(self.hand, self.world.time)
                self.world.advance(None, 1)
        else:
            self.world.advance(None, steps)
        self._read()
        if not self._truths or self.world.time - self._truths[-1].time >= 1 / JUDGE_RATE - 1e-9:
            self._truths.append(self.world.truth())
            self._note_stage(self._truths[-1])

    def _delay(self) -> None:
        """How much later than usual the newest goal comes: the twin's `command.delay` and `command.jitter`."""
        values, goal = self.world.values, self.drive.goal
        if (values["command.delay"] or values["command.jitter"]) and (goal != self._asked).any():
            late = values["command.delay"] + self._rng.uniform(0.0, values["command.jitter"])
            self.world.servo.extra_delay[:] = late
            self._asked = goal.copy()

    @staticmethod
    def _relative(gain: Array, nominal: Array, out: Array) -> None:
        """A gain register relative to the value it is tuned for; one that is tuned at 0 has no scale of its own."""
        np.divide(gain, nominal, out=out)
        np.copyto(out, 1.0, where=np.isinf(nominal))

    def _read(self) -> None:
        self._sensed: Array = self.world.sensed_position
        self.position = self._sensed
        self.velocity: Array = self.world.velocity
        self.duty = self.world.servo.duty.copy()
        self.current = self.world.servo.current.copy()
        self.setpoint = self.world.servo.setpoint.copy()
        self.setpoint_speed = self.world.servo.setpoint_speed.copy()

    # Objects and judgement

    def new_episode(self) -> int:
        """Place the objects anew, as the task draws them; the arm is not touched. Returns the episode's number."""
        self.world.place(drawn_episode(self.task, self.robot, self.seed, self.episode)[1])
        self._truths.clear()
        self._under_way = Past(self.episode)
        self.past.append(self._under_way)
        self.episode += 1
        return self.episode - 1

    def _note_stage(self, truth: Truth) -> None:
        stages, episode = self.task.stages, self._under_way
        if episode is not None and stages:
            episode.stage = max(episode.stage, stages.index(self.task.stage(truth)))

    def succeeded(self, task: Task, goal: Array | None = None) -> bool:
        """Whether `task`'s condition has held for the last 0.5 s; `goal` (3,) m replaces the scene's own."""
        hold, held = Hold(), False
        for truth in self._truths:
            held = hold.look(truth.time, task.satisfied(truth if goal is None else replace(truth, goal=goal)))
        return held

    def state(self) -> dict[str, Any]:
        """The true state as plain values."""
        truth = self.world.truth()
        return {
            "time": truth.time,
            "episode": self.episode - 1,
            "joint_position": truth.joint_position.tolist(),
            "joint_velocity": truth.joint_velocity.tolist(),
            "sensed_position": self.position.tolist(),
            "goal_position": self.drive.goal.tolist(),
            "torque": [int(mode) for mode in self.drive.mode],
            "duty": self.duty.tolist(),
            "hand": self.hand.holding,
            "tool": truth.tool_position.tolist(),
            "objects": {name: state.position.tolist() for name, state in truth.objects.items()},
            "goal": self.world.scene.goal.tolist(),
            "stage": self.task.stage(truth),
            "episodes": [past.row(self.task.stages) for past in self.past],
        }

    def pose(self) -> Array:
        """(n + OBJECT × objects,) what the camera sees: joint angles, then of each object place, rotation and first
        measure; NaN: it is not there."""
        n = self.robot.n
        out = np.full(n + OBJECT * len(self.world.objects), np.nan)
        out[:n] = self.world.position
        rows = out[n:].reshape(-1, OBJECT)
        states = self.world.states()
        for row, spec in zip(rows, self.world.objects):
            if (state := states.get(spec.name)) is not None:
                row[:3], row[3:12] = state.position, state.rotation.ravel()
                row[12] = state.spec.measures[0]
        return out

    def close(self) -> None:
        self.world.close()


def _tuned(robot: Robot, register: str) -> Array:
    """(n,) what a gain register holds when the robot is set up: the value that its servo parameters are meant for."""
    settings = robot.servo_settings
    return np.array(
        [
            {**settings.get("all", {}), **settings.get(joint.name, {})}.get(
                register, model.table[register].default
            )
            for joint, model in zip(robot.joints, joint_models(robot), strict=True)
        ],
        dtype=np.float64,
    )


def _scale(tuned: Array) -> Array:
    """What gain registers are divided by; infinite where the tuned value, 0, is none to compare with."""
    return np.where(tuned == 0.0, np.inf, tuned)


def stage_task(name: str | None, robot: Robot) -> Task:
    """The task whose objects lie on the table; without a name, one that has a cube and a mark."""
    return load_task(name or "push", robot.n)


def _uniform(parameter: Parameter, rng: np.random.Generator) -> float:
    if parameter.scale == "log":
        return float(np.exp(rng.uniform(np.log(parameter.low), np.log(parameter.high))))
    return float(rng.uniform(parameter.low, parameter.high))
