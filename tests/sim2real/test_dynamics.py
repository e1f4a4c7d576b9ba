"""Mass matrix and bias against pinocchio, PyBullet and energy."""

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.model import dynamics
from sim2real.robot import Robot

ROBOT = Robot.load("so101")
MODEL = ROBOT.model
RNG = np.random.default_rng(0)
Q = RNG.uniform(MODEL.lower, MODEL.upper, (12, 6))
QD = RNG.normal(0, 3, (12, 6))


def test_agrees_with_pinocchio() -> None:
    pin = pytest.importorskip("pinocchio")
    other = pin.buildModelFromUrdf(str(ROBOT.urdf))
    data = other.createData()
    for q, qd in zip(Q, QD):
        mass, bias = dynamics.mass_and_bias(MODEL, q, qd)
        expected = pin.crba(other, data, q)
        expected = np.triu(expected) + np.triu(expected, 1).T
        np.testing.assert_allclose(mass, expected, atol=1e-12)
        np.testing.assert_allclose(bias, pin.nonLinearEffects(other, data, q, qd), atol=1e-12)


def test_agrees_with_bullet() -> None:
    import pybullet

    client = pybullet.connect(pybullet.DIRECT)
    try:
        body = pybullet.loadURDF(
            str(ROBOT.urdf),
            useFixedBase=True,
            flags=pybullet.URDF_USE_INERTIA_FROM_FILE,
            physicsClientId=client,
        )
        pybullet.setGravity(0, 0, -9.81, physicsClientId=client)
        names = {
            pybullet.getJointInfo(body, j, physicsClientId=client)[1].decode(): j
            for j in range(pybullet.getNumJoints(body, physicsClientId=client))
            if pybullet.getJointInfo(body, j, physicsClientId=client)[2] != pybullet.JOINT_FIXED
        }
        order = [sorted(names.values()).index(names[name]) for name in ROBOT.joint_names]
        for q, qd in zip(Q[:5], QD[:5]):
            place, speed = np.empty(6), np.empty(6)
            place[order], speed[order] = q, qd
            mass = np.array(pybullet.calculateMassMatrix(body, place.tolist(), physicsClientId=client))
            bias = pybullet.calculateInverseDynamics(
                body, place.tolist(), speed.tolist(), [0.0] * 6, physicsClientId=client
            )
            ours = dynamics.mass_and_bias(MODEL, q, qd)
            np.testing.assert_allclose(ours[0], mass[np.ix_(order, order)], atol=1e-9)
            np.testing.assert_allclose(ours[1], np.array(bias)[order], atol=1e-9)
    finally:
        pybullet.disconnect(client)


def test_batches_and_sets_of_inertial_parameters() -> None:
    heavier = MODEL.inertials.copy()
    dynamics.add_point_mass(heavier, 4, 0.1, np.array([0.0, 0.0, -0.1]))
    sets = np.stack([MODEL.inertials, heavier])
    masses, biases = dynamics.mass_and_bias(MODEL, Q[:2], QD[:2], inertials=sets)
    for k in range(2):
        mass, bias = dynamics.mass_and_bias(MODEL, Q[k], QD[k], inertials=sets[k])
        assert (masses[k] == mass).all() and (biases[k] == bias).all()
    shared = dynamics.mass_and_bias(MODEL, Q, QD)
    np.testing.assert_array_equal(shared[0][0], dynamics.mass_and_bias(MODEL, Q[0], QD[0])[0])


def test_a_point_mass_loads_the_joints_by_its_weight() -> None:
    from sim2real.model import kinematics

    point = np.array(MODEL.tool[10:13])
    heavier = MODEL.inertials.copy()
    dynamics.add_point_mass(heavier, 4, 0.2, point)
    still = np.zeros(6)
    for q in Q[:4]:
        difference = dynamics.mass_and_bias(MODEL, q, still, inertials=heavier)[1]
        difference = difference - dynamics.mass_and_bias(MODEL, q, still)[1]
        jacobian = kinematics.tool_jacobian(MODEL, q)
        np.testing.assert_allclose(difference, jacobian[2] * 0.2 * 9.81, atol=1e-12)
        masses = [dynamics.mass_and_bias(MODEL, q, still, inertials=i)[0] for i in (heavier, MODEL.inertials)]
        np.testing.assert_allclose(masses[0] - masses[1], 0.2 * jacobian[:3].T @ jacobian[:3], atol=1e-12)


def test_kinetic_energy_changes_by_the_work_of_gravity() -> None:
    """d(½ q̇ᵀMq̇)/dt = q̇ᵀ(τ − g): holds only when h fits M."""
    q, qd, step = Q[0], QD[0], 1e-6
    mass, bias = dynamics.mass_and_bias(MODEL, q, qd)
    gravity = dynamics.mass_and_bias(MODEL, q, np.zeros(6))[1]
    qdd = np.linalg.solve(mass, -bias)
    energy = []
    for sign in (-1, 1):
        v = qd + sign * step * qdd
        m = dynamics.mass_and_bias(MODEL, q + sign * step * qd, v)[0]
        energy.append(0.5 * v @ m @ v)
    assert (energy[1] - energy[0]) / (2 * step) == pytest.approx(-qd @ gravity, rel=1e-6)


def test_a_tilted_base_is_a_tilted_gravity() -> None:
    np.testing.assert_allclose(dynamics.gravity_vector(), [0, 0, -9.81])
    tilted = dynamics.gravity_vector(9.81, tilt_x=0.1, tilt_y=0.2)
    assert np.linalg.norm(tilted) == pytest.approx(9.81)
    np.testing.assert_allclose(
        dynamics.gravity_vector(10.0, tilt_x=0.1), [0, -10 * np.sin(0.1), -10 * np.cos(0.1)]
    )
    np.testing.assert_allclose(
        dynamics.gravity_vector(10.0, tilt_y=0.1), [10 * np.sin(0.1), 0, -10 * np.cos(0.1)]
    )


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(UserError, match="q and qd must be"):
        dynamics.mass_and_bias(MODEL, np.zeros(5), np.zeros(5))
    with pytest.raises(UserError, match="sets of inertial parameters"):
        dynamics.mass_and_bias(MODEL, Q, QD, inertials=np.zeros((3, 6, 10)))
