"""The tasks as Gymnasium environments, for those who bring a learner of their own. docs/gymnasium.md says more.

    import gymnasium
    import sim2real.simulation.environment          # registers sim2real/Reach-v0, Push-v0, Lift-v0

    env = gymnasium.make("sim2real/Lift-v0")
    observation, info = env.reset(seed=1)

One step is one policy period (1/30 s), or more where a draw's latency exceeds it: the agent is asked again when it has
answered. Latency, interpolator, gate and servos are those of `rollout`, which gives the same episode to the bit. The
observation is the task's features as one vector, from what sensors say
(`privileged=True`: from the true state). The action moves the goals of the joints from where they were last sent:
a[i] in -1 … 1 is a share of what the joint's speed limit allows in one period. Every episode has a draw of its own from
`space`, by default from the parameters' own ranges (`randomize=False`: nominal, with only the task drawn).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.observation import flatten
from sim2real.parameters import Draw, Parameter, load_twin, unseen
from sim2real.policies.actions import ActionScale
from sim2real.policies.protocol import HORIZON
from sim2real.robot import Robot
from sim2real.task import Hold, Task
from sim2real.tasks.registry import load_task, task_names

BOUND = 100.0
"""Larger than any angle (rad), length (m) or age (s) that is observed: Gymnasium wants finite bounds."""

OPTIONS = ("draw",)
"""What `reset` takes in `options`."""


class BoundDraws(Protocol):
    """A space over the parameters of one world."""

    def draw(self, index: int, seed: int = 0) -> Draw:
        """One independent draw."""


class Draws(Protocol):
    """What an environment needs of a `randomization.Space`."""

    def bind(self, parameters: Mapping[str, Parameter]) -> BoundDraws:
        """The space over these parameters. Raises UserError for entries that match none."""


class TaskEnvironment(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """See the module docstring.

    task, robot: names, paths or objects. randomize: draw every parameter that has a default range. space: draw from
    this `Space` instead. twin: nominal values by name, or the file that `identify` wrote. horizon: policy periods for
    which an action is worth waiting for (see `policies/actions.py`). max_seconds: the task's duration by default.
    render_mode: "rgb_array", of `camera` (the robot's first).

    An episode terminates when the task's condition has held for 0.5 s, and is truncated after `max_seconds`.
    `info["success"]` says whether it has succeeded, `info["stage"]` how far it is, `info["draw"]` (JSON) what was
    drawn: `reset(options={"draw": info["draw"]})` replays it.

    Raises UserError for what is not known or cannot be.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012  (Gymnasium's own convention)

    def __init__(
        self,
        task: str | Task = "reach",
        robot: str | Path | Robot = "so101",
        *,
        randomize: bool = True,
        space: Draws | None = None,
        twin: str | Path | Mapping[str, float] | None = None,
        privileged: bool = False,
        horizon: int = HORIZON,
        max_seconds: float | None = None,
        render_mode: str | None = None,
        camera: str | None = None,
    ) -> None:
        # Imported here, so that registering does not load PyBullet.
        from sim2real.simulation.execution import Execution
        from sim2real.simulation.world import World

        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        if space is not None and not hasattr(space, "bind"):
            raise UserError(
                f"space takes a Space, got {space!r}; `Space.load(path)` of the package randomization reads a file"
            )
        self.robot = Robot.load(robot)
        self.task = load_task(task, joints=self.robot.n)
        self.render_mode = render_mode
        self.camera = self._camera(camera)
        self._scale = ActionScale(self.robot, horizon)
        seconds = self.task.duration if max_seconds is None else max_seconds
        self._most = round(seconds * self.robot.policy_rate)
        if self._most < 1:
            raise UserError(f"an episode needs at least one policy period, got max_seconds={max_seconds}")
        self.metadata = {**self.metadata, "render_fps": self.robot.policy_rate}
        size = sum(feature.size for feature in self.task.features)
        self.observation_space = spaces.Box(-BOUND, BOUND, (size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (self.robot.n,), np.float32)
        self._randomize, self._privileged = randomize, privileged
        nominal = load_twin(twin) if isinstance(twin, str | Path) else twin
        self.world = World(self.robot, self.task, nominal=nominal)
        try:
            self._space = None if space is None else space.bind(self._drawable)
        except BaseException:
            self.close()
            raise
        self._execution, self._hold, self._steps = Execution(self.world), Hold(), 0

    @property
    def _drawable(self) -> Mapping[str, Parameter]:
        """The world's parameters; those that only change pictures have no range of their own when there are none."""
        return self.world.parameters if self.render_mode is not None else unseen(self.world.parameters)

    def _camera(self, wanted: str | None) -> str:
        from sim2real.camera_placement import DETECTOR_CAMERA

        known = list(self.robot.cameras) or [DETECTOR_CAMERA]
        if wanted is not None and wanted not in known:
            raise UserError(f"{self.robot.name} has no camera '{wanted}'; known are {', '.join(known)}")
        return wanted or known[0]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode. Its draw follows from `seed`, or is `options["draw"]`: a Draw, or what `info["draw"]` was.

        Raises UserError for other options and for draws that cannot be.
        """
        super().reset(seed=seed)
        unknown = [name for name in options or {} if name not in OPTIONS]
        if unknown:
            raise UserError(
                f"reset knows no option '{unknown[0]}'; allowed is {', '.join(OPTIONS)} (parameters of the scene are "
                'part of a draw: options={"draw": Draw(values={"task.goal.height": 0.1})})'
            )
        given = (options or {}).get("draw")
        self.world.reset(self._drawn() if given is None else _as_draw(given))
        self._execution.begin()
        self._hold, self._steps = Hold(), 0
        return self._observe(), self._judge()[1]

    def _drawn(self) -> Draw:
        if self._space is not None:
            return self._space.draw(0, seed=int(self.np_random.integers(2**31)))
        prefix = None if self._randomize else "task."
        return random_draw(
            self.world.parameters, self.np_random, prefix=prefix, visual=self.render_mode is not None
        )

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One policy period, or as many as the answer takes when it comes later: their rewards add up.

        Raises UserError for actions that are not finite or of the wrong size.
        """
        wanted = np.asarray(action, dtype=np.float64)
        if wanted.shape != (self.robot.n,) or not np.isfinite(wanted).all():
            raise UserError(f"an action needs {self.robot.n} finite numbers, got {action}")
        chunk: NDArray[np.float64] | None = self._scale.chunk(self.world.goal, wanted)
        total, over = 0.0, False
        while not over:
            self._execution.step(chunk)
            chunk = None
            self._steps += 1
            reward, info = self._judge()
            total += reward
            observation = self._observe()  # in every period, as sensors do: their noise and age go on
            over = info["success"] or self._steps >= self._most or self._execution.ready
        success = info["success"]
        return observation, total, success, not success and self._steps >= self._most, info

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """(height, width, 3) picture of the camera; None without `render_mode`."""
        if self.render_mode is None:
            return None
        return self.world.render(self.camera)

    def close(self) -> None:
        self.world.close()

    def _observe(self) -> NDArray[np.float32]:
        observation = self.world.observe(privileged=self._privileged)
        return flatten(observation, self.task.features).clip(-BOUND, BOUND)

    def _judge(self) -> tuple[float, dict[str, Any]]:
        """The reward and the information of this moment."""
        truth = self.world.truth()
        self._hold.look(self._execution.time, self.task.satisfied(truth))
        return float(self.task.reward(truth)), {
            "success": self._hold.succeeded,
            "stage": self.task.stage(truth),
            "draw": self.world.draw.to_json(),
        }


def _as_draw(given: object) -> Draw:
    """A draw, or its JSON. Raises UserError for anything else."""
    if isinstance(given, Draw):
        return given
    try:
        if isinstance(given, str):
            return Draw.from_json(given)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"options['draw'] is not the JSON of a draw ({error}): {given!r:.200}") from None
    raise UserError(
        f"options['draw'] takes a Draw or the text that info['draw'] was, got a {type(given).__name__}"
    )


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


def register(key: str, task: str | Task, robot: str | Path | Robot = "so101", **options: Any) -> None:
    """Register an environment of your own task or robot as `key` ("mine/Stack-v0"), in the place of one of this name.

    `options` are those of `TaskEnvironment`. Processes of a vectorized environment register it only when they import
    the module that does: gymnasium.make takes "my_module:mine/Stack-v0" for this.
    """
    gymnasium.registry.pop(key, None)
    gymnasium.register(
        key,
        entry_point="sim2real.simulation.environment:TaskEnvironment",
        kwargs={"task": task, "robot": robot, **options},
    )


for _name in task_names():
    register(f"sim2real/{_name.capitalize()}-v0", _name)
