"""From a robot description and a USB cable to a policy you can trust on the arm."""

from typing import TYPE_CHECKING

from sim2real.lazy import exports

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sim2real.arm import Arm
    from sim2real.calibration import Calibration
    from sim2real.chunks import Chunk
    from sim2real.episode import Episode
    from sim2real.errors import HardwareError, PolicyError, Sim2RealError, UserError
    from sim2real.gate.gate import Gate
    from sim2real.lerobot.reader import LeRobotDataset
    from sim2real.observation import Feature, Observation
    from sim2real.parameters import Draw, Parameter, load_twin
    from sim2real.policies.actions import ActionPolicy
    from sim2real.policies.load import load_policy
    from sim2real.policies.protocol import Policy
    from sim2real.robot import Robot, robot_names
    from sim2real.simulation.environment import TaskEnvironment
    from sim2real.simulation.rollout import rollout
    from sim2real.simulation.world import World
    from sim2real.task import Scene, Task
    from sim2real.tasks.registry import load_task, task_names
    from sim2real.truth import Truth

__all__ = [
    "ActionPolicy",
    "Arm",
    "Calibration",
    "Chunk",
    "Draw",
    "Episode",
    "Feature",
    "Gate",
    "HardwareError",
    "LeRobotDataset",
    "Observation",
    "Parameter",
    "Policy",
    "PolicyError",
    "Robot",
    "Scene",
    "Sim2RealError",
    "Task",
    "TaskEnvironment",
    "Truth",
    "UserError",
    "World",
    "__version__",
    "load_policy",
    "load_task",
    "load_twin",
    "robot_names",
    "rollout",
    "task_names",
]

_WHERE = {
    "ActionPolicy": "sim2real.policies.actions",
    "Arm": "sim2real.arm",
    "Calibration": "sim2real.calibration",
    "Chunk": "sim2real.chunks",
    "Draw": "sim2real.parameters",
    "Episode": "sim2real.episode",
    "Feature": "sim2real.observation",
    "Gate": "sim2real.gate.gate",
    "HardwareError": "sim2real.errors",
    "LeRobotDataset": "sim2real.lerobot.reader",
    "Observation": "sim2real.observation",
    "Parameter": "sim2real.parameters",
    "Policy": "sim2real.policies.protocol",
    "PolicyError": "sim2real.errors",
    "Robot": "sim2real.robot",
    "Scene": "sim2real.task",
    "Sim2RealError": "sim2real.errors",
    "Task": "sim2real.task",
    "TaskEnvironment": "sim2real.simulation.environment",
    "Truth": "sim2real.truth",
    "UserError": "sim2real.errors",
    "World": "sim2real.simulation.world",
    "load_policy": "sim2real.policies.load",
    "load_task": "sim2real.tasks.registry",
    "load_twin": "sim2real.parameters",
    "robot_names": "sim2real.robot",
    "rollout": "sim2real.simulation.rollout",
    "task_names": "sim2real.tasks.registry",
}
"""The module of each public name, which is imported when the name is used."""

__getattr__, __dir__ = exports(__name__, _WHERE)
