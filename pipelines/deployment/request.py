"""What a run on an arm was asked for, understood and checked before anything is opened."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.safety.estop_line import reader
from hardware.runtime.sessions.playback import Trajectory
from hardware.runtime.sessions.terminal import Terminal, input_descriptor
from hardware.runtime.sources.teleop import check_joints
from pipelines.runs import require_own, require_unused
from sim2real.calibration import Calibration
from sim2real.errors import UserError
from sim2real.lerobot.schema import NOTES_FILE
from sim2real.objects import ObjectSpec, without_joints
from sim2real.pictures import PictureInput
from sim2real.policies.load import kind_of
from sim2real.policies.remote import offered
from sim2real.robot import Robot
from sim2real.task import Task
from sim2real.tasks.registry import (
    load_task,
    name_from_outside,
    split,
    task_names,
    trained_with,
    with_flags,
)
from sim2real.text import printable

Array = NDArray[np.float64]

EMULATED = "emulated"
"""The port that starts an emulated arm."""

CORRECTIONS = "corrections"

SLOWEST = 0.01
"""Least share of the gate's limits. An arm that is lowered takes a minute at it; far below nothing seems to move, and
what has come to rest could not be told from what goes on."""


@dataclass(frozen=True)
class Options:
    """What `deploy`, `record` and `play` were asked for; names as on the command line."""

    command: str
    port: str
    out: str
    policy: str | None = None
    task: str | None = None
    object: tuple[str, ...] = ()
    """What `--object` says."""
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
    leader: str | None = None
    leader_calibration: str | None = None
    leader_robot: str | None = None
    hand: bool = False
    keyboard: bool = False
    reset_time: float | None = None
    collect: str | None = None
    """What is recorded while a policy acts: "corrections", by a person who takes over with `leader` or keys."""
    dataset: str | None = None
    episode: int = 0
    view: str | None = None
    show_to: str | None = None
    """The camera to which the arm shows a card, as `calibrate-camera` has it do."""
    ros2: bool = False
    """Whether goals come from ROS 2."""

    @property
    def acts(self) -> str:
        """Who acts: "policy", "leader", "hand", "keyboard", "episode" (a recorded one), "survey" (it shows
        a card to a camera) or "ros2"."""
        if self.ros2:
            return "ros2"
        if self.show_to is not None:
            return "survey"
        if self.dataset is not None:
            return "episode"
        if self.collect is not None:
            return "policy"
        return "leader" if self.leader else "hand" if self.hand else "keyboard" if self.keyboard else "policy"

    @property
    def manual(self) -> bool:
        """Whether a person acts."""
        return self.acts in ("leader", "hand", "keyboard")

    @property
    def adds(self) -> bool:
        """Whether its recording may go on in a folder that has one."""
        return self.command in RECORDING or self.collect is not None

    def __post_init__(self) -> None:
        given = [
            flag
            for flag, value in (
                ("--policy", self.policy), ("--leader", self.leader), ("--hand", self.hand),
                ("--keyboard", self.keyboard), ("--dataset", self.dataset),
            )
            if value
        ]  # fmt: skip
        if self.collect not in (None, CORRECTIONS):
            raise UserError(f"--collect takes '{CORRECTIONS}', got '{self.collect}'")
        if self.collect and (self.dry_run or self.hand or self.keyboard or self.dataset):
            raise UserError(
                "--collect corrections is for a policy that moves the arm and a person who takes over with --leader "
                "PORT, or with keys where there is none; it excludes --dry-run"
            )
        if self.collect:
            given = [flag for flag in given if flag not in ("--policy", "--leader")]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} exclude each other: only one of them can move the arm")
        if not self.leader and (self.leader_calibration or self.leader_robot):
            raise UserError("--leader-calibration and --leader-robot describe the leader: give --leader PORT")
        if self.leader is not None and self.leader == self.port != EMULATED:
            raise UserError(f"--leader and --port are both {self.port}: leader and follower need a port each")
        if self.reset_time is not None and not (self.manual and 0 <= self.reset_time < float("inf")):
            raise UserError(
                "--reset-time is the time between episodes that a person drives, 0 s or more; it goes with "
                f"--leader, --hand or --keyboard, got {self.reset_time}"
            )
        if self.episodes is not None and self.seconds is not None and not self.manual:
            raise UserError("--episodes and --seconds exclude each other: give one of them")
        if self.episodes is not None and self.episodes < 1:
            raise UserError(f"--episodes must be at least 1, got {self.episodes}")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise UserError(f"--seconds must be positive, got {self.seconds}")
        if not SLOWEST <= self.speed <= 1:
            raise UserError(f"--speed scales the limits and must be from {SLOWEST} to 1, got {self.speed}")
        if self.operator_timeout is not None and not 0 < self.operator_timeout < float("inf"):
            raise UserError(f"--operator-timeout must be positive, got {self.operator_timeout}")


@dataclass(frozen=True)
class Setup:
    """The request, understood and checked; nothing has been opened yet."""

    options: Options
    robot: Robot
    task: Task | None
    """None where a person does something that is no task of ours."""
    task_name: str
    policy: Mapping[str, Any]
    """What is known of the policy: its name, and hash and provenance of a file."""
    goal: Array | None
    pictures: tuple[str, ...] = ()
    """Cameras whose pictures the policy itself wants to see."""
    sees: tuple[PictureInput, ...] = ()
    """What a policy from a file sees of them."""
    motion: Trajectory | None = None
    """What is to be played."""

    @property
    def name(self) -> str:
        """What the task is called."""
        return self.task_name if self.task is None else self.task.name

    @property
    def actor(self) -> str:
        """The policy's name, or what acts in its place."""
        return str(self.policy["policy"])


