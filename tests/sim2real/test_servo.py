"""A closed-form check per term of the servo model, on one joint."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim2real.errors import UserError
from sim2real.model import servo
from sim2real.robot import Robot

DT = 1 / 300
INERTIA = 0.01
OFF = {
    name: 0.0
    for name in (
        "coulomb", "viscous", "stribeck", "load_motor", "load_external", "command_delay", "speed", "dead_band",
    )
}  # fmt: skip


class Joint:
    """One servo that turns `INERTIA` against `load(q)` N·m."""

    def __init__(self, load: Callable[[float], float] = lambda q: 0.0, **fields: float) -> None:
        table = OFF | fields
        self.p = servo.parameters_from(table, ["j"], "test")
        self.load = load
        self.command, self.state = servo.nominal_command(1), np.zeros((1, servo.STATE_COLUMNS))
        self.drive = np.zeros((1, servo.DRIVE_COLUMNS))
        self.q, self.w, self.next = np.zeros(1), np.zeros(1), np.zeros(1)
        self.low, self.high = np.full(1, -np.inf), np.full(1, np.inf)
        servo.reset_into(self.p, self.q, self.command, self.state)

    def run(self, seconds: float, goal: float | None = None, dt: float = DT) -> np.ndarray:
        """(steps, 2): angle and speed after each step."""
        if goal is not None:
            self.command[0, servo.GOAL] = goal
        mass, bias, none = np.full((1, 1), INERTIA), np.zeros(1), np.zeros(1)
        rows = []
        for _ in range(round(seconds / dt)):
            bias[0] = self.load(self.q[0])
            servo.drive_into(self.p, self.command, self.state, self.q, dt, self.drive)
            servo.solve_velocity_into(
                mass, bias, none, self.w, self.p, self.command, self.state, self.drive, dt, self.low, self.high,
                self.next,
            )  # fmt: skip
            self.w[:] = self.next
            self.q += dt * self.w
            rows.append((self.q[0], self.w[0]))
        return np.array(rows)


def field(name: str) -> float:
    return servo.SERVO_FIELDS[servo.FIELD_INDEX[name]].nominal


STALL = field("torque_constant") * field("voltage") / field("resistance")
BRAKE = field("torque_constant") ** 2 / field("resistance")


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0, 2.0])
def test_droop_under_load_is_load_over_stiffness(scale: float) -> None:
    joint = Joint(lambda q: 1.5)
    joint.command[0, servo.KP_SCALE] = scale
    droop = -joint.run(3.0, 0.0)[-1, 0]
    assert droop == pytest.approx(1.5 / (STALL * field("kp") * scale), rel=1e-3)


def test_terminal_speed_is_where_voltage_meets_friction() -> None:
    joint = Joint(viscous=0.1, coulomb=0.2)
    speed = joint.run(2.0, 1e3)[-1, 1]
    assert speed == pytest.approx((STALL - 0.2) / (BRAKE + 0.1), rel=1e-6)


def test_without_friction_the_terminal_speed_is_voltage_over_constant() -> None:
    assert Joint(voltage=6.0).run(2.0, 1e3)[-1, 1] == pytest.approx(6.0 / field("torque_constant"), rel=1e-6)


def test_torque_limit_limits_what_is_held() -> None:
    joint = Joint(lambda q: 1.0)
    joint.command[0, servo.TORQUE_LIMIT] = 0.9 / STALL
    assert joint.run(1.0, 0.0)[-1, 1] < -0.05
    joint = Joint(lambda q: 1.0)
    joint.command[0, servo.TORQUE_LIMIT] = 1.1 / STALL
    assert joint.run(1.0, 0.0)[-1, 1] == pytest.approx(0.0, abs=1e-6)


def test_stiction_holds_within_its_band_and_not_beyond() -> None:
    for load, moves in ((0.19, False), (0.21, True)):
        joint = Joint(lambda q, load=load: load, coulomb=0.2)
        joint.command[0, servo.ENABLED] = 0
        assert (abs(joint.run(0.5)[-1, 0]) > 1e-3) == moves


def test_goal_within_the_friction_band_is_not_reached() -> None:
    band = 0.3 / (STALL * field("kp"))
    joint = Joint(coulomb=0.3)
    assert joint.run(1.0, 0.9 * band)[-1, 0] == 0.0
    assert joint.run(2.0, 1.5 * band)[-1, 0] > 0.2 * band


def test_dead_band_is_where_the_controller_rests() -> None:
    joint = Joint(dead_band=0.05)
    assert joint.run(1.0, 0.04)[-1, 0] == 0.0
    assert joint.run(3.0, 0.3)[-1, 0] == pytest.approx(0.3, abs=0.05 + 1e-4)
    assert joint.state[0, servo.DUTY] == pytest.approx(0.0, abs=1e-3)


def test_stribeck_friction_is_higher_at_rest() -> None:
    p = servo.parameters_from(
        OFF | {"coulomb": 0.1, "stribeck": 0.05, "stribeck_velocity": 0.2}, ["j"], "test"
    )[0]
    assert servo.friction_level(p, 0.0, 0.0, 0.0) == pytest.approx(0.15)
    assert servo.friction_level(p, 0.2, 0.0, 0.0) == pytest.approx(0.1 + 0.05 / math.e)
    assert servo.friction_level(p, 5.0, 0.0, 0.0) == pytest.approx(0.1)


def test_load_dependent_and_directional_friction() -> None:
    p = servo.parameters_from(OFF | {"load_motor": 0.2, "load_external": 0.1}, ["j"], "test")[0]
    # Holding 1 N·m: motor and load oppose each other, both press on the gears.
    assert servo.friction_level(p, 0.0, 1.0, -1.0) == pytest.approx(0.3)
    assert servo.friction_level(p, 0.0, 1.0, 0.0) == pytest.approx(0.2)
    assert servo.friction_level(p, 0.0, 0.0, 1.0) == pytest.approx(0.1)
    assert servo.friction_level(p, 0.0, 0.5, 1.0) == pytest.approx(0.0)


def test_quadratic_friction_depends_on_who_drives() -> None:
    p = servo.parameters_from(OFF | {"quadratic_motor": 0.1, "quadratic_external": 0.3}, ["j"], "test")[0]
    assert servo.friction_level(p, 0.0, 2.0, -1.0) == pytest.approx(0.1)
    assert servo.friction_level(p, 0.0, 1.0, -2.0) == pytest.approx(0.3)
    assert servo.friction_level(p, 0.0, 1.0, 2.0) == pytest.approx(0.0)


def test_load_dependent_friction_widens_the_held_band() -> None:
    """Pushed up and released, or down and released, a loaded joint rests in different places."""
    places = []
    for start in (-0.3, 0.3):
        joint = Joint(lambda q: 1.0, load_motor=0.1, load_external=0.1)
        joint.run(1.0, start)
        # Slowly, or it overshoots and stops anywhere within the band.
        joint.command[0, servo.GOAL_SPEED] = 0.1
        places.append(joint.run(6.0, 0.0)[-1, 0])
    # Friction is 0.1 (τm + τe), τe = 1: up, τm = 1 + f = 1.1/0.9; down, τm = 1 − f = 0.9/1.1.
    width = (1.1 / 0.9 - 0.9 / 1.1) / (STALL * field("kp"))
    assert places[1] - places[0] == pytest.approx(width, rel=0.04)


@pytest.mark.parametrize("delay", [0.0, 0.0234, 0.1])
def test_delay_is_exact_to_a_fraction_of_a_step(delay: float) -> None:
    prompt, late = Joint(), Joint(command_delay=delay)
    time = np.arange(1, 301) * DT
    prompt_path, late_path = [], []
    for t in time:
        goal = 0.2 * math.sin(6 * t)
        prompt_path.append(prompt.run(DT, goal)[-1, 0])
        late_path.append(late.run(DT, goal)[-1, 0])
    expected = np.interp(
        time - delay, np.concatenate([[0], time]), np.concatenate([[0], prompt_path]), left=0.0
    )
    np.testing.assert_allclose(late_path, expected, atol=3e-4)


def test_extra_delay_adds_up() -> None:
    joint = Joint(command_delay=0.02)
    joint.command[0, servo.EXTRA_DELAY] = 0.03
    moved = np.flatnonzero(joint.run(0.2, 1.0)[:, 0] > 0)[0]
    assert moved == pytest.approx(0.05 / DT, abs=1)


def test_speed_limit_is_that_of_the_path() -> None:
    path = Joint(speed=1.5).run(0.5, 3.0)
    assert path[-1, 1] == pytest.approx(1.5, rel=1e-3)
    joint = Joint(speed=4.0)
    joint.command[0, servo.GOAL_SPEED] = 1.0
    assert joint.run(0.5, 3.0)[-1, 1] == pytest.approx(1.0, rel=1e-3)


def test_profile_is_a_trapezoid_that_ends_at_the_goal() -> None:
    setpoint, speed, path = 0.0, 0.0, []
    for _ in range(600):
        setpoint, speed = servo.profile(setpoint, speed, 1.0, 1.0, 5.0, DT)
        path.append((setpoint, speed))
    rows = np.array(path)
    assert rows[-1, 0] == pytest.approx(1.0, abs=1e-6)
    assert rows[:, 0].max() <= 1.0 + 1e-9
    assert rows[:, 1].max() == pytest.approx(1.0)
    assert np.abs(np.diff(rows[:, 1])).max() <= 5.0 * DT + 1e-9
    # Ramps of v²/2a on both sides of the plateau: 1 / v + v / a seconds in all.
    assert np.flatnonzero(rows[:, 0] > 0.999)[0] * DT == pytest.approx(1.2, abs=0.03)


def test_backlash_is_a_hysteresis_of_its_full_width() -> None:
    path = np.concatenate([np.linspace(0, 1, 200), np.linspace(1, -1, 400)])
    sensed, position = [], 0.0
    for q in path:
        position = servo.play(position, q, 0.1)
        sensed.append(position)
    up, down = sensed[100], np.interp(-path[100], -path[200:], sensed[200:])
    assert path[100] - up == pytest.approx(0.05)
    assert down - up == pytest.approx(0.1)


def test_offset_shifts_what_is_sensed_not_what_is_asked() -> None:
    joint = Joint(offset=0.2)
    assert joint.state[0, servo.SENSED] == pytest.approx(0.2)
    joint.run(3.0, 0.5)
    assert joint.q[0] == pytest.approx(0.3, abs=1e-4)
    assert joint.state[0, servo.SENSED] == pytest.approx(0.5, abs=1e-4)


def test_integral_action_removes_the_droop() -> None:
    joint = Joint(lambda q: 1.0, ki=20.0)
    joint.command[0, servo.KI_SCALE] = 1.0
    assert joint.run(4.0, 0.0)[-1, 0] == pytest.approx(0.0, abs=1e-3)


def test_derivative_action_brakes() -> None:
    slow, fast = Joint(kd=0.3).run(0.1, 0.2), Joint().run(0.1, 0.2)
    assert slow[-1, 0] < 0.8 * fast[-1, 0]


def test_off_leaves_friction_and_armature() -> None:
    """Free fall of 0.5 N·m: (M + A) q̈ = −0.5, no back-EMF."""
    joint = Joint(lambda q: 0.5)
    joint.command[0, servo.ENABLED] = 0
    speed = joint.run(0.2)[-1, 1]
    assert speed == pytest.approx(-0.5 * 0.2 / (INERTIA + field("armature")), rel=1e-9)
    assert joint.state[0, servo.TORQUE] == 0.0


def test_damping_brakes_with_the_back_emf() -> None:
    joint = Joint(lambda q: 0.5)
    joint.command[0, servo.ENABLED] = 2
    assert joint.run(3.0)[-1, 1] == pytest.approx(-0.5 / BRAKE, rel=1e-3)


def test_switched_on_again_it_starts_from_where_it_is() -> None:
    joint = Joint(lambda q: 0.5, speed=1.0)
    joint.command[0, servo.ENABLED] = 0
    joint.run(0.3)
    at = joint.q[0]
    joint.command[0, servo.ENABLED] = 1
    path = joint.run(0.3, at + 0.5)
    assert path[:, 1].max() < 1.7


def test_stops_are_bounds_on_the_speed() -> None:
    joint = Joint(lambda q: -3.0)
    joint.command[0, servo.ENABLED] = 0
    for _ in range(200):
        joint.high[0] = (0.1 - joint.q[0]) / DT
        joint.run(DT)
    assert joint.q[0] == pytest.approx(0.1, abs=1e-12)


@pytest.mark.parametrize(("offset", "load"), [(0.0, -0.8), (0.02, -0.8), (0.0, 0.8)])
def test_a_limp_joint_sinks_into_a_yielding_stop_by_torque_over_stiffness(offset: float, load: float) -> None:
    side = -np.sign(load)
    joint = Joint(
        lambda q: load, viscous=0.3, stop_lower=-0.3, stop_upper=0.3, stop_stiffness=10.0, offset=offset
    )
    joint.command[0, servo.ENABLED] = 0
    assert joint.run(6.0)[-1, 0] == pytest.approx(side * (0.3 + 0.08) - offset, abs=1e-6)


def test_a_stop_presses_on_the_next_joint_by_its_share() -> None:
    """The first joint rests 0.08 rad in its stop (0.8 N·m); half of it turns the second one's spring of 6 N·m."""
    table = OFF | {"viscous": 0.3, "stop_stiffness": 10.0, "kp": 6.0 / STALL}
    ends = {"stop_upper": {"a": 0.3}, "stop_share": {"b": 0.5}}
    p = servo.parameters_from(table | ends, ["a", "b"], "test")
    command, state = servo.nominal_command(2), np.zeros((2, servo.STATE_COLUMNS))
    drive, q, w, out = np.zeros((2, servo.DRIVE_COLUMNS)), np.zeros(2), np.zeros(2), np.zeros(2)
    mass, none, wide = INERTIA * np.eye(2), np.zeros(2), np.full(2, np.inf)
    servo.reset_into(p, q, command, state)
    command[0, servo.ENABLED] = 0
    for _ in range(2000):
        servo.drive_into(p, command, state, q, DT, drive)
        servo.solve_velocity_into(
            mass, np.array([-0.8, 0.0]), none, w, p, command, state, drive, DT, -wide, wide, out
        )
        w[:] = out
        q += DT * w
    assert q[0] == pytest.approx(0.38, abs=1e-6)
    assert q[1] == pytest.approx(-0.5 * 0.8 / 6.0, abs=1e-6)


