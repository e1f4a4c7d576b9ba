"""Arms that slide, grip in parallel, and have joints that nobody drives: Bullet and our own model agree on them."""

from pathlib import Path

import numpy as np
import pytest

from sim2real.model import dynamics, kinematics, servo
from sim2real.parameters import Draw
from sim2real.robot import Robot
from sim2real.simulation.bullet import bullet
from sim2real.simulation.world import World
from sim2real.urdf import PINION
from tests.sim2real.simulation.draws import random_draw
from tests.sim2real.simulation.own_arms import GRIPPER_ARM, inertial, own_arm

RAW = dict.fromkeys(("lift", "turn", "left"), 1.0)


@pytest.fixture
def robot(tmp_path: Path) -> Robot:
    return own_arm(tmp_path)


def test_what_follows_and_what_is_locked(robot: Robot) -> None:
    model = robot.model
    assert model.link_joints == ("lift", "turn", "left", "right")
    assert (model.n, model.links) == (3, 4)
    assert model.locked == {"flap": 0.0}
    assert model.sliding.tolist() == [True, False, True]
    assert robot.units == ("m", "rad", "m")
    np.testing.assert_allclose(model.link_positions(np.array([0.1, 0.2, 0.03])), [0.1, 0.2, 0.03, -0.018])
    # The flap is rigid on the finger that follows.
    assert model.mass[3] == pytest.approx(0.04)


def test_kinematics_and_dynamics_are_those_of_bullet_with_the_fingers_coupled(tmp_path: Path) -> None:
    """Bullet has four free joints; q̇₄ = −0.5 q̇₃ makes M = Gᵀ M₄ G, h = Gᵀ h₄."""
    # Without an inertial Bullet would take a link for one of a kilogram.
    robot = own_arm(
        tmp_path, GRIPPER_ARM.replace('<link name="tool"/>', f'<link name="tool">{inertial(0.1)}</link>')
    )
    model, client = robot.model, bullet.connect(bullet.DIRECT)
    body = bullet.loadURDF(
        str(robot.urdf), useFixedBase=True, flags=bullet.URDF_USE_INERTIA_FROM_FILE, physicsClientId=client
    )
    bullet.setGravity(0, 0, -9.81, physicsClientId=client)
    count = bullet.getNumJoints(body, physicsClientId=client)
    names = [bullet.getJointInfo(body, i, physicsClientId=client)[1].decode() for i in range(count)]
    links = [bullet.getJointInfo(body, i, physicsClientId=client)[12].decode() for i in range(count)]
    # Bullet's order of its five degrees of freedom; the flap stays at zero.
    dofs = [name for name in names if name != "end"]
    coupling = np.zeros((5, 3))
    for name, row in (("lift", [1, 0, 0]), ("turn", [0, 1, 0]), ("left", [0, 0, 1]), ("right", [0, 0, -0.5])):
        coupling[dofs.index(name)] = row
    shift = np.zeros(5)
    shift[dofs.index("right")] = -0.003
    rng = np.random.default_rng(1)
    for _ in range(5):
        q, qd = rng.uniform(0.0, 0.04, 3), rng.uniform(-1, 1, 3)
        q[1] = rng.uniform(-1.5, 1.5)
        theirs, speeds = coupling @ q + shift, coupling @ qd
        for name, angle in zip(dofs, theirs):
            bullet.resetJointState(body, names.index(name), angle, physicsClientId=client)
        mass, bias = dynamics.mass_and_bias(model, q, qd)
        full = np.array(bullet.calculateMassMatrix(body, theirs.tolist(), physicsClientId=client))
        torque = bullet.calculateInverseDynamics(
            body, theirs.tolist(), speeds.tolist(), [0.0] * 5, physicsClientId=client
        )
        np.testing.assert_allclose(mass, coupling.T @ full @ coupling, atol=1e-12)
        np.testing.assert_allclose(bias, coupling.T @ np.array(torque), atol=1e-12)
        rotations, origins = kinematics.link_poses(model, q)
        work, needed = np.zeros((4, dynamics.INVERSE_COLUMNS)), np.empty(3)
        dynamics.inverse_dynamics_into(
            model.chain,
            model.inertials,
            qd,
            np.array([0.3, -0.2, 0.1]),
            9.81,
            rotations,
            origins,
            work,
            needed,
        )
        np.testing.assert_allclose(needed, mass @ [0.3, -0.2, 0.1] + bias, atol=1e-12)
        for i, name in enumerate(model.link_names):
            state = bullet.getLinkState(body, links.index(name), 0, 1, physicsClientId=client)
            np.testing.assert_allclose(origins[i], state[4], atol=1e-7)
    bullet.disconnect(client)


