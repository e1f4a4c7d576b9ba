"""Of which robot a data set is, by what it says of itself. An arm that is not known is not taken for another."""

import re

from sim2real.errors import UserError
from sim2real.joint_names import foreign
from sim2real.lerobot import schema
from sim2real.lerobot.reader import LeRobotDataset
from sim2real.robot import Robot, robot_names

DEFAULT = "so101"
_ALIKE = {"so": "so101", "lekiwi": "so101", "so_arm100": "so100", "so_arm101": "so101", "koch_v1_1": "koch"}
"""LeRobot's names of robots whose arm is one of ours; `so` is either SO arm, `lekiwi` one on wheels."""
_ROLES = (
    "follower", "leader", "bi", "bimanual", "dual", "main", "left", "right", "arm", "robot", "end", "effector",
    "client", "hw", "sim", "emulated",
)  # fmt: skip
"""Words in a robot's name that say what it does, not which one it is."""
_NOT_STATED = ("", "none", "null", "unknown", "n_a")


def robot_of(dataset: LeRobotDataset) -> tuple[Robot, str]:
    """The robot that a data set is of, and what is worth saying of how that is known ("" if nothing).

    The SO-101 where it says nothing and its joints fit. Raises UserError, asking for --robot, for a robot that is
    not known and for joints that the robot does not have.
    """
    known = robot_names()
    noted = dataset.notes.get("robot")
    stated = str(noted or dataset.robot_type)
    name = noted if noted in known else None if noted else named(dataset.robot_type)
    remark = ""
    if name is None and not noted and _plain(dataset.robot_type) in _NOT_STATED:
        name = DEFAULT
        remark = (
            f"the data set does not say of which robot it is: taken for {DEFAULT}; if it is another, say so with "
            f"--robot ({', '.join(known)}, or its .toml file)"
        )
    if name is None:
        raise UserError(
            f"{dataset.root} is of the robot '{stated}', which is not known; known are {', '.join(known)}. Give "
            "--robot with one of these if its arm is the same, or with the .toml file of this one"
        )
    robot = Robot.load(name)
    for feature, others in others_of(dataset, robot).items():
        raise UserError(
            f"{feature} of {dataset.root} has {', '.join(others)} beside the joints of {robot.name}, which has no "
            f"such joint: it is another arm's. Give --robot with that arm's .toml file, or --robot {robot.name} to "
            "leave it out of account"
        )
    return robot, remark


def others_of(dataset: LeRobotDataset, robot: Robot) -> dict[str, list[str]]:
    """Joints of another arm that states and actions have, by the feature; empty when there are none."""
    found = {
        feature: foreign(dataset.features[feature].names or (), robot.joint_names)
        for feature in (schema.STATE, schema.ACTION)
        if feature in dataset.features
    }
    return {feature: others for feature, others in found.items() if others}


def is_unknown(dataset: LeRobotDataset) -> bool:
    """Whether a data set says that it is of a robot, and that is none of ours."""
    if dataset.notes.get("robot") or _plain(dataset.robot_type) in _NOT_STATED:
        return False
    return named(dataset.robot_type) is None


def named(robot_type: str) -> str | None:
    """Which of our robots LeRobot's `robot_type` is; None for others."""
    plain = _plain(robot_type)
    known = {_plain(name): name for name in robot_names()} | _ALIKE
    words = [word for word in plain.split("_") if word not in _ROLES]
    return known.get(plain) or known.get("_".join(words))


def _plain(text: str) -> str:
    """Lower case, words apart by one underscore: `so101` of `SO-101`, `so 101`."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return re.sub(r"(^|_)so_?(1\d\d)(?=_|$)", r"\1so\2", plain)