def test_step_response_does_not_depend_on_the_time_step() -> None:
    names = ("coulomb", "viscous", "command_delay", "speed")
    ends = []
    for rate in (240, 300, 2400):
        joint = Joint(**{name: field(name) for name in names})
        ends.append(joint.run(0.2, 0.6, dt=1 / rate)[-1, 0])
    np.testing.assert_allclose(ends[:2], ends[2], atol=math.radians(0.6))


@settings(max_examples=60, deadline=None)
@given(
    inertia=st.floats(1e-5, 0.2),
    armature=st.floats(0.003, 0.05),
    kp=st.floats(0.1, 20),
    coulomb=st.floats(0, 0.5),
    goal=st.floats(-3, 3),
    load=st.floats(-2, 2),
)
def test_it_never_blows_up(
    inertia: float, armature: float, kp: float, coulomb: float, goal: float, load: float
) -> None:
    joint = Joint(lambda q: load, armature=armature, kp=kp, coulomb=coulomb)
    path = joint.run(1.0, goal, dt=1 / 240)
    assert np.isfinite(path).all()
    assert np.abs(path[:, 1]).max() < (STALL + abs(load)) / BRAKE + 1e-6
    assert abs(path[-1, 0]) < abs(goal) + 10


def test_coupled_joints_solve_the_coupled_equation() -> None:
    """Without friction and inside the limits the step is linear: compare with a direct solution."""
    rng = np.random.default_rng(0)
    n = 6
    root = rng.normal(size=(n, n))
    mass = root @ root.T * 0.01 + 0.001 * np.eye(n)
    p = servo.parameters_from(OFF, [f"j{i}" for i in range(n)], "test")
    command, state, drive = (
        servo.nominal_command(n),
        np.zeros((n, servo.STATE_COLUMNS)),
        np.zeros((n, servo.DRIVE_COLUMNS)),
    )
    q, w, bias, external = np.zeros(n), rng.normal(size=n), rng.normal(size=n) * 0.1, rng.normal(size=n) * 0.1
    servo.reset_into(p, q, command, state)
    command[:, servo.GOAL] = rng.normal(size=n) * 0.02
    out, wide = np.empty(n), np.full(n, np.inf)
    servo.drive_into(p, command, state, q, DT, drive)
    servo.solve_velocity_into(mass, bias, external, w, p, command, state, drive, DT, -wide, wide, out)
    assert (np.abs(state[:, servo.DUTY]) < 1).all()
    full = (mass + np.diag(p[:, servo.ARMATURE])) / DT
    left = full + np.diag(BRAKE + STALL * drive[:, servo.DRIVE_U1])
    right = full @ w - bias + external + STALL * drive[:, servo.DRIVE_U0]
    np.testing.assert_allclose(out, np.linalg.solve(left, right), atol=1e-5)


