"""Dynamixel arms calibrated as LeRobot does it: offsets of any size, ranges across the encoder's zero, lost turns."""

import struct
from typing import Any, cast

import numpy as np
import pytest

from hardware.arm.identity import counted_beyond
from hardware.arm.serial_arm import SerialArm
from hardware.commissioning.calibrate import HandCalibration, store
from hardware.emulator.dynamixel.servo import DynamixelServo
from hardware.emulator.hand import HandPath
from hardware.emulator.stepped import SteppedArm
from hardware.runtime.safety.watchdog import Takeover
from hardware.servos.dynamixel.registers import TICK
from hardware.servos.family import DYNAMIXEL, FEETECH
from sim2real.calibration import Calibration
from sim2real.errors import UserError

from .test_dynamixel_clients import Served, Vendor, served  # noqa: F401

POSITION, EXTENDED = 3, 4

# joint: offset, range; LeRobot homes every joint at 2047 and stores a whole turn for those that it does not record.
LEROBOT = {
    "shoulder_pan": (-321, 0, 4095),
    "shoulder_lift": (1500, 1180, 2900),  # too large an offset for position mode
    "elbow_flex": (-6953, 1010, 3080),  # homed when the servo had turned twice
    "wrist_flex": (900, 400, 2500),  # crosses the encoder's zero
    "wrist_roll": (0, 0, 4095),
    "gripper": (-300, 1600, 2790),  # position mode will do
}


def lerobot_table(**changes: tuple[int, int, int]) -> dict[str, dict[str, int]]:
    keys = ("homing_offset", "range_min", "range_max")
    return {
        name: {"id": i + 1, "drive_mode": 0, **dict(zip(keys, values))}
        for i, (name, values) in enumerate((LEROBOT | changes).items())
    }


@pytest.fixture
def rig() -> SteppedArm:
    calibration = Calibration.create(lerobot_table(), SteppedArm("koch").robot, "LeRobot's")
    return SteppedArm("koch", calibration=calibration)


def servo(rig: SteppedArm, joint: int) -> DynamixelServo:
    return cast(DynamixelServo, rig.servos[joint])


def modes(rig: SteppedArm) -> list[int]:
    return [one.get("operating_mode") for one in rig.servos]


def test_the_mode_follows_from_offset_and_range() -> None:
    assert DYNAMIXEL.mode_for(0, 0, 4095) == POSITION
    assert DYNAMIXEL.mode_for(1, 0, 4095) == DYNAMIXEL.mode_for(-1, 0, 4095) == EXTENDED
    assert DYNAMIXEL.mode_for(1024, 1024, 4095) == POSITION
    assert DYNAMIXEL.mode_for(1025, 1500, 4000) == DYNAMIXEL.mode_for(-1025, 100, 3000) == EXTENDED
    assert DYNAMIXEL.mode_for(-1000, 0, 3095) == POSITION and DYNAMIXEL.mode_for(-1000, 0, 3096) == EXTENDED
    assert FEETECH.mode_for(-2047, 0, 4095) == FEETECH.position_mode


def test_a_file_of_lerobots_is_used_as_it_is(rig: SteppedArm) -> None:
    arm = rig.ready()
    assert modes(rig) == [EXTENDED] * 4 + [POSITION] * 2
    np.testing.assert_allclose(arm.observe().position, rig.plant.position, atol=0.51 * TICK)
    sent = arm.command(rig.robot.home)
    np.testing.assert_allclose(sent, rig.robot.home, atol=0.51 * TICK)
    rig.run(2.5, rig.robot.home)
    np.testing.assert_allclose(rig.plant.position, rig.robot.home, atol=2 * TICK)
    np.testing.assert_allclose(arm.observe().position, rig.robot.home, atol=2 * TICK)
    # The gains belong to the mode, and come back after it has changed.
    assert servo(rig, 2).get("p_coefficient") == 1500 and servo(rig, 2).get("d_coefficient") == 600


def test_without_a_file_the_servos_say_the_same(rig: SteppedArm) -> None:
    arm = SerialArm(rig.robot, rig.bus, None, clock=rig.clock)
    arm.identify()
    assert arm.calibration.table() == rig.calibration.table()
    arm.configure()
    assert modes(rig) == [EXTENDED] * 4 + [POSITION] * 2
    np.testing.assert_allclose(arm.observe().position, rig.plant.position, atol=0.51 * TICK)