def test_a_jacobian_of_a_tool_on_a_finger_that_follows(tmp_path: Path) -> None:
    text = GRIPPER_ARM.replace(
        '<parent link="beam"/><child link="tool"/>', '<parent link="flap_link"/><child link="tool"/>'
    )
    model = own_arm(tmp_path, text).model
    q, step = np.array([0.1, 0.4, 0.02]), 1e-6
    jacobian = kinematics.tool_jacobian(model, q)
    for j in range(3):
        ahead, back = (kinematics.tool_position(model, q + s * step * np.eye(3)[j]) for s in (1, -1))
        np.testing.assert_allclose(jacobian[:3, j], (ahead - back) / (2 * step), atol=1e-8)


def test_it_holds_its_weight_by_its_stiffness_and_goes_where_it_is_told(robot: Robot) -> None:
    with World(robot) as world:
        world.reset(Draw(values={f"servo.{name}.stribeck": 0.0 for name in RAW}))
        world.advance(None, 900)
        p = world._coupling.views.parameters
        load = dynamics.mass_and_bias(robot.model, world.position, np.zeros(3))[1]
        stiffness = (
            p[:, servo.TORQUE_CONSTANT] / p[:, servo.RESISTANCE] * p[:, servo.VOLTAGE] * p[:, servo.KP]
        )
        error = world.goal - world.sensed_position
        pull = stiffness * np.sign(error) * np.maximum(np.abs(error) - p[:, servo.DEAD_BAND], 0.0)
        dry = p[:, servo.COULOMB] + p[:, servo.LOAD_MOTOR] * np.abs(pull - load) + 0.2 * np.abs(load)
        assert (np.abs(pull - load) <= dry + 1e-6).all()
        goal = np.array([0.25, -0.4, 0.035])
        gate = world.gate
        gate.reset(world.goal)
        apart = 0.0
        for _ in range(300):
            gate.step(goal)
            world.advance(gate.position, 3)
            states = bullet.getJointStates(
                world.bodies.arm, world.bodies.joints, physicsClientId=world.client
            )
            found = np.array([state[0] for state in states])
            apart = max(apart, float(np.abs(found - robot.model.link_positions(world.position)).max()))
        assert np.abs((world.position - goal) / robot.model.scale).max() < 0.05
        assert np.abs(world.velocity).max() < 1e-3
        assert apart < 1e-4, "a finger that follows is where its joint says"


def test_a_joint_that_nobody_drives_is_locked_and_changes_nothing(tmp_path: Path) -> None:
    """The flap weighs on the finger as if it were glued to it."""
    paths = []
    for kind in ("revolute", "fixed"):
        text = GRIPPER_ARM.replace('name="flap" type="revolute"', f'name="flap" type="{kind}"')
        with World(own_arm(tmp_path, text)) as world:
            positions = []
            for k in range(60):
                world.advance(np.array([0.1, 0.3 + 0.4 * np.sin(k / 10), 0.02]), 3)
                positions.append(world.position)
            paths.append(np.array(positions))
    assert np.ptp(paths[0][:, 1]) > 0.2
    np.testing.assert_array_equal(paths[0], paths[1])


