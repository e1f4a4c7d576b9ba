"""Calibration by hand on emulated servos of both families."""

import os
import signal

import numpy as np
import pytest

from hardware.commissioning.calibrate import HandCalibration, Ranges, store
from hardware.emulator.hand import HandPath
from hardware.emulator.stepped import SteppedArm
from sim2real.errors import BusError, HardwareError, UserError

YES = np.ones(1, dtype=bool)


def follow(ticks: list[int]) -> Ranges:
    ranges = Ranges(1)
    for tick in ticks:
        ranges.add(np.array([tick]), YES)
    return ranges


def test_ranges_follow_a_joint():
    ranges = follow([2000, 2000, 2010, 2050, 2000, 1900, 1890, 1895, 1895])
    assert (ranges.low[0], ranges.high[0], ranges.present[0]) == (1890 + 5, 2010, 1895), (
        "middle of each three"
    )
    ranges = follow([2000, 2000, 2000, 2100, 2100, 1900, 1900])
    assert (ranges.low[0], ranges.high[0], ranges.span[0]) == (1900, 2100, 200)


def test_ranges_across_the_encoders_zero():
    up = [4000, 4000, 4090, 10, 100, 100, 100]
    ranges = follow(up)
    assert (ranges.low[0], ranges.high[0]) == (4000, 4096 + 100)
    down = follow([100, 100, 10, 4090, 4000, 4000, 4000])
    assert (down.low[0], down.high[0], down.span[0]) == (-96, 100, 196)


@pytest.mark.parametrize("glitch", [0, 4095, 2047, 300])
def test_one_damaged_reading_leaves_no_trace(glitch):
    ranges = follow([1000, 1000, 1001, glitch, 1002, 1003, 1003, 1003])
    assert (ranges.low[0], ranges.high[0]) == (1000, 1003)


def test_readings_that_do_not_arrive_change_nothing():
    ranges = Ranges(2)
    for k in range(10):
        ranges.add(np.array([1000 + k, 7]), np.array([True, False]))
    assert not ranges.known and ranges.span.tolist() == [7.0, 0.0]


class Bench(SteppedArm):
    """An arm whose servos store other offsets and limits than its calibration says, moved by hand."""

    def __init__(self, robot: str = "so101", **offsets: int) -> None:
        super().__init__(robot)
        for name, offset in offsets.items():
            servo = self.servos[self.robot.joint_names.index(name)]
            servo._put("homing_offset", offset)
            servo.stored = bytes(servo.memory[:40])
        self.hand = HandCalibration(self.robot, self.bus)

    def stored(self) -> list[tuple[int, ...]]:
        names = ("homing_offset", "min_position_limit", "max_position_limit")
        return [tuple(servo.get(name) for name in names) for servo in self.servos]

    def read(self, seconds: float) -> None:
        for _ in range(round(seconds * 50)):
            start = self.clock.now()
            self.hand.read()
            self.clock.sleep_until(start + 0.02)

    def start(self, middle: np.ndarray | None = None) -> None:
        self.hand.begin()
        self.plant.hand.follow(
            HandPath.through([(t, np.zeros(self.robot.n) if middle is None else middle) for t in (0.4, 0.6)])
        )
        self.read(0.7)
        self.hand.mark_middle()

    def sweep(self, share: float = 1.0, only: int | None = None) -> None:
        """Every joint (or one) to both ends of its calibrated range, times `share`, and back."""
        lower, upper = self.calibration.limits
        points, time = [], 0.0
        for i in range(self.robot.n) if only is None else [only]:
            for target in (lower[i], upper[i], 0.0):
                pose = [None] * self.robot.n
                pose[i] = float(target) * share
                # A stop is leant against for a moment.
                points += [(time + 0.6, pose), (time + 0.7, pose)]
                time += 0.7
        self.plant.hand.follow(HandPath.through(points))
        self.read(time + 0.2)


def test_the_ranges_and_zeros_of_the_arm_are_found():
    bench = Bench()
    truth = bench.calibration
    before = bench.stored()
    bench.start()
    bench.sweep()
    found = bench.hand.result()
    assert bench.stored() == before, "nothing is written before everything is known"
    whole = bench.hand.whole_turn
    assert np.array(bench.robot.joint_names)[whole].tolist() == ["wrist_roll"]
    np.testing.assert_allclose((found.range_min + found.range_max)[~whole] / 2, 2048, atol=1)
    spans, true = found.range_max - found.range_min, truth.range_max - truth.range_min
    np.testing.assert_allclose(spans[~whole], true[~whole], atol=2)
    assert (found.range_min[4], found.range_max[4]) == (0, 4095)
    store(bench.robot, bench.bus, found)
    # The angles that the servos now report are the true ones, wherever the arm is.
    pose = np.array([0.4, -0.9, 0.7, 0.2, -1.1, 0.5])
    bench.plant.position[:] = pose
    ticks = [servo._present() for servo in bench.servos]
    np.testing.assert_allclose(found.ticks_to_radians(ticks), pose, atol=0.004)
    for servo in bench.servos:
        servo.power_up()
    assert bench.stored() == [
        (e["homing_offset"], e["range_min"], e["range_max"]) for e in found.table().values()
    ]


