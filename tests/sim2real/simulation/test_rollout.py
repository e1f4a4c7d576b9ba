"""Episodes through interpolator, gate and servos."""

import numpy as np
import pytest

from sim2real.errors import PolicyError, UserError
from sim2real.gate.gate import Gate
from sim2real.parameters import Draw
from sim2real.policies.protocol import RandomPolicy, ZeroPolicy
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.task import HOLD
from sim2real.tasks.registry import load_task
from tests.sim2real.simulation.draws import random_draw


@pytest.mark.parametrize("privileged", [True, False])
@pytest.mark.parametrize("task", ["reach", "push", "lift"])
def test_experts_succeed_with_true_state_and_with_what_the_arm_sees(task: str, privileged: bool) -> None:
    with World("so101", load_task(task)) as world:
        episodes = [
            rollout(
                world,
                world.task.expert(world.robot),
                random_draw(world.parameters, seed, ("task.",)),
                privileged=privileged,
            )
            for seed in range(5)
        ]
    assert sum(bool(episode.success) for episode in episodes) >= 4
    for episode in episodes:
        if episode.success:
            assert episode.stage == world.task.stages[-1]
            # The condition held for half a second; no episode can be shorter.
            assert len(episode) >= HOLD * 30


def test_an_episode_records_equal_columns_at_the_policys_rate(push: World) -> None:
    episode = rollout(push, RandomPolicy(push.robot), Draw(seed=1), max_seconds=2.0)
    assert len(episode) == 60 and episode.fps == 30
    np.testing.assert_allclose(episode.time, np.arange(60) / 30, atol=1e-9)
    assert episode.state.shape == episode.action.shape == episode.executed.shape == (60, 6)
    assert episode.features["object.cube.position"].shape == (60, 3)
    assert (episode.task, episode.robot) == ("push", "so101")
    assert episode.success is False
    assert episode.info["interventions"]["ticks"] == 200
    assert episode.info["seconds"] == pytest.approx(2.0)
    # What was executed obeys the gate's limits.
    speed = np.abs(np.diff(episode.executed, axis=0)) * 30
    assert (speed <= push.robot.limits("velocity") + 1e-6).all()


def test_the_next_observation_carries_the_goal_that_was_sent(push: World) -> None:
    episode = rollout(push, RandomPolicy(push.robot), Draw(seed=1), max_seconds=1.0)
    np.testing.assert_array_equal(episode.features["joint_command"][1:], episode.executed[:-1])


def test_doing_nothing_fails_and_moves_nothing_but_droop(push: World) -> None:
    episode = rollout(push, ZeroPolicy(push.robot), Draw(), max_seconds=1.0)
    assert episode.success is False
    assert episode.stage == push.task.stages[0]
    assert np.abs(np.degrees(episode.state - push.robot.home)).max() < 4.0
    np.testing.assert_allclose(episode.executed, episode.executed[:1].repeat(30, axis=0), atol=1e-12)


class Step:
    """Asks for one fixed offset from the start on."""

    horizon = 10

    def __init__(self, robot, offset: float) -> None:  # type: ignore[no-untyped-def]
        self.goal = np.array(robot.home) + offset

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return np.tile(self.goal, (self.horizon, 1))


def test_latency_delays_what_the_policy_asks_for() -> None:
    with World("so101", load_task("reach")) as world:
        first = []
        for latency in (0.0, 0.03):
            episode = rollout(
                world, Step(world.robot, 0.1), Draw(values={"policy.latency": latency}), max_seconds=1.0
            )
            first.append(int(np.argmax(np.abs(episode.executed - episode.executed[0]).max(axis=1) > 0.02)))
    assert first[1] == first[0] + 1


def test_control_jitter_changes_when_but_not_how_many_ticks() -> None:
    with World("so101", load_task("reach")) as world:
        episodes = [
            rollout(world, Step(world.robot, 0.1), Draw(values={"control.jitter": jitter}), max_seconds=1.0)
            for jitter in (0.0, 0.006)
        ]
    assert [e.info["interventions"]["ticks"] for e in episodes] == [100, 100]
    assert np.abs(episodes[0].executed - episodes[1].executed).max() > 0
    assert [e.info["seconds"] for e in episodes] == pytest.approx([1.0, 1.0])