def prepare(options: Options) -> Setup:
    """Everything that can be found wrong without touching the arm."""
    _check_out(options)
    if options.operator_timeout is not None and not Terminal.available():
        raise UserError("--operator-timeout waits for keys of an operator: start it on a terminal")
    if options.collect and input_descriptor() < 0:
        raise UserError(
            "--collect corrections needs somebody who takes over: start it on a terminal, or with keys as lines on "
            "standard input, which is neither"
        )
    for spec in options.estop:
        reader(spec)  # refuses one that cannot be read
    robot = Robot.load(options.robot)
    goal = None if options.goal is None else parse_goal(options.goal, robot)
    if options.calibration is not None:
        Calibration.load(options.calibration, robot)
    if options.view is not None:
        from pipelines.deployment.browser_view import asked_for, port_of
        from pipelines.deployment.view import check_viewer

        if asked_for(options.view):
            port_of(options.view)
        else:
            check_viewer()
    if options.leader is not None:
        leader = Robot.load(options.leader_robot or options.robot)
        check_joints(leader, robot)
        if options.leader_calibration is not None:
            Calibration.load(options.leader_calibration, leader)
    if options.acts == "policy":
        return _prepare_policy(options, robot, goal)
    policy: dict[str, Any] = {"policy": options.acts}
    if options.dataset is not None:
        motion, name, policy["dataset"] = _recorded(options, robot)
        return Setup(options, robot, None, name, policy, goal, motion=motion)
    name = options.task or options.acts
    if options.object:
        if _known_task(name, robot) is None:
            raise UserError(
                f"--object changes the objects of a task, and '{printable(name)}' is none that is known "
                f"({', '.join(task_names())}); leave it out, or give --task"
            )
        name = with_flags(name, options.object)
    pictures = () if options.show_to is None else (options.show_to,)
    return Setup(options, robot, _known_task(name, robot), name, policy, goal, pictures)


RESULTS = ("result.json", "episodes.parquet", "log.parquet")
OWN = ("config.json", *RESULTS, "report.html")
"""What a run leaves in its folder."""

RECORDING = ("record", "excite")
"""Commands that add to a data set, which may be one that is there."""


