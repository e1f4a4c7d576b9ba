"""`export_policy`: a network that was trained elsewhere, as a policy file."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.sweeps.inputs import RobotLike, TaskLike
from sim2real.errors import UserError
from sim2real.files import require_own_file, write_bytes
from sim2real.policies.actions import ActionScale
from sim2real.policies.file import FilePolicy, PolicyInfo
from sim2real.policies.protocol import HORIZON
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task

if TYPE_CHECKING:
    from torch import nn

    from pipelines.learning.foreign import Gives


def export_policy(
    source: "nn.Module | str | Path | bytes",
    task: TaskLike,
    robot: RobotLike = "so101",
    *,
    out: str | Path,
    gives: "Gives" = "actions",
    horizon: int = HORIZON,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write the policy file `out` with a network that maps observation vectors to actions; returns its path.

    source: a torch module or an ONNX file (or its bytes), from observations (B, D) float32, the task's features in
    their order, to actions (B, n): those of the Gymnasium environments, whose scaling becomes part of the network
    (of several outputs the first counts). gives="chunk": it gives chunks (B, horizon, n) of joint goals in rad
    instead. horizon: as the environment's. about: noted in the file as its provenance.

    `evaluate`, `sweep` and `deploy` take the file, and so does anything else that takes a policy file, but for
    `finetune`. Raises UserError, and writes nothing, for a network that does not fit task and robot, and where `out`
    is something else than a policy file.
    """
    from pipelines.learning.foreign import policy_content

    if gives not in ("actions", "chunk"):
        raise UserError(f"gives is 'actions' or 'chunk', got {gives!r}")
    require_own_file(out, b'"provenance"')
    loaded = Robot.load(robot)
    of = load_task(task, joints=loaded.n)
    info = PolicyInfo(
        task=of.name,
        objects=tuple(spec.to_json() for spec in of.objects),
        robot=loaded.name,
        joints=loaded.joint_names,
        features=of.features,
        horizon=horizon,
        policy_rate=loaded.policy_rate,
        command_rate=loaded.command_rate,
        provenance={"command": "export_policy", **(about or {})},
    )
    content = policy_content(source, info, ActionScale(loaded, horizon), gives)
    FilePolicy(content, str(out))  # refuses what could not be loaded again
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, content)
    return Path(out)
