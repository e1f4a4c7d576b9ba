"""Which recorded names are which joints: spellings, several arms, joints of another robot, and calibrations alike."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sim2real.errors import UserError

_SUFFIXES = ("pos", "position", "joint", "angle", "qpos")
"""What may follow a joint's name and still mean its position."""
_OF_AN_ARM = re.compile(
    r"(^|_)(shoulder|elbow|upper|fore|lower|wrist|gripper|jaw|finger|roll|pitch|yaw|joint)"
)
"""Words in the names of joints that an arm has, not a base."""


def joint_of(name: str) -> str:
    """A joint's own name: `shoulder_pan` of `shoulder_pan.pos`, `shoulder_pan_pos`, `Shoulder Pan`, `shoulderPan`.

    What stands before it stays: `left_shoulder_pan`, `arm_shoulder_pan`.
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    words = [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]
    while len(words) > 1 and words[-1] in _SUFFIXES:
        words.pop()
    return "_".join(words)


def arms_of(found: Sequence[str], expected: Sequence[str]) -> list[str]:
    """What stands before the names of each arm's joints ("left_", or nothing), for arms that have all `expected`.

    Both as `joint_of` spells them.
    """
    heads = [name.removesuffix(expected[0]) for name in found if name.endswith(expected[0])]
    complete = [head for head in heads if all(found.count(head + name) == 1 for name in expected)]
    return [head for head in complete if not head or head.endswith("_")]


def arm_called(arms: Sequence[str], wanted: str) -> str | None:
    """The one of `arms` that a user means: "left_" or "left_arm_" by "left"; None when there is none, or several."""
    words = joint_of(wanted).split("_")
    exact = [arm for arm in arms if arm.rstrip("_") == "_".join(words)]
    named = exact or [arm for arm in arms if set(words) <= set(arm.rstrip("_").split("_"))]
    return named[0] if len(named) == 1 else None


def columns_of(
    names: Sequence[str], expected: Sequence[str], arm: str | None, what: str, robot: str
) -> list[int]:
    """Where in `names` the joints `expected` of the robot are, of the arm that is called `arm` where there are several.

    `what` says in messages whose names these are. Raises UserError when they are not there, or not told apart.
    """
    found, joints = [joint_of(name) for name in names], [joint_of(name) for name in expected]
    arms = arms_of(found, joints)
    if arm is not None:
        head = arm_called(arms, arm)
        if head is None:
            there = ", ".join(each.rstrip("_") for each in arms if each) or "no such names"
            raise UserError(
                f"{what} has no arm '{arm}' with the joints of {robot}; its arms are {there}, its joints "
                f"{', '.join(names)}"
            )
    elif "" in arms or len(arms) == 1:
        head = "" if "" in arms else arms[0]
    elif arms:
        raise UserError(
            f"{what} is of {len(arms)} arms; choose one with --arm "
            f"{' or '.join(each.rstrip('_') for each in arms)}, and its --calibration"
        )
    else:
        twice = sorted({name for name in joints if found.count(name) > 1})
        problem = f" ({', '.join(twice)} more than once)" if twice else ""
        raise UserError(
            f"{what} has the joints {', '.join(names)}{problem}, but {robot} has {', '.join(expected)}; choose the "
            "robot that was recorded with --robot, or mend the names in meta/info.json"
        )
    return [found.index(head + joint) for joint in joints]


def foreign(names: Sequence[str], expected: Sequence[str]) -> list[str]:
    """Joints among `names` that an arm with the joints `expected` does not have, and so are another arm's.

    A base that drives, further arms of the same kind, and other measurements of a joint do not count.
    """
    found, joints = [joint_of(name) for name in names], [joint_of(name) for name in expected]
    arms = arms_of(found, joints)
    ours = [i for i, name in enumerate(found) if any(name == arm + joint for arm in arms for joint in joints)]
    if not ours:
        return []
    others = []
    for i, name in enumerate(found):
        if i in ours or any(re.search(rf"(^|_){joint}(_|$)", name) for joint in joints):
            continue
        if ours[0] < i < ours[-1] or _OF_AN_ARM.search(name):
            others.append(names[i])
    return others


def calibration_of_arm(table: Any, expected: Sequence[str], arm: str | None) -> Any:
    """The part of a calibration file's `table` that is of the robot's joints, under the robot's names for them.

    As tolerant of spellings, further arms and a base as data are. What has no such part is returned as it is: a
    reader of calibrations says what is wrong with it.
    """
    if not isinstance(table, Mapping):
        return table
    names = [str(name) for name in table]
    found, joints = [joint_of(name) for name in names], [joint_of(name) for name in expected]
    arms = arms_of(found, joints)
    head = None if arm is None else arm_called(arms, arm)
    if head is None:
        head = "" if "" in arms else arms[0] if len(arms) == 1 else None
    if head is None or foreign(names, expected):
        return table
    entries = list(table.values())
    return {name: entries[found.index(head + joint)] for name, joint in zip(expected, joints)}
