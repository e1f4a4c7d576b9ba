"""Kinds of policy networks by name.

A further kind is a file in this folder with a subclass of `base.PolicyNetwork`, and a line in `NETWORKS`; training,
export, fine-tuning and deployment know no kind by name.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sim2real.errors import UserError, nearest

if TYPE_CHECKING:
    from pipelines.learning.networks.base import PolicyNetwork
    from sim2real.robot import Robot

NETWORKS = {
    "mlp": "pipelines.learning.networks.mlp:ChunkMLP",
    "goals": "pipelines.learning.networks.goals:GoalNetwork",
    "states": "pipelines.learning.networks.states:StatesNetwork",
    "cnn": "pipelines.learning.networks.cnn:PixelCNN",
}

KIND = "kind"
"""Key of a network's arguments that names its kind; files without it are of the first."""


def network_arguments(
    kind: str, features: Sequence[tuple[str, int]], robot: "Robot", horizon: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of a new network; `options` (`width`, `depth`, …) are the kind's own.

    Raises UserError when there is no such kind.
    """
    arguments: dict[str, Any] = _class(kind).arguments_for(features, robot, horizon, **options)
    return {KIND: kind} | arguments


def build_network(arguments: Mapping[str, Any]) -> "PolicyNetwork":
    """The network of these arguments, untrained.

    Raises UserError for an unknown kind, TypeError for arguments that its class does not take.
    """
    rest = dict(arguments)
    network: PolicyNetwork = _class(rest.pop(KIND, next(iter(NETWORKS))))(**rest)
    return network


def _class(kind: str) -> Any:
    if kind not in NETWORKS:
        raise UserError(
            f"there is no kind of network '{kind}'{nearest(str(kind), NETWORKS) or ';'} "
            f"Known are {', '.join(NETWORKS)}"
        )
    module, _, name = NETWORKS[kind].partition(":")
    return getattr(import_module(module), name)