def test_robots_may_change_fields_for_all_joints_or_one() -> None:
    table = {"kp": 2.0, "coulomb": {"b": 0.5}}
    p = servo.parameters_from(table, ["a", "b"], "here")
    assert p[:, servo.KP].tolist() == [2.0, 2.0]
    assert p[:, servo.COULOMB].tolist() == [field("coulomb"), 0.5]
    assert servo.nominal_parameters(Robot.load("so101")).shape == (6, servo.F)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"gain": 1.0}, "no servo field 'gain'"),
        ({"kp": {"c": 1.0}}, "no joint 'c'"),
        ({"kp": -1.0}, "must be a number from 0"),
        ({"kp": "high"}, "must be a number"),
        ({"armature": 0.0}, "armature"),
    ],
)
def test_wrong_fields_are_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        servo.parameters_from(table, ["a", "b"], "here")


@pytest.mark.parametrize("acceleration", [0.0, 45.0])
def test_a_delay_acts_by_the_fraction_of_a_step(acceleration: float) -> None:
    """A step of the goal, walked to at the speed limit: each millisecond of delay comes out as a millisecond."""
    delays = np.arange(0.020, 0.0301, 0.0005)
    reached = []
    for delay in delays:
        joint = Joint(kp=30.0, speed=2.0, acceleration=acceleration, command_delay=float(delay))
        reached.append(joint.run(0.2, 1.0)[-1, 0])
    lost = -np.diff(reached)
    # Up to the speed it has: 2 rad/s, all of the way alike.
    np.testing.assert_allclose(lost, 2.0 * 0.0005, rtol=0.1)
