"""Any policy by what a person types: the one place that decides what a name means.

| typed | kind |
|---|---|
| `expert`, `zero`, `random` | built in |
| `tcp://HOST:PORT` | a policy server |
| `….npy` | a trajectory to play |
| `….onnx`, or the path of any other file | a policy file |
| `my.module:MyPolicy` | a class of the user's own, called with (task, robot) |

A further kind is a file of its own and an entry in `OPEN`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sim2real.errors import UserError, nearest
from sim2real.files import file_hash
from sim2real.loading import instantiate, source_identity
from sim2real.policies.protocol import (
    BUILT_IN,
    Policy,
    Purpose,
    RandomPolicy,
    ZeroPolicy,
    load_trajectory,
)
from sim2real.robot import Robot

if TYPE_CHECKING:
    from sim2real.policies.remote import Surroundings

Kind = Literal["built-in", "server", "trajectory", "file", "class"]

SCHEME = "tcp://"


def kind_of(spec: str) -> Kind:
    """What a policy's name means. Raises UserError when it means nothing."""
    if spec in BUILT_IN:
        return "built-in"
    if spec.startswith(SCHEME):
        return "server"
    if spec.endswith(".npy"):
        return "trajectory"
    if spec.endswith(".onnx") or "/" in spec or Path(spec).is_file():
        return "file"
    if ":" in spec:
        return "class"
    raise UserError(
        f"there is no policy '{spec}'{nearest(spec, BUILT_IN) or ';'} "
        f"Give one of {', '.join(BUILT_IN)}, the path of a policy file (.onnx) or a trajectory (.npy), a server "
        "(tcp://HOST:PORT), or a class of your own as my.module:MyPolicy"
    )


def load_policy(spec: str, task: Purpose, robot: Robot, surroundings: "Surroundings | None" = None) -> Policy:
    """The policy that `spec` names, checked against task and robot.

    `surroundings` is what a policy server is told and shown besides the observation. Raises UserError when there is
    no such policy or it was made for others, HardwareError when a server cannot be reached.
    """
    return OPEN[kind_of(spec)](spec, task, robot, surroundings)


def policy_identity(spec: str) -> dict[str, str]:
    """What decides a policy's behaviour, as JSON: the content of its file, the source of its class, or its name."""
    kind = kind_of(spec)
    if kind in ("file", "trajectory"):
        path = Path(spec)
        if not path.is_file():
            raise UserError(f"there is no policy file {spec}; `sim2real pretrain` writes one")
        return {"sha256": file_hash(path)}
    return {"name": spec} | (source_identity(spec, "policy") if kind == "class" else {})


def _built_in(spec: str, task: Purpose, robot: Robot, surroundings: "Surroundings | None") -> Policy:
    if spec == "expert":
        return task.expert(robot)
    return ZeroPolicy(robot) if spec == "zero" else RandomPolicy(robot)


def _server(spec: str, task: Purpose, robot: Robot, surroundings: "Surroundings | None") -> Policy:
    from sim2real.policies.remote import RemotePolicy, Surroundings

    told = replace(surroundings or Surroundings(), objects=task.objects)
    return RemotePolicy(spec, task.name, robot, told)


def _trajectory(spec: str, task: Purpose, robot: Robot, surroundings: "Surroundings | None") -> Policy:
    return load_trajectory(spec, robot)


def _file(spec: str, task: Purpose, robot: Robot, surroundings: "Surroundings | None") -> Policy:
    from sim2real.policies.file import load_policy_file
    from sim2real.policies.goal import GoalPolicy, takes_goals

    policy = load_policy_file(spec)
    if takes_goals(policy):
        policy.check(robot)
        return GoalPolicy(policy, task)
    policy.check(robot, task)
    return policy


def _class(spec: str, task: Purpose, robot: Robot, surroundings: "Surroundings | None") -> Policy:
    policy: Policy = instantiate(spec, "policy", ("horizon", "reset", "act"), task=task, robot=robot)
    if not isinstance(policy.horizon, int) or policy.horizon < 1:
        raise UserError(f"policy '{spec}': horizon must be a positive integer, got {policy.horizon!r}")
    return policy


OPEN: Mapping[Kind, Callable[[str, Purpose, Robot, "Surroundings | None"], Policy]] = {
    "built-in": _built_in,
    "server": _server,
    "trajectory": _trajectory,
    "file": _file,
    "class": _class,
}