def test_servos_that_count_from_elsewhere():
    """Offsets as servos have them from the factory or from another arm: the result is the same arm."""
    plain, odd = Bench(), Bench(shoulder_pan=0, shoulder_lift=2047, elbow_flex=-2047, gripper=-1500)
    results = []
    for bench in (plain, odd):
        bench.start()
        bench.sweep()
        results.append(bench.hand.result())
    one, other = results
    turn = np.abs(one.homing_offset - other.homing_offset) % 4096
    assert (np.minimum(turn, 4096 - turn) <= 1).all()
    np.testing.assert_allclose(one.range_min, other.range_min, atol=1)


@pytest.mark.parametrize("name", ["koch", "openmanipulator_x", "so100"])
def test_arms_of_every_family(name):
    bench = Bench(name)
    bench.start()
    bench.sweep()
    found = bench.hand.result()
    store(bench.robot, bench.bus, found)
    assert bench.stored() == [
        (e["homing_offset"], e["range_min"], e["range_max"]) for e in found.table().values()
    ]
    pose = np.clip(np.linspace(-0.5, 0.4, bench.robot.n), *bench.calibration.limits)
    bench.plant.position[:] = pose
    ticks = [servo._present() for servo in bench.servos]
    np.testing.assert_allclose(found.ticks_to_radians(ticks), pose, atol=0.006)


def test_a_joint_that_turns_all_round_has_its_zero_in_the_middle_pose():
    bench = Bench()
    middle = np.array([0.1, -0.1, 0.2, 0.0, 0.6, 0.3])
    bench.start(middle)
    bench.sweep()
    found = bench.hand.result()
    bench.plant.position[:] = middle
    store(bench.robot, bench.bus, found)
    assert found.ticks_to_radians([servo._present() for servo in bench.servos])[4] == pytest.approx(
        0, abs=2e-3
    )


def test_joints_that_were_not_moved_are_named():
    bench = Bench()
    bench.start()
    bench.sweep(only=2)
    assert [text.split(" ")[0] for text in bench.hand.lacking()] == [
        "shoulder_pan", "shoulder_lift", "wrist_flex", "gripper",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"not moved to both stops: shoulder_pan \(0 of about 2503 ticks\)"):
        bench.hand.result()


def test_the_arm_is_limp_throughout():
    bench = Bench()
    bench.arm.identify()
    bench.arm.configure()
    bench.arm.enable()
    bench.hand.begin()
    assert [servo.get("torque_enable") for servo in bench.servos] == [0] * 6


def test_a_servo_that_falls_silent_ends_it():
    bench = Bench()
    bench.start()
    before = bench.stored()
    bench.line.servos.pop(3)
    with pytest.raises(BusError, match="no answer from wrist_flex for 1 s.*nothing was written"):
        bench.read(2.0)
    assert bench.stored()[:3] == before[:3]


@pytest.mark.parametrize("joint", [0, 3, 5])
def test_all_servos_or_none(joint):
    """One servo does not take its values: the others get back what they stored."""
    bench = Bench()
    bench.start()
    bench.sweep()
    found = bench.hand.result()
    before = bench.stored()
    id = joint + 1

    def overhear(data: bytes, now: float) -> bytes:
        refused = data[2] == id and data[4] == 3 and data[5] == 11  # a write to its upper limit
        return b"" if refused else data

    bench.line.overhear = overhear
    with pytest.raises(HardwareError, match="the servos keep what they stored before"):
        store(bench.robot, bench.bus, found)
    assert bench.stored() == before


def test_ctrl_c_while_writing_waits_until_all_is_written():
    bench = Bench()
    bench.start()
    bench.sweep()
    found = bench.hand.result()
    sent = []

    def overhear(data: bytes, now: float) -> bytes:
        if data[4] == 3 and data[5] == 9 and not sent:
            sent.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return data

    bench.line.overhear = overhear
    with pytest.raises(KeyboardInterrupt):
        store(bench.robot, bench.bus, found)
    assert bench.stored() == [
        (e["homing_offset"], e["range_min"], e["range_max"]) for e in found.table().values()
    ]
