"""From a robot description and a USB cable to a policy you can trust on the arm."""

import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from sim2real.lazy import exports

__version__ = "0.1.0"

PACKAGES = ("sim2real", "hardware")
"""Where compiled code is, and everything that it is compiled from: these packages import no others."""


def _compiled_code_belongs_to_these_sources() -> None:
    """Name numba's cache after the state of our sources.

    Numba looks at the file of a compiled function only, not at those of the functions it calls: after an update
    of one file, callers elsewhere would silently go on with the old code, the gate's among it.
    """
    root = Path(__file__).parents[1]
    stamps: list[tuple[str, int]] = []
    folders = [str(root / package) for package in PACKAGES if (root / package).is_dir()]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name.endswith(".py"):
                    stamps.append((entry.path, entry.stat().st_mtime_ns))
    key = zlib.crc32(repr(sorted(stamps)).encode())
    os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(_cache(), f"{__version__}-{key:08x}"))


def _cache() -> str:
    """A folder for what can be made again: the user's own, or a private temporary one where there is no such.

    Numba gives up where it finds no place to keep what it compiles, as in a container without a home.
    """
    own = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    own = os.path.join(own, "sim2real")
    try:
        os.makedirs(own, exist_ok=True)
        if os.access(own, os.W_OK):
            return own
    except OSError:
        pass
    import tempfile  # it takes a while, and is seldom needed

    # What is read from there is executed: it must be nobody else's.
    temporary = os.path.join(tempfile.gettempdir(), f"sim2real-{os.getuid()}")
    try:
        os.makedirs(temporary, mode=0o700, exist_ok=True)
        state = os.lstat(temporary)
    except OSError:
        return own
    private = state.st_uid == os.getuid() and state.st_mode & 0o170077 == 0o040000
    return temporary if private else own


_compiled_code_belongs_to_these_sources()

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
