"""What a run on an arm was asked for, understood and checked before anything is opened."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.remote import is_remote, offered
from sim2real.calibration import Calibration
from sim2real.errors import UserError
from sim2real.robot import Robot
from sim2real.tasks.base import Task, load_task

Array = NDArray[np.float64]

EMULATED = "emulated"
"""The port that starts an emulated arm."""


@dataclass(frozen=True)
class Options:
    """What `deploy` and `record` were asked for; names as on the command line."""

    command: str
    port: str
    out: str
    policy: str = "expert"
    task: str | None = None
    robot: str = "so101"
    calibration: str | None = None
    camera: tuple[str, ...] = ()
    cameras: str | None = None
    goal: str | None = None
    episodes: int | None = None
    seconds: float | None = None
    before_episode: str | None = None
    success: str | None = None
    seed: int = 0
    speed: float = 1.0
    dry_run: bool = False
    yes: bool = False
    record: bool = False
    estop: tuple[str, ...] = ()
    operator_timeout: float | None = None
    on_fault: str | None = None

    def __post_init__(self) -> None:
        if self.episodes is not None and self.seconds is not None:
            raise UserError("--episodes and --seconds exclude each other: give one of them")
        if self.episodes is not None and self.episodes < 1:
            raise UserError(f"--episodes must be at least 1, got {self.episodes}")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise UserError(f"--seconds must be positive, got {self.seconds}")
        if not 0 < self.speed <= 1:
            raise UserError(f"--speed scales the limits and must be in (0, 1], got {self.speed}")
        if self.operator_timeout is not None and not 0 < self.operator_timeout < float("inf"):
            raise UserError(f"--operator-timeout must be positive, got {self.operator_timeout}")


@dataclass(frozen=True)
class Setup:
    """The request, understood and checked; nothing has been opened yet."""

    options: Options
    robot: Robot
    task: Task
    task_name: str
    policy: Mapping[str, Any]
    """What is known of the policy: its name, and hash and provenance of a file."""
    goal: Array | None
    pictures: tuple[str, ...] = ()
    """Cameras whose pictures the policy itself wants to see."""


def prepare(options: Options) -> Setup:
    """Everything that can be found wrong without touching the arm."""
    robot = Robot.load(options.robot)
    policy: dict[str, Any] = {"policy": options.policy}
    task_name = options.task
    pictures: tuple[str, ...] = ()
    if options.policy.endswith(".onnx") or Path(options.policy).is_file():
        from hardware.policy_file import load_policy_file

        file = load_policy_file(options.policy)
        file.check(robot)
        task_name = task_name or file.info.task
        file.check(robot, load_task(task_name))
        policy |= {"sha256": file.sha256, "provenance": dict(file.info.provenance)}
    elif is_remote(options.policy):
        offer = offered(options.policy, robot)
        task_name, pictures = task_name or offer.task, offer.pictures
        policy |= {"server": asdict(offer)}
    if task_name is None:
        raise UserError(
            f"the policy '{options.policy}' does not say what it is for: add --task "
            "(policy files, and servers that want to, know their task)"
        )
    task = load_task(task_name)
    goal = None if options.goal is None else parse_goal(options.goal, robot)
    if options.calibration is not None:
        Calibration.load(options.calibration, robot)
    return Setup(options, robot, task, task_name, policy, goal, pictures)


def parse_goal(text: str, robot: Robot) -> Array:
    """(3,) m from "x,y,z". Raises UserError for anything else, and for a place that the arm cannot reach."""
    try:
        goal = np.array([float(part) for part in text.split(",")])
    except ValueError:
        goal = np.zeros(0)
    if goal.shape != (3,) or not np.isfinite(goal).all():
        raise UserError(f"--goal takes x,y,z in metres in the robot's base frame, got '{text}'")
    distance = float(np.linalg.norm(goal))
    if distance > robot.gate.reach or goal[2] < 0:
        raise UserError(
            f"--goal {text} is out of reach: {robot.name} works up to {robot.gate.reach} m from its base, above "
            f"its table (z = 0); the goal is {distance:.2f} m away at z = {goal[2]:g} m"
        )
    return goal


def goals_of(setup: Setup) -> Callable[[int], Array | None]:
    """The goal of episode i: the one given, one drawn from the task's distribution, or None (the camera's)."""
    task, seed = setup.task, setup.options.seed
    if setup.goal is not None:
        return lambda i: setup.goal
    if "mark" in task.objects or not any(feature.name == "goal" for feature in task.features):
        return lambda i: None

    def drawn(i: int) -> Array:
        rng = np.random.default_rng([seed, i])
        values = {p.name: rng.uniform(p.low, p.high) for p in task.scene_parameters()}
        return np.array(task.setup(values, rng).goal)

    return drawn


def objects_to_see(setup: Setup) -> frozenset[str]:
    """What the camera must find: the cube, and the mark unless the goal was given."""
    return setup.task.objects - ({"mark"} if setup.goal is not None else set())
