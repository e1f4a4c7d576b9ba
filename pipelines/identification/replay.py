"""Open-loop replay of recorded commands in the simulated world: how far is the simulation from the arm?

The arm starts at rest at each episode's first recorded state, its goal that state until `action[0]` arrives; it is
given `action[t]` for one frame period (where a recording has what a faster clock really sent, `action.executed`: in a
straight line to it), and where its encoders then are is compared with the recorded `state[t + 1]`.
Recorded states are never fed back, the gate takes no part, joints stop at the calibrated range. What stood around the
arm is not in a recording (real arms reach 3 cm below their base's plane: they stand on a board, or at an edge), so the
table is lowered out of reach and there are no objects.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.logs import ArmLog
from pipelines.identification.standouts import (
    bad_episodes,
    bad_joints,
    by_episode,
    mean_without,
    told_joints,
)
from sim2real.model import servo
from sim2real.model.batched import MIN_RATE
from sim2real.robot import Robot

Array = NDArray[np.float64]

OUT_OF_REACH = -1.0
"""m, height of a table that no arm here can touch."""


def physics_rate(fps: float, robot: Robot) -> int:
    """Hz: the robot's own rate where frames are a whole number of its steps, else the next that is, 240 or faster."""
    if abs(robot.physics_rate / fps - round(robot.physics_rate / fps)) < 1e-9:
        return robot.physics_rate
    return round(fps * math.ceil(MIN_RATE / fps - 1e-9))


def replay_in_world(
    log: ArmLog,
    robot: Robot,
    nominal: Mapping[str, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Array:
    """Encoder angles after each frame in the PyBullet world, (T, n) rad; row t compares with state[t + 1].

    `nominal` overrides nominal parameters (a twin).
    """
    from sim2real.simulation.world import World

    recording = log.recording
    values = {"world.table_height": OUT_OF_REACH} | dict(nominal or {})
    rate = physics_rate(recording.fps, robot)
    steps = max(1, round(rate / recording.fps))
    out = np.empty_like(recording.state)
    with World(robot, nominal=values, physics_rate=rate) as world:
        offset = np.array([world.parameters[f"servo.{joint}.offset"].nominal for joint in robot.joint_names])
        world.set_joint_limits(log.lower - offset, log.upper - offset)
        for e in range(recording.episodes):
            first, last = int(recording.starts[e]), int(recording.starts[e + 1])
            world.reset(position=recording.state[first] - offset)
            for t in range(first, last):
                if recording.ramp and t > first:
                    for k in range(steps):
                        share = (k + 1) / steps
                        world.advance(
                            (1 - share) * recording.command[t - 1] + share * recording.command[t], 1
                        )
                else:
                    world.advance(recording.command[t], steps)
                out[t] = world.sensed_position
            if progress is not None:
                progress(e + 1, recording.episodes)
    return out


@dataclass(frozen=True, eq=False)
class Gap:
    """How far a simulation is from a recording: RMS over all compared frames by joint, degrees.

    `by_episode` (E, n) is the same within each episode, `numbers` (E,) the episodes' own.
    """

    rms: Array
    frames: int
    by_episode: Array
    numbers: tuple[int, ...]
    robot: Robot

    @property
    def episodes(self) -> int:
        return len(set(self.numbers))

    @property
    def mean(self) -> float:
        """Degrees, over the arm's joints."""
        return float(self.rms[self.robot.arm].mean())

    def standouts(self) -> list[str]:
        """Joints and episodes that stand out, in words for the user."""
        return told_joints(self.rms, self.robot) + bad_episodes(self.by_episode, self.numbers, self.robot)

    def to_json(self) -> dict[str, Any]:
        names = self.robot.joint_names
        result: dict[str, Any] = {
            "mean_deg": self.mean,
            "rms_deg": {names[i]: float(self.rms[i]) for i in self.robot.arm},
        }
        if self.robot.gripper is not None:
            result["gripper_deg"] = {names[self.robot.gripper]: float(self.rms[self.robot.gripper])}
        bad = bad_joints(self.rms, self.robot)
        if bad:
            without = mean_without(self.rms, self.robot)
            result |= {"bad_joints": [names[j] for j in bad], "mean_without_deg": without}
        return result | {"episodes": self.episodes, "frames": self.frames, "standouts": self.standouts()}


def gap(log: ArmLog, simulated: Array, robot: Robot) -> Gap:
    """Compare simulated encoder angles (T, n) rad with the recording."""
    return pooled_gap([(log, simulated)], robot)


def pooled_gap(pairs: Sequence[tuple[ArmLog, Array]], robot: Robot) -> Gap:
    """Compare the simulated encoder angles (T, n) rad of several logs, of several rates say, with what they hold."""
    errors = [np.rad2deg(simulated - log.outcome()) for log, simulated in pairs]
    parts = [by_episode(error, log.recording.starts) for error, (log, _) in zip(errors, pairs)]
    error = np.concatenate(errors)
    return Gap(
        np.sqrt(np.nanmean(error**2, axis=0)),
        int(np.isfinite(error).any(axis=1).sum()),
        np.concatenate(parts),
        tuple(number for log, _ in pairs for number in log.episodes),
        robot,
    )


def arm_parameters(robot: Robot, nominal: Mapping[str, float]) -> tuple[Array, Array, Array]:
    """Servo parameters (n, F), inertials (n, 10) and gravity (3,) as the world has them under these nominal values."""
    from sim2real.model.conditions import apply_conditions
    from sim2real.model.dynamics import add_point_mass, gravity_vector

    parameters = servo.nominal_parameters(robot)
    inertials = robot.model.inertials.copy()
    for j, joint in enumerate(robot.joint_names):
        for name, column in servo.FIELD_INDEX.items():
            key = f"servo.{joint}.{name}"
            if key in nominal:
                fields = servo.SLIDING_FIELDS if robot.model.sliding[j] else servo.SERVO_FIELDS
                parameters[j, column] = servo.checked(name, nominal[key], key, fields)
    apply_conditions(parameters, nominal, robot.gripper)
    for i, link in enumerate(robot.model.link_names):
        inertials[i, 0] = nominal.get(f"link.{link}.mass", inertials[i, 0])
        for k, axis in enumerate("xyz"):
            inertials[i, 1 + k] += nominal.get(f"link.{link}.com_{axis}", 0.0)
        inertials[i, 4:] *= nominal.get(f"link.{link}.inertia", 1.0)
    if nominal.get("payload.mass", 0.0) > 0.0:
        tool = robot.model.tool
        add_point_mass(inertials, int(tool[0]), nominal["payload.mass"], np.array(tool[10:13]))
    gravity = gravity_vector(
        nominal.get("world.gravity", 9.81), nominal.get("world.tilt_x", 0.0), nominal.get("world.tilt_y", 0.0)
    )
    return parameters, inertials, gravity


def replay_in_twin(log: ArmLog, robot: Robot, nominal: Mapping[str, float] | None = None) -> Array:
    """Joint angles (T, n) rad when the commands of `log` drive the arm's batched model, which knows no contacts."""
    from sim2real.model import batched

    parameters, inertials, gravity = arm_parameters(robot, nominal or {})
    return batched.simulate(
        robot.model, log.recording, parameters, inertials=inertials, gravity=gravity, lower=log.lower,
        upper=log.upper, torque_limit=robot.torque_limit, rate=physics_rate(log.recording.fps, robot),
    )[0]  # fmt: skip