def _check_out(options: Options) -> None:
    """Raise UserError where something lies that ours would replace."""
    if options.command in RECORDING:
        require_own(options.out, RECORDING, OWN)
    else:
        require_own(options.out, (options.command,), OWN)
        if not options.adds:
            require_unused(options.out, RESULTS)
        elif (Path(options.out) / "result.json").exists() and not (Path(options.out) / NOTES_FILE).exists():
            require_unused(options.out, RESULTS)  # of a run that recorded nothing


def _known_task(name: str, robot: Robot) -> Task | None:
    """The task of this name; None where it only says what is done."""
    if split(name)[0] in task_names() or ":" in name:
        return load_task(name, robot.n)
    return None


def _recorded(options: Options, robot: Robot) -> tuple[Trajectory, str, dict[str, Any]]:
    """The episode to play, its task, and where it comes from. Raises UserError when it is another robot's."""
    from sim2real.lerobot import LeRobotDataset
    from sim2real.lerobot.robots import is_unknown

    assert options.dataset is not None
    data = LeRobotDataset.open(options.dataset)
    other = data.notes.get("robot", robot.name)
    if other != robot.name:
        raise UserError(
            f"{options.dataset} was recorded on {other}, this is {robot.name}: angles of one arm mean nothing to "
            f"another; give --robot {other} with such an arm"
        )
    if is_unknown(data):
        raise UserError(
            f"{options.dataset} was recorded on '{data.robot_type}', which is not known to be a {robot.name}: angles "
            "of one arm mean nothing to another; if its arm is one, say so in its meta/info.json (robot_type)"
        )
    if not 0 <= options.episode < len(data):
        raise UserError(
            f"--episode {options.episode} is not in {options.dataset}: it has {len(data)} episodes, from 0"
        )
    episode = data.episode(options.episode, robot)
    source = {"path": str(options.dataset), "episode": options.episode, "frames": len(episode)}
    return Trajectory.of(episode, robot.command_rate, options.speed), episode.task, source


def _prepare_policy(options: Options, robot: Robot, goal: Array | None) -> Setup:
    spec = options.policy or "expert"
    policy: dict[str, Any] = {"policy": spec}
    task_name = options.task
    pictures: tuple[str, ...] = ()
    sees: tuple[PictureInput, ...] = ()
    kind = kind_of(spec)
    if kind == "file":
        from sim2real.policies.file import load_policy_file

        file = load_policy_file(spec)
        file.check(robot)
        task_name = task_name or name_from_outside(file.info.task, f"the policy {spec}")
        task_name = with_flags(trained_with(task_name, spec), options.object)
        file.check(robot, load_task(task_name, robot.n))
        policy |= {"sha256": file.sha256, "provenance": dict(file.info.provenance)}
        sees = file.pictures
        pictures = tuple(picture.camera for picture in sees)
    elif kind == "server":
        offer = offered(spec, robot)
        pictures = offer.pictures
        if task_name is None and offer.task is not None:
            task_name = name_from_outside(offer.task, f"the policy at {spec}")
        policy |= {"server": asdict(offer)}
    if task_name is None:
        raise UserError(
            f"the policy '{spec}' does not say what it is for: add --task "
            "(policy files, and servers that want to, know their task)"
        )
    if kind != "file":
        task_name = with_flags(task_name, options.object)
    task = load_task(task_name, robot.n)
    without_joints(task.objects, "no camera tells where its joint is")
    return Setup(options, robot, task, task_name, policy, goal, pictures, sees)


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
    if (
        task is None
        or task.goal_zone is not None
        or not any(feature.name == "goal" for feature in task.features)
    ):
        return lambda i: None

    def drawn(i: int) -> Array:
        rng = np.random.default_rng([seed, i])
        values = {p.name: rng.uniform(p.low, p.high) for p in task.scene_parameters()}
        return np.array(task.setup(values, rng).goal)

    return drawn


def objects_to_see(setup: Setup) -> tuple[ObjectSpec, ...]:
    """What the camera must find: the task's objects, but not the zone of a goal that was given; nothing where the
    policy looks for itself."""
    if setup.task is None or setup.sees:
        return ()
    given = setup.task.goal_zone if setup.goal is not None else None
    return tuple(spec for spec in setup.task.objects if spec.name != given)
