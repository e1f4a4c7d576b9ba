"""The emulated arm with real physics behind it, on a stepped clock: the driver's bytes move a Bullet arm."""

import numpy as np
import pytest

from hardware.emulator.assembly import build_servos, emulated_calibration
from hardware.emulator.deviations import DEVIATIONS, default_twin
from hardware.emulator.plant import IdealPlant
from hardware.emulator.world_plant import WorldPlant, stage_task
from sim2real.errors import UserError
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task

from .conftest import ArmRig


def _rig(seed: int = 0, task: str | None = None, **rest: object) -> ArmRig:
    robot = Robot.load("so101")
    plant = WorldPlant(
        robot,
        emulated_calibration(robot),
        task=stage_task(task, robot),
        seed=seed,
        **rest,  # type: ignore[arg-type]
    )
    return ArmRig(plant)


@pytest.fixture(scope="module")
def world_rig() -> ArmRig:
    """One world for the tests that leave it usable for the next."""
    rig = _rig()
    rig.ready()
    return rig


def _go(rig: ArmRig, goal: np.ndarray, seconds: float) -> None:
    start = rig.arm.observe().position.copy()
    steps = round(seconds * 100)
    for k in range(steps):
        begin = rig.clock.now()
        rig.arm.observe()
        rig.arm.command(start + (goal - start) * min(1.0, (k + 1) / (0.7 * steps)))
        rig.clock.sleep_until(begin + 0.01)


def test_commands_move_the_arm_and_it_is_read_back(world_rig: ArmRig) -> None:
    _go(world_rig, world_rig.robot.home, 2.0)
    state = world_rig.arm.observe()
    assert state.valid.all()
    # P control sags under the arm's weight, but by no more than a real servo does.
    np.testing.assert_allclose(state.position, world_rig.robot.home, atol=np.radians(3))
    # Encoders have offsets and backlash: what is read is near the truth, and not the truth.
    true = world_rig.plant.world.position
    assert 0.002 < np.abs(state.position - true).max() < np.radians(2.5)


def test_without_torque_the_arm_falls(world_rig: ArmRig) -> None:
    _go(world_rig, world_rig.robot.home, 1.5)
    before = world_rig.plant.world.truth().tool_position[2]
    world_rig.arm.relax()
    world_rig.run(1.5)
    assert world_rig.plant.world.truth().tool_position[2] < before - 0.03
    world_rig.arm.enable()


def test_arming_in_mid_air_and_at_rest_moves_nothing(world_rig: ArmRig) -> None:
    world_rig.arm.relax()
    world_rig.run(1.5)
    before = world_rig.plant.world.position
    world_rig.arm.enable()
    assert np.degrees(np.abs(world_rig.plant.world.position - before)).max() < 1.5


def test_torque_limit_limits_the_motor(world_rig: ArmRig) -> None:
    world_rig.bus.write(1, "torque_limit", 100, verify=True)
    goal = world_rig.plant.position.copy()
    goal[0] += 0.6
    world_rig.arm.command(goal)
    peak = 0.0
    for _ in range(30):
        world_rig.run(0.01)
        peak = max(peak, abs(float(world_rig.arm.observe().load[0])))
    assert 0.05 < peak <= 0.1001
    world_rig.bus.write(1, "torque_limit", 1000, verify=True)


def test_a_new_episode_moves_objects_not_the_arm(world_rig: ArmRig) -> None:
    before = world_rig.plant.state()
    world_rig.plant.new_episode()
    after = world_rig.plant.state()
    assert after["joint_position"] == before["joint_position"]
    assert after["time"] == before["time"]
    assert np.linalg.norm(np.subtract(after["objects"]["cube"], before["objects"]["cube"])) > 0.005
    assert after["objects"]["mark"] != before["objects"]["mark"]


def test_episodes_depend_on_seed_and_number_alone() -> None:
    places = []
    for seconds, seed in ((0.0, 5), (0.3, 5), (0.0, 6)):
        rig = _rig(seed=seed)
        for _ in range(2):
            rig.clock.advance(seconds)
            rig.line.advance(rig.clock.now())
            rig.plant.new_episode()
        places.append(rig.plant.state()["objects"]["cube"])
        rig.plant.close()
    assert places[0] == places[1] != places[2]


def test_success_must_be_held(world_rig: ArmRig) -> None:
    plant, reach = world_rig.plant, load_task("reach")
    _go(world_rig, world_rig.robot.home, 1.5)
    tool = plant.world.truth().tool_position
    plant.new_episode()
    assert not plant.succeeded(reach, tool)
    world_rig.run(0.3)
    assert not plant.succeeded(reach, tool)
    world_rig.run(0.4)
    assert plant.succeeded(reach, tool)
    assert not plant.succeeded(reach, tool + 0.1)


