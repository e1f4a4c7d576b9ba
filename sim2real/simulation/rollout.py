"""One episode of a policy in the world, through the same interpolator and gate that drive a real arm.

`execution.py` is the way from a chunk to the servos, `environment.py` the same episode for learners that step.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.episode import Episode
from sim2real.errors import PolicyError, Sim2RealError, UserError
from sim2real.observation import Observation
from sim2real.parameters import Draw
from sim2real.policies.protocol import Policy, checked_chunk
from sim2real.policies.seeing import wanted_by
from sim2real.simulation.execution import Execution
from sim2real.simulation.world import World
from sim2real.task import Hold

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
    episode records. A policy with `pictures` gets those as well. The episode has succeeded when the task's condition
    has held for 0.5 s without interruption, and ends `linger` s later (infinite: it runs to its end). images: names of
    cameras to record at every policy step. A policy is told what is committed (`policies/committed.py`); one that is
    slower than its rate is not asked while it thinks, and given the observations of those steps if it has a method
    `watch`.

    `info` of the episode: "seconds" until it ended, "interventions" of the gate by name, "rejected_chunks" (as on
    the arm, the one before plays on) and by what was wrong with them "rejected_for", "latency_missed" (chunks that
    arrived after all of it was due).

    Raises UserError when the world has no task, a rate does not divide the physics rate, or the policy's first chunk
    has the wrong shape; PolicyError when the policy raises an exception.
    """
    task = world.task
    if task is None:
        raise UserError("a rollout needs a world with a task: World(robot, task)")
    robot = world.robot
    world.reset(draw)
    execution, hold = Execution(world), Hold()
    watch = getattr(policy, "watch", None)
    policy.reset(world.draw.seed)
    frames = round((task.duration if max_seconds is None else max_seconds) * robot.policy_rate)
    log = _Log(images)
    stage = -1
    succeeded_at = math.inf
    for step in range(frames + 1):
        time = execution.time
        truth = world.truth()
        if task.stages and step % STAGE_EVERY == 0:
            stage = max(stage, task.stages.index(task.stage(truth)))
        if hold.look(time, task.satisfied(truth)):
            succeeded_at = min(succeeded_at, time)
        if step == frames or time - succeeded_at >= linger:
            break
        observation = world.observe(privileged=privileged)
        told = observation | execution.entries()
        chunk = None
        if execution.ready:
            chunk = _act(policy, told | seen_by(policy, world))
            if step == 0:
                chunk = checked_chunk(chunk, policy, robot)
            if on_step is not None:
                on_step(step, observation, chunk)
        elif watch is not None:
            watch(told)
        for camera in images:
            log.images[camera].append(world.render(camera))
        log.add(time, observation, *execution.step(chunk))
    if task.stages:
        stage = max(stage, task.stages.index(task.stage(world.truth())))
    info: dict[str, Any] = {
        "seconds": world.time,
        "interventions": world.gate.counts,
        "rejected_chunks": sum(execution.rejected.values()),
        "rejected_for": dict(execution.rejected),
        "latency_missed": execution.missed,
    }
    episode = log.episode(robot.n, robot.policy_rate)
    episode.robot, episode.task, episode.draw, episode.info = robot.name, task.name, world.draw, info
    episode.success = hold.succeeded
    episode.stage = task.stages[stage] if stage >= 0 else ""
    return episode


def seen_by(policy: Policy, world: World) -> Observation:
    """The pictures that a policy asks for (`pictures`, as policy files declare them), as entries of an observation."""
    wanted = wanted_by(policy)
    if not wanted:
        return {}
    # The only entries that are not float64.
    seen: Observation = {key.entry: image for key, (image, _) in world.pictures(wanted).items()}  # type: ignore[misc]
    return seen | world.camera_places(wanted)


def _act(policy: Policy, observation: Observation) -> Array:
    """The policy's chunk. Raises PolicyError for whatever the policy raises, but for a user's mistakes."""
    try:
        return policy.act(observation)
    except UserError:
        raise
    except Sim2RealError as error:
        raise PolicyError(f"failed: {error}") from error
    except Exception as error:
        raise PolicyError(f"raised {type(error).__name__}: {error}") from error


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
