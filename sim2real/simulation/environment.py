"""The tasks as Gymnasium environments, for those who bring a learner of their own.

    import gymnasium
    import sim2real.simulation.environment          # registers sim2real/Reach-v0, Push-v0, Lift-v0

    env = gymnasium.make("sim2real/Lift-v0")
    observation, info = env.reset(seed=1)

One step is one policy period (1/30 s) through the same interpolator and gate as everywhere. The observation is
the task's features as one vector, from what sensors say (`privileged=True`: from the true state). The action
moves the goals of the joints: a[i] in −1 … 1 is the joint's speed as a share of the gate's limit. Every episode
has a draw of its own from the parameters' default ranges (`randomize=False`: nominal, with only the task drawn).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sim2real.chunks import Chunk, ChunkPlayer
from sim2real.errors import UserError
from sim2real.observation import Observation, flatten
from sim2real.parameters import Draw, Parameter
from sim2real.robot import Robot
from sim2real.task import HOLD, Task
from sim2real.tasks.registry import load_task, task_names

Array = NDArray[np.float64]

BOUND = 100.0
"""Larger than any angle (rad), length (m) or age (s) that is observed: Gymnasium wants finite bounds."""


class TaskEnvironment(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """See the module docstring.

    task, robot: names, paths or objects. randomize: draw every parameter that has a default range.
    `reset(options={"draw": Draw(...)})` replays a draw. An episode terminates when the task's condition has held
    for 0.5 s; `info["success"]` says so, `info["stage"]` how far it came. The registered environments truncate
    after the task's duration. Raises UserError for unknown tasks and robots.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012  (Gymnasium's own convention)

    def __init__(
        self,
        task: str | Task = "reach",
        robot: str | Robot = "so101",
        *,
        randomize: bool = True,
        privileged: bool = False,
        render_mode: str | None = None,
    ) -> None:
        # Imported here, so that registering does not load PyBullet.
        from sim2real.simulation.world import World

        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self.robot = Robot.load(robot)
        self.task = load_task(task, joints=self.robot.n)
        self.render_mode = render_mode
        self.world = World(self.robot, self.task)
        self._randomize, self._privileged = randomize, privileged
        self._clock = _Clock(self.world.physics_rate, self.robot.policy_rate, self.robot.command_rate)
        self._player = ChunkPlayer()
        self._reach = self.robot.limits("velocity") / self.robot.policy_rate
        size = sum(feature.size for feature in self.task.features)
        self.observation_space = spaces.Box(-BOUND, BOUND, (size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (self.robot.n,), np.float32)
        self._steps = 0
        self._held = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; its draw follows from `seed`, or is `options["draw"]`."""
        super().reset(seed=seed)
        draw = (options or {}).get("draw")
        if draw is None:
            names = None if self._randomize else "task."
            draw = random_draw(
                self.world.parameters, self.np_random, prefix=names, visual=self.render_mode is not None
            )
        self.world.reset(draw)
        self.world.gate.reset(self.world.goal)
        self._player.reset(self.world.goal, 0.0)
        self._steps, self._held = 0, 0.0
        return self._observe(), self._info(False)

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One policy period. Raises UserError for actions that are not finite or of the wrong size."""
        wanted = np.asarray(action, dtype=np.float64)
        if wanted.shape != (self.robot.n,) or not np.isfinite(wanted).all():
            raise UserError(f"an action needs {self.robot.n} finite numbers, got {action}")
        goal = self.world.goal + np.clip(wanted, -1.0, 1.0) * self._reach
        goal = np.clip(goal, self.robot.lower, self.robot.upper)
        time = self.world.time
        self._player.add(Chunk(time, 1.0 / self.robot.policy_rate, goal[None, :]), time)
        for tick, steps in self._clock.ticks(self._steps):
            if tick is None:
                self.world.advance(None, steps)
            else:
                self.world.gate.step(self._player.sample(tick))
                self.world.advance(self.world.gate.position, steps)
        self._steps += 1
        truth = self.world.truth()
        satisfied = self.task.satisfied(truth)
        self._held = self._held + 1.0 / self.robot.policy_rate if satisfied else 0.0
        success = self._held >= HOLD - 1e-9
        return self._observe(), self.task.reward(truth), success, False, self._info(success)

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """(height, width, 3) picture of the robot's first camera; None without `render_mode`."""
        if self.render_mode is None:
            return None
        return self.world.render()

    def close(self) -> None:
        self.world.close()

    def _observe(self) -> NDArray[np.float32]:
        observation: Observation = self.world.observe(privileged=self._privileged)
        return flatten(observation, self.task.features).clip(-BOUND, BOUND)

    def _info(self, success: bool) -> dict[str, Any]:
        return {
            "success": success,
            "stage": self.task.stage(self.world.truth()),
            "draw": self.world.draw.to_json(),
        }


@dataclass(frozen=True)
class _Clock:
    """When, in physics steps, the command ticks of a policy period fall."""

    physics: int
    policy: int
    command: int

    def ticks(self, step: int) -> list[tuple[float | None, int]]:
        """For policy period `step`: (time s of a tick, or None before the first; physics steps until the next)."""
        per_policy, per_tick = self.physics // self.policy, self.physics // self.command
        now, end = step * per_policy, (step + 1) * per_policy
        first = -(-now // per_tick) * per_tick
        parts: list[tuple[float | None, int]] = [(None, first - now)] if first > now else []
        for tick in range(first, end, per_tick):
            parts.append((tick / self.physics, min(per_tick, end - tick)))
        return parts


def random_draw(
    parameters: Mapping[str, Parameter],
    rng: np.random.Generator,
    prefix: str | None = None,
    visual: bool = True,
) -> Draw:
    """A draw of every randomized parameter (or of those whose name starts with `prefix`), independently.

    Without `visual` those that only change pictures stay nominal; all others are the same as with them.
    """
    values = {}
    for name, p in parameters.items():
        if not p.randomized or (prefix is not None and not name.startswith(prefix)):
            continue
        if p.scale == "log":
            value = float(np.exp(rng.uniform(np.log(p.low), np.log(p.high))))
        else:
            value = float(rng.uniform(p.low, p.high))
        if visual or not p.visual:
            values[name] = value
    return Draw(seed=int(rng.integers(2**31)), values=values)


def register() -> None:
    """Register `sim2real/<Task>-v0` for the tasks that ship with the package; harmless when done before."""
    rate = Robot.load("so101").policy_rate
    for name in task_names():
        key = f"sim2real/{name.capitalize()}-v0"
        if key not in gymnasium.registry:
            gymnasium.register(
                key,
                entry_point="sim2real.simulation.environment:TaskEnvironment",
                max_episode_steps=round(load_task(name).duration * rate),
                kwargs={"task": name},
            )


register()
