"""One episode of a policy in the world, through the same interpolator and gate that drive a real arm.

    policy (30 Hz) → Chunk → ChunkPlayer → Gate (100 Hz) → servos (physics rate)

Time is counted in physics steps: policy and command clock stay in phase for ever.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.chunks import Chunk, ChunkPlayer
from sim2real.episode import Episode
from sim2real.errors import Sim2RealError, UserError
from sim2real.observation import Observation
from sim2real.parameters import Draw
from sim2real.policies.protocol import Policy, checked_chunk
from sim2real.simulation.world import World
from sim2real.task import HOLD

Array = NDArray[np.float64]

STAGE_EVERY = 3
"""Policy steps between two looks at how far the episode has come."""

OnStep = Callable[[int, Observation, Array], None]
"""Called with the number of the policy step, the observation and the chunk (H, n), before it is executed."""


def rollout(
    world: World,
    policy: Policy,
    draw: Draw | None = None,
    *,
    privileged: bool = False,
    max_seconds: float | None = None,
    linger: float = 0.0,
    images: Sequence[str] = (),
    on_step: OnStep | None = None,
) -> Episode:
    """Reset the world to `draw` and run `policy` in it for the task's duration or `max_seconds`.

    privileged: the policy is given the true state (experts) instead of what sensors say; that is also what the
    episode records. The episode has succeeded when the task's condition has held for 0.5 s without interruption, and
    ends `linger` s later (infinite: it runs to its end). images: names of cameras to record at every policy step.

    `info` of the episode: "seconds" until it ended, "interventions" of the gate by name, "rejected_chunks"
    (not finite), "latency_missed" (chunks that arrived after all of it was due).

    Raises UserError when the world has no task, a rate does not divide the physics rate, or the policy returns
    chunks of the wrong shape.
    """
    task = world.task
    if task is None:
        raise UserError("a rollout needs a world with a task: World(robot, task)")
    robot = world.robot
    per_policy = _whole(world.physics_rate, robot.policy_rate, "policy")
    per_tick = _whole(world.physics_rate, robot.command_rate, "command")
    dt, period = 1.0 / world.physics_rate, 1.0 / robot.policy_rate
    world.reset(draw)
    gate, player = world.gate, ChunkPlayer()
    gate.reset(world.goal)
    player.reset(world.goal, 0.0)
    policy.reset(world.draw.seed)
    inbox = _Inbox(player, world)
    frames = round((task.duration if max_seconds is None else max_seconds) * robot.policy_rate)
    lateness = world.values["control.jitter"]
    needed = HOLD - 1e-9
    log = _Log(images)
    stage = -1
    held_since: float | None = None
    succeeded_at = math.inf
    for step in range(frames):
        now = step * per_policy
        time = now * dt
        truth = world.truth()
        if task.stages and step % STAGE_EVERY == 0:
            stage = max(stage, task.stages.index(task.stage(truth)))
        if not task.satisfied(truth):
            held_since = None
        elif held_since is None:
            held_since = time
        elif time - held_since >= needed:
            succeeded_at = min(succeeded_at, time)
        if time - succeeded_at >= linger:
            break
        observation = world.observe(privileged=privileged)
        chunk = policy.act(observation)
        if step == 0:
            chunk = checked_chunk(chunk, policy, robot)
        if on_step is not None:
            on_step(step, observation, chunk)
        inbox.put(Chunk(time, period, chunk))
        for camera in images:
            log.images[camera].append(world.render(camera))
        end = now + per_policy
        tick = -(-now // per_tick) * per_tick
        if tick > now:
            world.advance(None, tick - now)
        request = executed = world.goal
        while tick < end:
            steps = min(per_tick, end - tick)
            late = 0
            if lateness > 0.0:
                late = min(round(lateness * world.physics_rate * float(world.policy_rng.random())), steps)
                if late:
                    world.advance(None, late)
            inbox.deliver((tick + late) * dt)
            request = player.sample((tick + late) * dt)
            gate.step(request)
            executed = gate.position
            world.advance(executed, steps - late)
            tick += per_tick
        log.add(time, observation, request, executed)
    if task.stages:
        stage = max(stage, task.stages.index(task.stage(world.truth())))
    info: dict[str, Any] = {
        "seconds": world.time,
        "interventions": gate.counts,
        "rejected_chunks": inbox.rejected,
        "latency_missed": inbox.missed,
    }
    episode = log.episode(robot.n, robot.policy_rate)
    episode.robot, episode.task, episode.draw, episode.info = robot.name, task.name, world.draw, info
    episode.success = succeeded_at < math.inf
    episode.stage = task.stages[stage] if stage >= 0 else ""
    return episode


class _Inbox:
    """Chunks on their way from the policy to the player: they take the policy's latency."""

    def __init__(self, player: ChunkPlayer, world: World) -> None:
        self._player = player
        self._latency, self._jitter = world.values["policy.latency"], world.values["policy.jitter"]
        self._rng = world.policy_rng
        self._waiting: list[tuple[float, Chunk]] = []
        self.rejected = 0
        self.missed = 0

    def put(self, chunk: Chunk) -> None:
        delay = self._latency
        if self._jitter > 0.0:
            delay += self._jitter * float(self._rng.random())
        self._waiting.append((chunk.start + delay, chunk))

    def deliver(self, time: float) -> None:
        """Hand over what has arrived by `time`, in order."""
        while self._waiting and self._waiting[0][0] <= time + 1e-9:
            chunk = self._waiting.pop(0)[1]
            try:
                self.missed += not self._player.add(chunk, time)
            except Sim2RealError:
                # As on the arm: a chunk that is not finite is a fault, the one in force plays on.
                self.rejected += 1


class _Log:
    """Rows of the episode."""

    def __init__(self, images: Sequence[str]) -> None:
        self.images: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in images}
        self._times: list[float] = []
        self._observations: list[Observation] = []
        self._requested: list[Array] = []
        self._executed: list[Array] = []

    def add(self, time: float, observation: Observation, requested: Array, executed: Array) -> None:
        self._times.append(time)
        self._observations.append(observation)
        self._requested.append(requested)
        self._executed.append(executed)

    def episode(self, n: int, fps: float) -> Episode:
        rows = self._observations
        keys = [key for key in rows[0] if key != "joint_position"] if rows else []
        return Episode(
            time=np.array(self._times),
            state=np.array([row["joint_position"] for row in rows]).reshape(-1, n),
            action=np.array(self._requested).reshape(-1, n),
            executed=np.array(self._executed).reshape(-1, n),
            fps=float(fps),
            features={key: np.array([row[key] for row in rows]) for key in keys},
            images={name: np.array(frames) for name, frames in self.images.items()},
        )


def _whole(physics: int, rate: int, what: str) -> int:
    if physics % rate:
        raise UserError(
            f"the physics rate must be a multiple of the {what} rate, got {physics} and {rate} Hz; "
            f"use for example {rate * max(1, round(physics / rate))} Hz"
        )
    return physics // rate