@pytest.mark.parametrize("joint, turns", [(0, 0), (1, -1), (2, 3), (3, -2)])
def test_the_goal_on_the_wire_has_the_turns_that_the_servo_counts(
    rig: SteppedArm, joint: int, turns: int
) -> None:
    servo(rig, joint)._turns += turns
    arm = rig.ready()
    raw = servo(rig, joint)._present()
    requests: list[bytes] = []
    rig.line.overhear = lambda data, now: requests.append(bytes(data)) or data  # type: ignore[func-returns-value]
    position = arm.observe().position
    sent = arm.command(position)
    packet = requests[-1]
    # FF FF FD 00, all, length, sync write, address 116, four bytes; then per servo its ID and the goal.
    assert packet[:12] == bytes.fromhex("fffffd00 fe 2500 83 7400 0400")
    goals = {packet[12 + 5 * i]: struct.unpack_from("<i", packet, 13 + 5 * i)[0] for i in range(6)}
    assert goals[joint + 1] == raw
    np.testing.assert_allclose(sent, position, atol=0.51 * TICK)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_turns_lost_in_a_restart_move_nothing(rig: SteppedArm, share: float) -> None:
    """The joint is calibrated across its encoder's zero: after a restart it may count from the other side."""
    arm = rig.ready()
    lower, upper = rig.robot.lower, rig.robot.upper
    pose = lower + share * (upper - lower)
    rig.run(3.0, pose)
    before = rig.plant.position.copy()
    np.testing.assert_allclose(before, pose, atol=2 * TICK)
    counted = [servo(rig, i)._present() for i in range(6)]
    for i in range(6):
        servo(rig, i).power_up()
    lost = [servo(rig, i)._present() - counted[i] for i in range(6)]
    assert all(turn % 4096 == 0 for turn in lost)
    arm.relax()
    arm.enable()
    np.testing.assert_allclose(rig.plant.position, before, atol=2 * TICK)
    np.testing.assert_allclose(arm.observe().position, before, atol=2 * TICK)
    np.testing.assert_allclose(arm.servo_goals(before), [servo(rig, i)._present() for i in range(6)], atol=2)
    target = lower + 0.5 * (upper - lower)
    peak = 0.0
    for _ in range(300):
        rig.run(0.01, target)
        peak = max(peak, float(np.abs(rig.plant.position).max()))
    np.testing.assert_allclose(rig.plant.position, target, atol=2 * TICK)
    assert peak < np.pi, "no joint took the long way round"


def test_some_restarts_do_lose_turns(rig: SteppedArm) -> None:
    """What the test above guards against does happen with this calibration."""
    arm = rig.ready()
    rig.run(3.0, rig.robot.lower + 0.02 * (rig.robot.upper - rig.robot.lower))
    before = [servo(rig, i)._present() for i in range(6)]
    servo(rig, 2).power_up()
    servo(rig, 3).power_up()
    after = [servo(rig, i)._present() for i in range(6)]
    assert after[3] - before[3] == 4096 and after[2] != before[2]
    # The limp arm does not believe the jump, and the loop ends the run; a new arming counts afresh.
    rig.run(0.1)
    assert not arm.observe().valid[3]


def test_a_restart_on_a_persons_word_counts_afresh(rig: SteppedArm) -> None:
    arm = rig.ready()
    rig.run(3.0, rig.robot.lower * 0.9)
    servo(rig, 3).trip(1 << 5)
    rig.run(0.05)
    assert arm.acknowledge() == ("wrist_flex",)
    arm.enable()
    np.testing.assert_allclose(arm.observe().position, rig.plant.position, atol=2 * TICK)


def test_a_servo_left_in_position_mode_is_read_all_the_same(rig: SteppedArm) -> None:
    """Before anything is configured: its large offset does not count yet, but is known."""
    arm = SerialArm(rig.robot, rig.bus, rig.calibration, clock=rig.clock)
    arm.identify()
    assert modes(rig) == [POSITION] * 6
    np.testing.assert_allclose(arm.observe().position, rig.plant.position, atol=0.51 * TICK)
    beyond = counted_beyond(rig.robot, rig.bus, rig.calibration, modes(rig))
    assert beyond[1] % 4096 == -1500 % 4096 and beyond[5] == 0


