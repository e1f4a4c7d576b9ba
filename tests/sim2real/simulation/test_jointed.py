"""Mechanisms in the world: stops, friction, springs, and resets to the bit."""

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.objects import ObjectSpec, Pose
from sim2real.predicates import And, Open, Pressed
from sim2real.robot import Robot
from sim2real.simulation.bullet import bullet
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.task import Scene
from sim2real.tasks.suite.spec import Region, SpecTask, TaskSpec

DRAWER = ObjectSpec("drawer", "drawer", (0.08, 0.07, 0.03), "red", 0.06)
BUTTON = ObjectSpec("button", "button", (0.016, 0.03), "blue", 0.02)
TASK = SpecTask(
    TaskSpec(
        id="both",
        family="joints",
        scene=(DRAWER, BUTTON),
        goal=And((Open("drawer"), Pressed("button"))),
        language=("open the drawer and press the button",),
        horizon=20.0,
        start={"drawer": Region((0.2, 0.22), (-0.9, -0.5)), "button": Region((0.2, 0.22), (0.3, 0.9))},
    )
)
ROBOT = Robot.load("so101")


def pushed(world: World, name: str, force: float, seconds: float = 0.4) -> float:
    """Where the joint is after a force on it, N or N·m, as a share of its way."""
    body = world.bodies.driven[[j.spec.name for j in world.bodies.driven].index(name)].body
    for _ in range(int(seconds * world.physics_rate)):
        bullet.setJointMotorControl2(
            body, 0, bullet.TORQUE_CONTROL, force=force, physicsClientId=world.client
        )
        world.advance(None, 1)
    return world.truth().objects[name].share


def test_friction_stops_and_springs() -> None:
    with World(ROBOT, TASK) as world:
        world.place(Scene(np.zeros(3), {"drawer": Pose(0.25, -0.15, joint=0.5), "button": Pose(0.2, 0.15)}))
        friction = world.values["object.drawer.joint_friction"]
        assert pushed(world, "drawer", 0.9 * friction) == pytest.approx(0.5, abs=0.01), "friction holds it"
        assert pushed(world, "drawer", 3.0 * friction) == pytest.approx(1.0, abs=0.01), "to the stop"
        assert world.truth().objects["drawer"].joint == pytest.approx(DRAWER.joint.travel, abs=2e-4)  # type: ignore[union-attr]
        assert pushed(world, "button", 0.8) > 0.1
        world.advance(None, 100)
        assert world.truth().objects["button"].share < 0.1, "it springs back"


def test_a_reset_is_the_draw_to_the_bit() -> None:
    def end(world: World, episode: int) -> tuple[object, ...]:
        done = rollout(world, expert, TASK.spec.draw(episode, ROBOT), privileged=True)
        states = world.truth().objects.values()
        return done.success, [(s.position.tobytes(), s.joint, s.joint_speed) for s in states]

    expert = TASK.expert(ROBOT)
    with World(ROBOT, TASK) as world:
        first, second = end(world, 0), end(world, 1)
        assert end(world, 0) == first
    with World(ROBOT, TASK) as world:
        assert end(world, 1) == second
    assert first[0]
    assert second[0]


def test_what_is_sensed_of_a_joint() -> None:
    with World(ROBOT, TASK) as world:
        world.place(
            Scene(np.zeros(3), {"drawer": Pose(0.25, -0.15, 0.3, joint=0.5), "button": Pose(0.2, 0.15)})
        )
        true = world.observe(privileged=True)
        assert true["object.drawer.joint"] == pytest.approx([0.5])
        assert true["object.drawer.yaw"] == pytest.approx([np.cos(0.3), np.sin(0.3)])
        said = [float(world.observe()["object.drawer.joint"][0]) for _ in range(20)]
        assert np.std(said) > 0.0
        assert np.mean(said) == pytest.approx(0.5, abs=0.02)


def test_no_camera_tells_where_a_joint_is() -> None:
    from hardware.cameras.detector import Detector

    with World(ROBOT, TASK) as world, pytest.raises(UserError, match="no camera tells"):
        Detector(world.camera(), TASK.objects)
