"""A reset leaves nothing of the episode before, and a draw gives the same episode everywhere."""

import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim2real.episode import Episode
from sim2real.errors import UserError
from sim2real.model.servo import SERVO_FIELDS, STOP_SHARE
from sim2real.parameters import Draw
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task
from tests.sim2real.simulation.draws import random_draw

ROOT = Path(__file__).parents[3]


def digest(episode: Episode) -> str:
    """Of everything in it, to the bit."""
    parts = [episode.time, episode.state, episode.action, episode.executed]
    parts += [episode.features[name] for name in sorted(episode.features)]
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def run(world: World, draw: Draw, seconds: float | None = None) -> Episode:
    expert = world.task.expert(world.robot)
    return rollout(world, expert, draw, max_seconds=seconds, linger=0.0 if seconds is None else math.inf)


@pytest.mark.parametrize("task", ["lift", "push"])
def test_episodes_are_identical_whatever_came_before(task: str) -> None:
    with World("so101", load_task(task)) as world:
        draws = [random_draw(world.parameters, seed) for seed in range(5)]
        first = {i: digest(run(world, draws[i])) for i in range(5)}
        assert len(set(first.values())) == 5
        rng = np.random.default_rng(0)
        for i in (4, 2, 0, 0, 3, 1, 2):
            # An episode that stops anywhere: in the air, pressing, with the cube in hand.
            run(world, draws[int(rng.integers(5))], seconds=float(rng.uniform(0.2, 3.5)))
            assert digest(run(world, draws[i])) == first[i]


def test_another_process_gives_the_same_episode() -> None:
    code = (
        "from tests.sim2real.simulation.test_reset import *\n"
        "with World('so101', load_task('lift')) as world:\n"
        "    print(digest(run(world, random_draw(world.parameters, 11))))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    with World("so101", load_task("lift")) as world:
        run(world, random_draw(world.parameters, 5), seconds=1.0)
        episode = run(world, random_draw(world.parameters, 11))
    # Nothing else on standard output either: commands write JSON there.
    assert result.stdout == digest(episode) + "\n"


def test_a_thousand_resets_do_not_drift() -> None:
    with World("so101", load_task("push")) as world:
        before = digest(run(world, Draw(seed=1), seconds=1.0))
        for seed in range(1000):
            world.reset(random_draw(world.parameters, seed))
            world.advance(None, 1)
        world.reset()
        for name, parameter in world.parameters.items():
            assert world.values[name] == parameter.nominal
        assert digest(run(world, Draw(seed=1), seconds=1.0)) == before


def test_the_seed_matters_only_to_what_is_random(lift: World) -> None:
    def start(seed: int, noise: float) -> list[np.ndarray]:
        values = {"sensor.noise": noise, "detector.noise": 0.0002}
        lift.reset(Draw(seed=seed, values=values))
        lift.advance(lift.goal + 0.1, 30)
        return [lift.position, lift.observe()["joint_position"]]

    true_a, seen_a = start(1, 0.01)
    true_b, seen_b = start(2, 0.01)
    np.testing.assert_array_equal(true_a, true_b)
    assert np.abs(seen_a - seen_b).max() > 1e-3
    np.testing.assert_array_equal(start(3, 0.0)[1], start(4, 0.0)[1])


def test_unknown_parameters_are_refused_with_the_nearest_name(lift: World) -> None:
    with pytest.raises(UserError, match=r"object\.cube\.mas.*did you mean object\.cube\.mass"):
        lift.reset(Draw(values={"object.cube.mas": 0.1}))
    with pytest.raises(UserError, match="not a parameter"):
        World("so101", nominal={"nonsense": 1.0})


def test_nominal_values_can_be_overridden() -> None:
    twin = {"servo.elbow_flex.kp": 6.0, "world.gravity": 9.7}
    with World("so101", nominal=twin) as world:
        assert world.parameters["servo.elbow_flex.kp"].nominal == 6.0
        world.reset(Draw(values={"payload.mass": 0.01}))
        assert world.values["servo.elbow_flex.kp"] == 6.0
        assert world.values["world.gravity"] == 9.7
        low, high = (getattr(world.parameters["world.gravity"], side) for side in ("low", "high"))
        assert low <= 9.7 <= high


@pytest.mark.parametrize(
    "call",
    [
        lambda w: w.reset(position=np.zeros(3)),
        lambda w: w.reset(position=np.full(6, np.nan)),
        lambda w: w.advance(np.full(6, np.inf), 1),
        lambda w: w.set_joint_limits(np.ones(6), np.zeros(6)),
        lambda w: w.render("nowhere"),
    ],
)
def test_impossible_requests_are_refused(arm: World, call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError):
        call(arm)


def test_the_physics_rate_can_be_chosen() -> None:
    with World("so101", physics_rate=600) as world:
        world.advance(None, 600)
        assert world.time == pytest.approx(1.0)
    with pytest.raises(UserError, match="100 to 10000"):
        World("so101", physics_rate=10)


@pytest.mark.parametrize("name", ["so101", "koch", "openmanipulator_x"])
def test_what_a_world_does_not_declare_does_not_exist(name: str) -> None:
    with World(name) as world:
        robot, declared = world.robot, world.parameters
        servos = {f"servo.{joint}.{field.name}" for joint in robot.joint_names for field in SERVO_FIELDS}
        assert servos - declared.keys() == {f"servo.{robot.joint_names[0]}.stop_share"}
        quantities = ("mass", "inertia", "com_x", "com_y", "com_z")
        links = {f"link.{link}.{quantity}" for link in robot.model.link_names for quantity in quantities}
        assert links - declared.keys() == {f"link.{robot.model.link_names[0]}.com_z"}
        world.reset(Draw(values={f"servo.{robot.joint_names[-1]}.stop_share": 0.5}))
        assert np.array_equal(world._coupling.views.parameters[:, STOP_SHARE], [0.0] * (robot.n - 1) + [0.5])
