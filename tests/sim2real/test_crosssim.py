"""The MuJoCo world: motion against Bullet's, contacts that keep their width, and what it refuses."""

import builtins
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.objects import ObjectSpec, Pose
from sim2real.robot import Robot
from sim2real.simulation.crosssim.world import MujocoWorld
from sim2real.simulation.world import World
from sim2real.task import Scene, Task
from sim2real.tasks.registry import load_task


def _wave(robot: Robot, time: float, rng: np.random.Generator) -> np.ndarray:
    size = np.array([0.6, 0.4, 0.4, 0.4, 0.6, 0.3]) * min(time, 1.0)
    phase, rate = rng.uniform(0, 6, robot.n), rng.uniform(0.2, 0.7, robot.n)
    wave = robot.home + size * np.sin(2 * np.pi * rate * time + phase)
    return np.clip(wave, robot.lower + 0.02, robot.upper - 0.02)


def test_an_arm_moves_as_in_bullet() -> None:
    robot = Robot.load("so101")
    with World(robot) as bullet, MujocoWorld(robot) as mujoco:
        bullet.reset(position=robot.home)
        mujoco.reset(position=robot.home)
        apart = []
        for k in range(500):
            goal = _wave(robot, k / 100, np.random.default_rng(3))
            bullet.advance(goal, 3)
            mujoco.advance(goal, 10)
            apart.append(np.degrees(bullet.position - mujoco.position))
    apart_by = np.sqrt(np.mean(np.square(apart), axis=0))
    assert np.ptp(apart, axis=0).max() > 0.0, "two engines are never equal to the bit"
    assert apart_by.max() < 0.25, apart_by


def test_play_lets_a_link_move_behind_its_encoder() -> None:
    robot = Robot.load("so101")
    play = 0.04
    with MujocoWorld(robot, nominal={"servo.wrist_flex.backlash": play}) as world:
        world.reset(position=robot.home)
        gap = []
        for goal in (robot.home + 0.2, robot.home - 0.2):
            world.advance(np.clip(goal, robot.lower, robot.upper), 1500)
            gap.append((world.position - world.sensed_position)[3])
    # It hangs to one side of its play, whichever way the motor came.
    assert abs(gap[0]) == pytest.approx(play / 2, rel=0.1) and abs(gap[1]) == pytest.approx(play / 2, rel=0.1)


class _Between(Task):
    """A cube of 16 g to be held."""

    name = "between"
    objects = (ObjectSpec("cube", "cube", 0.025, "red", 0.016),)


def test_a_light_cube_between_fingers_keeps_its_width() -> None:
    """What MuJoCo's defaults do not do: there the fingers meet inside it."""
    robot = Robot.load("so101")
    with MujocoWorld(robot, _Between()) as world:
        mujoco, model, data = world._mujoco, world.model, world.data
        at, _ = world._of["cube"]
        world.place(Scene(np.zeros(3), {"cube": Pose(0.25, 0.0)}))
        # Two boards of which one is pushed at the other with 30 N, the cube between them.
        xml = f"""<mujoco><option timestep="{model.opt.timestep}" gravity="0 0 0" cone="elliptic" impratio="10"
            integrator="implicitfast"/><worldbody>
          <geom name="wall" type="box" size="0.01 0.05 0.05" pos="-0.0225 0 0"/>
          <body name="board" pos="0.0225 0 0"><joint name="slide" type="slide" axis="1 0 0"/>
            <geom name="board" type="box" size="0.01 0.05 0.05" mass="0.1"/></body>
          <body name="cube"><freejoint/>
            <geom name="cube" type="box" size="0.0125 0.0125 0.0125" mass="0.016" {{}}/></body>
          </worldbody></mujoco>"""
        index = next(g for g in range(model.ngeom) if model.geom(g).name == "object.cube.0")
        soft = " ".join(map(repr, model.geom_solref[index].tolist()))
        imp = " ".join(map(repr, model.geom_solimp[index].tolist()))
        widths = {}
        for name, options in {"ours": f'solref="{soft}" solimp="{imp}" solmix="1000"', "default": ""}.items():
            squeezed = mujoco.MjModel.from_xml_string(xml.replace("{}", options))
            state = mujoco.MjData(squeezed)
            state.qfrc_applied[0] = -30.0
            for _ in range(1000):
                mujoco.mj_step(squeezed, state)
            widths[name] = 0.025 + float(state.qpos[0])
        assert widths["ours"] == pytest.approx(0.025, abs=4e-4), widths
        assert widths["default"] < 0.020, widths
        assert data.qpos[at + 2] == pytest.approx(0.0125, abs=1e-4)