def test_the_arm_differs_from_the_nominal_one_as_documented(world_rig: ArmRig) -> None:
    nominal = {name: p for name, p in _nominal_parameters().items()}
    twin = default_twin(nominal)
    assert twin == world_rig.plant.twin
    for pattern in DEVIATIONS:
        changed = [name for name in twin if name.split(".")[-1] == pattern.split(".")[-1]]
        assert changed and any(twin[name] != nominal[name].nominal for name in changed), pattern
    offsets = [value for name, value in twin.items() if name.endswith(".offset")]
    assert 0 < max(np.abs(offsets)) <= np.radians(1)


def _nominal_parameters() -> dict:
    from sim2real.simulation.world import World

    robot = Robot.load("so101")
    with World(robot, stage_task(None, robot)) as world:
        return dict(world.parameters)


def test_a_twin_replaces_the_deviations() -> None:
    rig = _rig(twin={"servo.gripper.kp": 2.0})
    assert rig.plant.world.values["servo.gripper.kp"] == 2.0
    assert rig.plant.world.values["servo.elbow_flex.offset"] == 0.0
    rig.plant.close()
    with pytest.raises(UserError, match=r"servo\.griper\.kp"):
        _rig(twin={"servo.griper.kp": 2.0})


def test_a_stall_of_the_machine_is_skipped(world_rig: ArmRig) -> None:
    before = world_rig.plant.world.time
    world_rig.clock.advance(60.0)
    world_rig.arm.observe()
    assert 0.2 < world_rig.plant.world.time - before < 0.5


def test_what_was_skipped_is_told() -> None:
    rig = _rig()
    rig.ready()
    rig.plant.new_episode()
    assert rig.plant.state()["episodes"][-1] == {"episode": 1, "stage": "untouched", "behind": 0.0}
    rig.clock.advance(60.0)
    rig.arm.observe()
    assert 59.0 < rig.plant.state()["episodes"][-1]["behind"] < 60.0


def test_commands_come_as_late_as_the_twin_says() -> None:
    turned = {}
    for delay in (0.0, 0.1):
        rig = _rig(twin={"command.delay": delay, "command.jitter": 0.02 * (delay > 0)})
        rig.ready()
        goal = rig.arm.observe().position.copy()
        goal[0] += 0.5
        rig.arm.command(goal)
        begin, start = rig.clock.now(), rig.plant.world.position[0]
        while rig.plant.world.position[0] - start < 0.01:
            rig.arm.observe()
            rig.clock.sleep_until(rig.clock.now() + 0.002)
        turned[delay] = rig.clock.now() - begin
    assert 0.09 < turned[0.1] - turned[0.0] < 0.14


def test_the_other_engine_is_an_arm_to_the_driver() -> None:
    rig = _rig(task="lift", engine="mujoco", twin={"servo.elbow_flex.backlash": 0.02})
    rig.ready()
    _go(rig, rig.robot.home, 2.0)
    state = rig.arm.observe()
    np.testing.assert_allclose(state.position, rig.robot.home, atol=np.radians(3))
    seen = rig.plant.pose()
    assert np.isfinite(seen).all() and seen[: rig.robot.n] == pytest.approx(rig.plant.world.position)
    before = rig.plant.world.truth().tool_position[2]
    rig.arm.relax()
    rig.run(1.5)
    assert rig.plant.world.truth().tool_position[2] < before - 0.03, "without torque it falls"


@pytest.mark.slow
@pytest.mark.realtime
def test_a_reality_is_emulated_as_a_program() -> None:
    import json
    import urllib.request

    from hardware.emulator.launch import start_emulator
    from sim2real.camera import CameraModel, load_cameras

    camera = CameraModel.looking_at((0.66, 0.03, 0.44), (0.22, 0, 0), width=320, height=240, name="front")
    with start_emulator(
        "so101", task="lift", twin={"servo.gripper.offset": 0.14}, engine="mujoco", episode=7,
        cameras={"front": camera.table()},
    ) as arm:  # fmt: skip
        known = load_cameras(arm.cameras_file)["front"]
        assert known.width == 320 and known.camera_to_base == pytest.approx(camera.camera_to_base)
        with urllib.request.urlopen(f"{arm.control_url}/front.jpg", timeout=30) as picture:
            assert picture.read()[:2] == b"\xff\xd8"
        request = urllib.request.Request(f"{arm.control_url}/episode", method="POST", data=b"")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.loads(answer.read())["episode"] == 7
    with pytest.raises(UserError, match="did you mean 'mujoco'"):
        start_emulator("so101", engine="mujoko")


def test_calibration_is_one_that_a_real_arm_could_have() -> None:
    robot = Robot.load("so101")
    calibration = emulated_calibration(robot)
    lower, upper = calibration.limits
    assert (lower <= robot.lower + 0.01).all() and (upper >= robot.upper - 0.01).all()
    assert len(set(calibration.homing_offset.tolist())) == robot.n


def test_robots_of_another_protocol_or_rate_are_refused() -> None:
    from dataclasses import replace

    so101 = Robot.load("so101")
    for change, message in (
        ({"protocol": "morse"}, "speaks the protocol 'morse'"),
        ({"baud": 9600}, "at 9600 baud"),
    ):
        with pytest.raises(UserError, match=message):
            build_servos(replace(so101, **change), IdealPlant(6), emulated_calibration(so101))
