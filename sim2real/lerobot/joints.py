"""Which columns of a data set are a robot's joints."""

from collections.abc import Sequence

from sim2real.errors import UserError
from sim2real.joint_names import arm_called, arms_of, joint_of


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