def test_it_can_be_locked_somewhere_else(tmp_path: Path) -> None:
    text = GRIPPER_ARM.replace(
        '<parent link="beam"/><child link="tool"/>', '<parent link="flap_link"/><child link="tool"/>'
    )
    text = text.replace(
        '<origin xyz="0.15 0 0"/></joint><link name="tool"/>',
        '<origin xyz="0 0 0.1"/></joint><link name="tool"/>',
    )
    robot = own_arm(tmp_path, text, "[locked]\nflap = 0.5\n")
    assert robot.model.locked == {"flap": 0.5}
    with World(robot) as world:
        joint = world.bodies.joints[3]
        state = bullet.getLinkState(world.bodies.arm, joint, 0, 1, physicsClientId=world.client)
        # From the finger's frame as Bullet has it, along the flap turned by 0.5 rad about x.
        where, _ = bullet.multiplyTransforms(
            state[4], state[5], (0.02, -0.1 * np.sin(0.5), 0.1 * np.cos(0.5)), (0, 0, 0, 1)
        )
        np.testing.assert_allclose(where, world.truth().tool_position, atol=1e-6)


def test_the_robots_file_can_say_what_follows(tmp_path: Path) -> None:
    text = GRIPPER_ARM.replace('<mimic joint="left" multiplier="-0.5" offset="-0.003"/>', "")
    assert own_arm(tmp_path, text).model.locked == {"right": 0.0, "flap": 0.0}
    plain = own_arm(tmp_path, text, '[mimic]\nright = "left"\n').model
    assert plain.multiplier[3] == 1.0 and plain.shift[3] == 0.0
    mirrored = own_arm(tmp_path, text, '[mimic]\nright = { joint = "left", multiplier = -1.0 }\n').model
    assert mirrored.multiplier[3] == -1.0
    # A follower of a follower: both factors count.
    chained = own_arm(tmp_path, text, '[mimic]\nright = { joint = "left", multiplier = -1.0, offset = 0.01 }\n'
                      'flap = { joint = "right", multiplier = 10.0 }\n').model  # fmt: skip
    assert chained.multiplier[4] == -10.0 and chained.shift[4] == pytest.approx(0.1)


def test_both_fingers_hold_what_is_between_them_and_the_motor_feels_it(tmp_path: Path) -> None:
    text = GRIPPER_ARM.replace('multiplier="-0.5" offset="-0.003"', 'multiplier="-1"')
    with World(own_arm(tmp_path, text)) as world:
        world.reset(Draw(values={"world.gravity": 0.0}))
        world.advance(None, 30)
        at = world.truth().tool_position
        shape = bullet.createCollisionShape(
            bullet.GEOM_BOX, halfExtents=(0.006, 0.012, 0.006), physicsClientId=world.client
        )
        turn = bullet.getQuaternionFromEuler((0.0, 0.3, 0.0))
        block = bullet.createMultiBody(
            0.03, shape, basePosition=at.tolist(), baseOrientation=turn, useMaximalCoordinates=True,
            physicsClientId=world.client,
        )  # fmt: skip
        bullet.changeDynamics(block, -1, lateralFriction=1.0, physicsClientId=world.client)
        free = world.sensed_position[2]
        for k in range(100):
            world.advance(np.array([0.1, 0.3, max(0.0, 0.02 - 0.0004 * k)]), 3)
        # Stopped by the block (12 mm to either side, fingers of 5 mm, 2 mm off the middle), not closed.
        assert (
            world.position[2] == pytest.approx(0.012 + 0.005 - 0.002, abs=0.002) and world.position[2] < free
        )
        for _ in range(100):
            world.advance(None, 3)
        place, _ = bullet.getBasePositionAndOrientation(block, physicsClientId=world.client)
        assert np.abs(np.array(place) - at).max() < 0.004, "it was held"
        forces = {}
        for contact in bullet.getContactPoints(world.bodies.arm, block, physicsClientId=world.client):
            forces[contact[3]] = forces.get(contact[3], 0.0) + contact[9]
        left, right = (forces[link] for link in (world.bodies.joints[2], world.bodies.joints[3]))
        assert left > 1.0 and right == pytest.approx(left, rel=0.1)
        # Both fingers press on the one motor.
        assert world._coupling.views.load[2] == pytest.approx(left + right, rel=0.15)


