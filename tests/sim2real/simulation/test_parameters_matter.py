"""Every declared parameter changes something that can be measured."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from sim2real.parameters import Draw, Parameter, unseen
from sim2real.robot import Robot
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

Array = np.ndarray

PUSHED = {"push.force": 30.0, "push.rate": 30.0, "push.duration": 0.2}
# Some parameters only matter when others are not at their nominal value.
CONTEXT = {
    "stribeck_velocity": {"stribeck": 0.1},
    "stribeck_exponent": {"stribeck": 0.1},
    "feedforward": {"kd": 0.05},
    # Friction that grows with the load needs one, on every joint: one that moves it, one that does not.
    "quadratic_motor": PUSHED,
    "quadratic_external": {"kp": 0.5, **PUSHED},
    "stop_stiffness": {"stop_upper": -2.0},
    "stop_share": {f"servo.{joint}.stop_upper": -3.0 for joint in Robot.load("so101").joint_names},
    # The jaw has a load only when it holds something.
    "servo.gripper.quadratic_motor": {},
    "servo.gripper.quadratic_external": {},
    "command.burst": {"command.dropout": 0.3},
    "push.force": {"push.rate": 10.0},
    "push.rate": {"push.force": 1.0},
    "push.duration": {"push.force": 3.0, "push.rate": 30.0},
    "distractors.layout": {"distractors.count": 3.0},
    "sensor.burst": {"sensor.dropout": 0.3},
    "texture.kind": {"texture.table": 0.15},
    "texture.size": {"texture.table": 0.15},
}
# Where there is no default range, or one too small for a short test, a value that a user might give.
VALUES = {
    # In a few pictures, one in twenty may well be none.
    "detector.dropout": 0.5,
    "ki": 2.0,
    "feedforward": 0.7,
    "speed": 0.5,
    "acceleration": 2.0,
    "stribeck_velocity": 0.6,
    "stribeck_exponent": 2.0,
    "load_motor_stribeck": 0.2,
    "load_external_stribeck": 0.2,
    "quadratic_motor": 0.3,
    "quadratic_external": 0.3,
    "stop_lower": 2.0,
    "stop_upper": -2.0,
    "stop_stiffness": 30.0,
    "stop_share": 0.3,
    "command.dropout": 0.3,
    "sensor.dropout": 0.3,
    "push.rate": 10.0,
}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World("so101", load_task("push")) as world:
        yield world


def motion(world: World) -> Array:
    """A quick swing and back, and what comes after."""
    rows = []
    world.servo.ki[:] = 1.0
    for k in range(45):
        swing = 0.5 * np.sin(k / 6) if k < 30 else 0.0
        # Not from where the arm is: that knows the offsets of the encoders.
        world.advance(world.robot.home + swing * np.array([1, 1, -1, -1, 1, 1]), 3)
        rows.append(world.position)
    return np.array(rows)


def readings(world: World) -> Array:
    rows = []
    start = world.goal
    for k in range(60):
        world.advance(start + 0.3 * np.sin(k / 8), 3)
        if k % 3 == 2:
            rows.append(np.concatenate([value.ravel() for value in world.observe().values()]))
    return np.array(rows)


def picture(world: World) -> Array:
    return world.render(width=160, height=120).astype(float)


def picture_size(world: World) -> Array:
    return np.array([world.camera().width, world.camera().height])


def grasp(world: World) -> Array:
    """A cube lifted, held, and let fall."""
    with World("so101", load_task("lift")) as lift:
        values = {name: value for name, value in world.draw.values.items() if name in lift.parameters}
        lifted = rollout(
            lift, lift.task.expert(lift.robot), Draw(seed=2, values=values), privileged=True, max_seconds=3.0
        )
        goal = lift.goal
        goal[5] += 0.5
        fall = []
        for _ in range(40):
            lift.advance(goal, 3)
            fall.append(lift.truth().objects["cube"].position)
    return np.concatenate([lifted.features["object.cube.position"].ravel(), np.ravel(fall)])


def start(world: World) -> Array:
    truth = world.truth()
    parts = (
        truth.joint_position,
        truth.objects["cube"].position,
        truth.objects["cube"].rotation.ravel(),
        truth.goal,
    )
    return np.concatenate(parts)


def episode(world: World) -> Array:
    """One that records what the policy's commands became."""
    from sim2real.policies.protocol import RandomPolicy

    policy = RandomPolicy(world.robot)
    return rollout(world, policy, world.draw, max_seconds=1.5).executed


MEASURES: dict[str, Callable[[World], Array]] = {
    "servo.gripper.quadratic": grasp,
    "servo.": motion,
    "link.": motion,
    "payload.": motion,
    "world.gravity": motion,
    "world.tilt": motion,
    "push.": motion,
    "command.": motion,
    "world.table": grasp,
    "object.": grasp,
    "gripper.": grasp,
    "policy.": episode,
    "control.": episode,
    "sensor.": readings,
    "camera.drift": readings,
    "detector.": readings,
    "camera.resolution": picture_size,
    "camera.": picture,
    "light.": picture,
    "colour.": picture,
    "texture.": picture,
    "distractors.": picture,
    "task.": start,
}


def measure(world: World, kind: Callable[[World], Array], values: dict[str, float]) -> Array:
    world.reset(Draw(seed=5, values=values))
    return kind(world)


def changed(parameter: Parameter) -> float:
    field = parameter.name.rsplit(".", 1)[1]
    if parameter.name in VALUES:
        return VALUES[parameter.name]
    if parameter.name.startswith("servo.") and field in VALUES:
        return VALUES[field]
    return parameter.high if parameter.high != parameter.nominal else parameter.low


def context(world: World, name: str) -> dict[str, float]:
    joint, _, field = name.rpartition(".")
    if name in CONTEXT:
        return dict(CONTEXT[name])
    if name.startswith("servo.") and field in CONTEXT:
        return {
            other if "." in other else f"{joint}.{other}": value for other, value in CONTEXT[field].items()
        }
    return {}


def test_every_parameter_changes_something(world: World) -> None:
    dead = []
    bases: dict[tuple[object, ...], Array] = {}
    for name, parameter in world.parameters.items():
        value = changed(parameter)
        assert value != parameter.nominal, f"{name} has no other value to try"
        kind = next(measure for prefix, measure in MEASURES.items() if name.startswith(prefix))
        base = context(world, name)
        key = (kind, *sorted(base.items()))
        if key not in bases:
            bases[key] = measure(world, kind, base)
        before, after = bases[key], measure(world, kind, base | {name: value})
        if before.shape == after.shape and not np.abs(after - before).max() > 1e-7:
            dead.append(name)
    assert not dead, f"{len(dead)} parameters change nothing: {', '.join(dead)}"


def test_what_changes_pictures_changes_nothing_else(world: World) -> None:
    looks = {name: changed(p) for name, p in world.parameters.items() if p.visual}
    assert len(looks) > 20
    for kind in (readings, start):
        assert np.array_equal(measure(world, kind, {}), measure(world, kind, looks))
    idle = unseen(world.parameters)
    assert {name for name in looks if idle[name].randomized} == set()
    assert all(idle[name] == p for name, p in world.parameters.items() if not p.visual)


def test_default_ranges_contain_the_nominal_value(world: World) -> None:
    for parameter in world.parameters.values():
        assert parameter.low <= parameter.nominal <= parameter.high, parameter
        assert parameter.description, parameter.name
