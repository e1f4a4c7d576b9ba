"""The network that a federation trains, equal on all sides."""

import torch

from pipelines.federated.settings import Learning
from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.registry import build_network
from pipelines.learning.pretrain import Course, PretrainSettings


def new_network(learning: Learning) -> tuple[PolicyNetwork, Course]:
    """The untrained network, equal wherever it is made, and what it learns."""
    course = Course(
        PretrainSettings(
            task=learning.task,
            robot=learning.robot,
            seed=learning.seed,
            width=learning.width,
            depth=learning.depth,
        )
    )
    torch.manual_seed(learning.seed)
    network = build_network(course.arguments())
    network.set_robot(course.robot)
    return network, course