def test_draws_of_everything_stay_finite_and_repeat(robot: Robot) -> None:
    with World(robot) as world:
        for seed in range(4):
            ends = []
            for _ in range(2):
                world.reset(random_draw(world.parameters, seed))
                world.advance(robot.home + np.array([0.05, 0.3, 0.01]), 300)
                ends.append(world.position)
            assert np.isfinite(ends[0]).all() and np.abs(ends[0] - robot.home).max() < 0.5
            np.testing.assert_array_equal(ends[0], ends[1])


def test_parameters_of_sliding_joints_are_in_metres(robot: Robot) -> None:
    with World(robot) as world:
        found = world.parameters
    kp, turning = found["servo.lift.kp"], found["servo.turn.kp"]
    assert (kp.unit, turning.unit) == ("1/m", "1/rad")
    assert kp.nominal == pytest.approx(turning.nominal / PINION)
    assert found["servo.lift.armature"].unit == "kg"
    assert found["servo.lift.armature"].nominal == pytest.approx(
        found["servo.turn.armature"].nominal / PINION**2
    )
    start = found["task.start.lift"] if "task.start.lift" in found else None
    assert start is None or start.unit == "m"
    assert "link.column.com_z" in found, "a sliding first link has its mass anywhere"


def test_a_number_for_all_joints_goes_through_the_pinion(tmp_path: Path) -> None:
    parameters = servo.nominal_parameters(
        own_arm(tmp_path, more="[servo]\nkp = 5.0\ncoulomb = { lift = 3.0 }\n")
    )
    np.testing.assert_allclose(parameters[:, servo.KP], [250.0, 5.0, 250.0])
    assert parameters[0, servo.COULOMB] == 3.0


def test_the_gate_counts_a_fingers_way_and_guards_it(robot: Robot) -> None:
    from sim2real.gate.gate import Gate

    gate = Gate(robot)
    # 0.01 rad of margin are 0.2 mm for what slides.
    np.testing.assert_allclose(gate._track.low, robot.lower + 0.01 * robot.model.scale)
    geometry = gate._track
    assert geometry.jump.tolist() == pytest.approx([0.7 * PINION, 0.7, 0.7 * PINION])


def test_the_gate_knows_how_a_finger_that_follows_moves(tmp_path: Path) -> None:
    """Slope and lever of its guarded points against differences."""
    from sim2real.gate.clearance import _slope, outside
    from sim2real.gate.geometry import guarded_geometry, views
    from sim2real.model.kinematics import link_poses_into

    # The finger that follows is the longer one, and its way goes up and down with the beam.
    head, tail = GRIPPER_ARM.split('<link name="right_finger">')
    tail = tail.replace("0.01 0.01 0.04", "0.01 0.01 0.09", 1)
    tilted = head.replace(
        'xyz="0.15 -0.002 0"/><axis xyz="0 1 0"', 'xyz="0.15 -0.002 0"/><axis xyz="0 0.6 0.8"'
    )
    robot = own_arm(tmp_path, f'{tilted}<link name="right_finger">{tail}')
    g = views(guarded_geometry(robot))

    def lowest(q: np.ndarray) -> tuple[float, int]:
        link_poses_into(g.chain, q, g.rotations, g.origins)
        return outside(g)

    def places(q: np.ndarray) -> np.ndarray:
        link_poses_into(g.chain, q, g.rotations, g.origins)
        links = g.points[:, 0].astype(int)
        return g.origins[links] + np.einsum("kij,kj->ki", g.rotations[links], g.points[:, 1:])

    rng = np.random.default_rng(0)
    followers = 0
    for _ in range(40):
        q = rng.uniform(robot.lower, robot.upper)
        _, which = lowest(q)
        followers += which >= 0 and g.points[which, 0] == 3
        slopes = [_slope(g, which, j) for j in range(3)]
        for j in range(3):
            step = 1e-6 * np.eye(3)[j]
            (ahead, a), (back, b) = lowest(q + step), lowest(q - step)
            if a == b == which:
                assert slopes[j] == pytest.approx((ahead - back) / 2e-6, abs=1e-6)
        other = rng.uniform(robot.lower, robot.upper)
        way = np.linalg.norm(places(other) - places(q), axis=1).max()
        assert way <= g.lever @ np.abs(other - q) + 1e-12
    assert followers > 3