def test_the_gripper_holds_a_light_cube_at_its_width() -> None:
    """The arm's own fingers, closed on a cube in the air with the torque that they have."""
    robot = Robot.load("so101")
    task = load_task("lift", robot.n)
    with MujocoWorld(robot, task, nominal={"object.cube.mass": 0.016}) as world:
        world.reset(position=robot.home)
        goal = robot.home.copy()
        world.advance(goal, 300)
        truth = world.truth()
        # Between the fingers, as if somebody had put it there.
        world.place(Scene(np.zeros(3), {"cube": Pose(0.25, 0.0)}))
        at, dof = world._of["cube"]
        world.model.opt.gravity[:] = 0.0
        world.data.qpos[at : at + 3] = truth.tool_position
        from scipy.spatial.transform import Rotation

        x, y, z, w = Rotation.from_matrix(truth.tool_rotation).as_quat()
        world.data.qpos[at + 3 : at + 7] = w, x, y, z
        world.data.qvel[dof : dof + 6] = 0.0
        goal[5] = robot.lower[5]
        world.advance(goal, 1500)
        state = world.truth().objects["cube"]
        assert state.grasped
        depth = max(-float(world.data.contact[k].dist) for k in range(world.data.ncon))
        assert depth < 4e-4, f"a finger is {1000 * depth:.2f} mm inside the cube"


def test_objects_lie_still_where_they_are_put() -> None:
    robot = Robot.load("so101")
    task = load_task("push", robot.n)
    with MujocoWorld(robot, task) as world:
        world.reset(position=robot.home)
        world.place(
            Scene(np.array([0.2, 0.1, 0.0125]), {"cube": Pose(0.22, -0.05, 0.3), "mark": Pose(0.2, 0.1)})
        )
        world.advance(robot.home, 1000)
        cube = world.truth().objects["cube"]
        assert cube.position == pytest.approx([0.22, -0.05, 0.0125], abs=3e-4)
        assert np.arctan2(cube.rotation[1, 0], cube.rotation[0, 0]) == pytest.approx(0.3, abs=2e-3)
        assert cube.touches == {"table"}
        world.place(Scene(np.zeros(3)))
        assert not world.states()


class _Table(Task):
    """One object of every kind that moves."""

    name = "table"
    objects = (
        ObjectSpec("cube", "cube", 0.025, "red", 0.02),
        ObjectSpec("bar", "block", (0.08, 0.02, 0.03), "blue", 0.03),
        ObjectSpec("can", "cylinder", (0.015, 0.04), "green", 0.03),
        ObjectSpec("ball", "ball", 0.015, "yellow", 0.01),
        ObjectSpec("bowl", "bowl", (0.05, 0.03), "orange", 0.05),
        ObjectSpec("crate", "box", (0.12, 0.08, 0.03), "purple", 0.08),
    )


def test_every_kind_of_object_rests_as_it_is_built() -> None:
    robot = Robot.load("so101")
    poses = {
        "bar": Pose(0.30, 0.10, 0.4),
        "can": Pose(0.30, 0.0),
        "ball": Pose(0.30, -0.10),
        "bowl": Pose(0.18, 0.12),
        "crate": Pose(0.18, -0.12, 0.7),
        # In the bowl.
        "cube": Pose(0.18, 0.12, 0.0, 0.006),
    }
    with MujocoWorld(robot, _Table()) as world:
        world.reset(position=robot.home)
        world.place(Scene(np.zeros(3), poses))
        world.advance(robot.home, 1500)
        found = world.truth().objects
        for name, pose in poses.items():
            state = found[name]
            assert np.hypot(*(state.position[:2] - pose.xy)) < 1.5e-3, name
            assert state.rotation[2, 2] > 0.999 or name == "ball", f"{name} has fallen over"
            if name != "cube":
                assert state.position[2] == pytest.approx(state.spec.rest, abs=5e-4), name
        assert found["cube"].touches == {"bowl"} and found["cube"].position[2] > 0.0145
        assert found["bowl"].touches == {"cube", "table"} and found["ball"].touches == {"table"}


def test_other_robots_are_carried_over() -> None:
    for name in ("so100", "koch"):
        robot = Robot.load(name)
        with MujocoWorld(robot) as world:
            world.reset(position=robot.home)
            world.advance(robot.home, 500)
            assert np.abs(world.position - robot.home).max() < 0.1


def test_what_it_refuses_names_the_nearest() -> None:
    with pytest.raises(UserError, match="servo.gripper.offset"):
        MujocoWorld("so101", nominal={"servo.gripper.ofset": 0.1})
    with pytest.raises(UserError, match="cannot be"):
        MujocoWorld("so101", nominal={"servo.gripper.backlash": -1.0})
    with MujocoWorld("so101", load_task("lift", 6)) as world:
        with pytest.raises(UserError, match="cube"):
            world.place(Scene(np.zeros(3), {"cub": Pose(0.2, 0.0)}))
        with pytest.raises(UserError, match="finite"):
            world.advance(np.full(6, np.nan), 1)


def test_without_mujoco_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "mujoco":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install 'sim2real-transfer\[crosssim\]'"):
        MujocoWorld("so101")


def test_collision_meshes_are_refused(tmp_path: Any) -> None:
    robot = Robot.load("so101")
    urdf = tmp_path / "arm.urdf"
    text = robot.urdf.read_text().replace('<box size="0.096 0.112 0.012"/>', '<mesh filename="a.stl"/>', 1)
    urdf.write_text(text)
    with pytest.raises(UserError, match="primitive shapes only"):
        MujocoWorld(replace(robot, urdf=urdf))