def test_a_mode_that_the_robots_file_asks_for_is_kept(rig: SteppedArm) -> None:
    """As LeRobot runs the gripper: in current-based position mode, where every offset counts too."""
    settings = {**rig.robot.servo_settings, "gripper": {"operating_mode": 5, "pwm_limit": 400}}
    object.__setattr__(rig.robot, "servo_settings", settings)
    servo(rig, 5)._put("homing_offset", -1700)
    table = lerobot_table(gripper=(-1700, 1600, 2790))
    rig.arm = SerialArm(rig.robot, rig.bus, Calibration.create(table, rig.robot), clock=rig.clock)
    servo(rig, 5).zero += 1400  # it is mounted elsewhere in the same measure
    arm = rig.ready()
    assert modes(rig)[5] == 5
    np.testing.assert_allclose(arm.observe().position, rig.plant.position, atol=2 * TICK)


def test_the_watchdog_process_lowers_it_on_the_same_turns(
    rig: SteppedArm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i, turns in enumerate((1, -2, 0, 3)):
        servo(rig, i)._turns += turns
    arm = rig.ready()
    last = rig.robot.rest + 0.3
    rig.run(1.0, last)
    monkeypatch.setattr("hardware.runtime.safety.watchdog.time.sleep", rig.clock.advance)
    points = [
        arm.servo_goals(last + share * (rig.robot.rest - last)).tolist() for share in np.linspace(0, 1, 20)
    ]
    said: list[str] = []
    assert Takeover(rig.port, arm.ids, said.append, arm.family).run(
        arm.servo_goals(last).tolist(), points, 0.05
    )
    np.testing.assert_allclose(rig.plant.position, rig.robot.rest, atol=0.02)


@pytest.mark.parametrize("shift", [0, 700, 1990, -1500])
def test_calibrating_by_hand_however_the_horns_are_mounted(shift: int) -> None:
    rig = SteppedArm("koch")
    for i in range(6):
        one = servo(rig, i)
        one.zero += shift
        one._put("homing_offset", 1300 if i % 2 else -200)
        one.power_up()
    hand = HandCalibration(rig.robot, rig.bus)
    hand.begin()

    def read(seconds: float) -> None:
        for _ in range(round(seconds * 50)):
            start = rig.clock.now()
            hand.read()
            rig.clock.sleep_until(start + 0.02)

    rig.plant.hand.follow(HandPath.through([(t, np.zeros(6)) for t in (0.4, 0.6)]))
    read(0.7)
    hand.mark_middle()
    lower, upper = rig.calibration.limits
    poses = [[*lower], [*lower], [*upper], [*upper], [0.0] * 6]
    rig.plant.hand.follow(HandPath.through([(1.0 + i, pose) for i, pose in enumerate(poses)]))
    read(6.5)
    found = hand.result()
    store(rig.robot, rig.bus, found)
    for i in range(6):
        servo(rig, i).power_up()
    rig.arm = SerialArm(rig.robot, rig.bus, found, clock=rig.clock)
    arm = rig.ready()
    pose = np.clip(np.linspace(-0.5, 0.4, 6), *rig.calibration.limits)
    rig.run(2.0, pose)
    np.testing.assert_allclose(rig.plant.position, pose, atol=0.006)
    np.testing.assert_allclose(arm.observe().position, pose, atol=2 * TICK)
    # LeRobot takes the file: its ranges lie within one turn.
    assert found.range_min.min() >= 0 and found.range_max.max() <= 4095


def test_a_feetech_servo_in_another_mode_is_still_refused() -> None:
    rig = SteppedArm("so101")
    rig.servos[2]._put("operating_mode", 3)
    with pytest.raises(UserError, match="operating mode 3, not in position mode"):
        rig.arm.identify()


def test_the_vendors_client_sees_the_same(served: Served) -> None:  # noqa: F811
    """Extended mode through a pty: what their client writes and reads is what our registers mean."""
    client = Vendor(served.pty.port)
    try:
        assert client.ask("write1ByteTxRx", 3, 11, EXTENDED) == (0, 0)
        assert client.ask("write4ByteTxRx", 3, 20, (-6953) & 0xFFFFFFFF) == (0, 0)
        present = signed(client.ask("read4ByteTxRx", 3, 132)[0])
        assert present == served.servos[2]._present() and present < -4096
        assert client.ask("write1ByteTxRx", 3, 64, 1) == (0, 0)
        # Beyond the stored limits of 0..4095, which do not bind in this mode.
        assert client.ask("write4ByteTxRx", 3, 116, (present - 30) & 0xFFFFFFFF) == (0, 0)
        assert signed(client.ask("read4ByteTxRx", 3, 116)[0]) == present - 30
        assert client.ask("write4ByteTxRx", 3, 116, 1_048_576) == (0, 4)
    finally:
        client.port.closePort()


def signed(value: Any) -> int:
    return int(struct.unpack("<i", struct.pack("<I", value))[0])