class Broken(Step):
    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        chunk = super().act(observation)
        if observation["joint_command"][0] > 0.03:
            chunk[3, 2] = np.nan
        return chunk


def test_chunks_that_are_not_finite_are_rejected_and_the_last_plays_out(push: World) -> None:
    episode = rollout(push, Broken(push.robot, 0.2), Draw(), max_seconds=2.0)
    assert episode.info["rejected_chunks"] > 10
    assert np.isfinite(episode.executed).all()


def test_chunks_of_the_wrong_shape_are_the_users_mistake(push: World) -> None:
    policy = Step(push.robot, 0.1)
    policy.goal = np.zeros(4)
    with pytest.raises(UserError, match="shape"):
        rollout(push, policy, Draw())


def test_a_world_without_a_task_cannot_roll_out(arm: World) -> None:
    with pytest.raises(UserError, match="task"):
        rollout(arm, ZeroPolicy(arm.robot), Draw())


def test_rates_must_divide() -> None:
    with (
        World("so101", load_task("reach"), physics_rate=240) as world,
        pytest.raises(UserError, match="multiple of the command rate"),
    ):
        rollout(world, ZeroPolicy(world.robot), Draw())


def test_the_gate_of_the_world_is_the_one_that_guards_the_arm(arm: World) -> None:
    assert isinstance(arm.gate, Gate)
    assert arm.gate is arm.gate


def test_images_and_steps_are_handed_out(push: World) -> None:
    seen = []
    episode = rollout(
        push,
        ZeroPolicy(push.robot),
        Draw(),
        max_seconds=0.1,
        images=("front",),
        on_step=lambda step, observation, chunk: seen.append((step, chunk.shape)),
    )
    assert episode.images["front"].shape == (3, 480, 640, 3)
    assert seen == [(0, (10, 6)), (1, (10, 6)), (2, (10, 6))]


def test_success_needs_the_condition_without_interruption(push: World) -> None:
    flips = iter([True] * 10 + [False] + [True] * 100)
    task = load_task("push")
    task.satisfied = lambda truth: next(flips)  # type: ignore[method-assign]
    task.stages = ()
    original, push.task = push.task, task
    try:
        episode = rollout(push, ZeroPolicy(push.robot), Draw())
    finally:
        push.task = original
    assert episode.success
    assert len(episode) == 11 + 15


@pytest.mark.parametrize(
    ("later", "said"),
    [
        (lambda home: np.full((10, 6), np.nan), "values that are not finite"),
        (lambda home: np.zeros((10, 7)), r"shape (10, 7) where (horizon, 6) is needed"),
        (lambda home: np.zeros(6), r"shape (6,) where (horizon, 6) is needed"),
        (lambda home: [[1.0], [1.0, 2.0]], "a list that is no array of numbers"),
        (lambda home: np.tile(home, (10, 1)).tolist(), ""),
    ],
)
def test_what_a_policy_returns_later_on_is_refused_as_on_the_arm_and_named(later, said: str) -> None:
    class Policy:
        horizon = 10

        def reset(self, seed: int) -> None:
            self.calls = 0

        def act(self, observation):
            self.calls += 1
            home = observation["joint_command"]
            return np.tile(home, (10, 1)) if self.calls == 1 else later(home)

    with World("so101", load_task("reach")) as world:
        info = rollout(world, Policy(), Draw(seed=1), max_seconds=0.2).info
    assert info["rejected_for"] == ({said: 5} if said else {})
    assert info["rejected_chunks"] == sum(info["rejected_for"].values())


def test_what_a_policy_raises_is_its_own_fault() -> None:
    class Policy:
        horizon = 10

        def reset(self, seed: int) -> None: ...

        def act(self, observation):
            raise KeyError("goal")

    with (
        World("so101", load_task("reach")) as world,
        pytest.raises(PolicyError, match="raised KeyError: 'goal'"),
    ):
        rollout(world, Policy(), Draw(seed=1))
