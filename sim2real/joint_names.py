"""Which names in files of others are which joints: spellings, several arms in one file, joints of another robot."""

import re
from collections.abc import Sequence

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
