"""Policies in files: one ONNX file that says everything about itself. Needs onnxruntime, not torch.

Input `observation` (B, D) float32, output `chunk` (B, H, n) float32, rad. The embedded metadata has three keys:

| key | content |
|---|---|
| `sim2real` | JSON: what `PolicyInfo` holds |
| `sim2real.network` | JSON: constructor arguments of the network |
| `sim2real.weights` | its state dict as base64 of safetensors, for fine-tuning |

Nothing in the file is a pickle, and loading it runs no code from it.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim2real import old_names
from sim2real.errors import UserError
from sim2real.observation import Feature, Observation, flatten

if TYPE_CHECKING:
    from sim2real.policies.protocol import Purpose
    from sim2real.robot import Robot

FORMAT = 2
"""Version of the metadata; raised when an older loader could no longer make sense of a file. Files of format 1 know
one cube, and are read by `sim2real/old_names.py`."""

INFO_KEY, NETWORK_KEY, WEIGHTS_KEY = "sim2real", "sim2real.network", "sim2real.weights"


@dataclass(frozen=True)
class PolicyInfo:
    """What a policy file says about itself.

    `joints` in the order of the chunk's columns; `features` in the order of the observation vector; rates in Hz;
    `provenance` is free JSON: configuration, seed, data, versions, parent.
    """

    task: str
    robot: str
    joints: tuple[str, ...]
    features: tuple[Feature, ...]
    horizon: int
    policy_rate: int
    command_rate: int
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.horizon < 1 or self.policy_rate < 1 or self.command_rate < 1:
            raise ValueError("horizon and rates of a policy must be positive")
        if not self.joints or not self.features:
            raise ValueError("a policy needs joints and observation features")

    @property
    def observation_size(self) -> int:
        return sum(feature.size for feature in self.features)

    def to_json(self) -> str:
        table = asdict(self)
        table["format"] = FORMAT
        table["features"] = [[feature.name, feature.size] for feature in self.features]
        table["rates"] = {"policy": table.pop("policy_rate"), "command": table.pop("command_rate")}
        return json.dumps(table)

    @classmethod
    def from_json(cls, text: str) -> "PolicyInfo":
        """Raises ValueError, KeyError or TypeError when the text is not what `to_json` wrote."""
        table = json.loads(text)
        if table["format"] not in (1, FORMAT):
            raise ValueError(f"it has format {table['format']}, this version reads formats 1 and {FORMAT}")
        named = old_names.feature if table["format"] == 1 else str
        return cls(
            task=str(table["task"]),
            robot=str(table["robot"]),
            joints=tuple(table["joints"]),
            features=tuple(Feature(named(name), int(size)) for name, size in table["features"]),
            horizon=int(table["horizon"]),
            policy_rate=int(table["rates"]["policy"]),
            command_rate=int(table["rates"]["command"]),
            provenance=table["provenance"],
        )

    def check(self, robot: "Robot", task: "Purpose | str | None" = None, where: str = "the policy") -> None:
        """Raise UserError, naming the mismatch, unless the policy was made for this robot (and task)."""
        if self.robot != robot.name:
            raise UserError(
                f"{where} was trained for the robot '{self.robot}', this is '{robot.name}'; "
                f"choose --robot {self.robot} or train a policy for '{robot.name}'"
            )
        if self.joints != robot.joint_names:
            raise UserError(
                f"{where} commands the joints {list(self.joints)}, the robot '{robot.name}' has "
                f"{list(robot.joint_names)} in this order; train it again for this description"
            )
        for what, mine, theirs in (
            ("policy", self.policy_rate, robot.policy_rate),
            ("command", self.command_rate, robot.command_rate),
        ):
            if mine != theirs:
                raise UserError(
                    f"{where} was trained at a {what} rate of {mine} Hz, the robot '{robot.name}' runs at "
                    f"{theirs} Hz; set rates.{what} = {mine} in its description or train again"
                )
        if task is None:
            return
        name = task if isinstance(task, str) else task.name
        if self.task != name:
            raise UserError(
                f"{where} was trained for the task '{self.task}', not for '{name}'; "
                f"use --task {self.task} or another policy"
            )
        if not isinstance(task, str):
            known = {feature.name: feature.size for feature in task.features}
            for feature in self.features:
                if known.get(feature.name) != feature.size:
                    raise UserError(
                        f"{where} observes '{feature.name}' ({feature.size} numbers), the task '{name}' offers "
                        f"{', '.join(f'{key} ({size})' for key, size in known.items())}; train it again"
                    )


class FilePolicy:
    """A policy from a file, run by onnxruntime on one thread, or `threads`. Satisfies the Policy protocol."""

    def __init__(self, content: bytes, where: str, threads: int = 1) -> None:
        metadata, session = _open(content, where, threads)
        if INFO_KEY not in metadata:
            raise UserError(
                f"{where} is an ONNX file, but not a policy of this project: it lacks the metadata '{INFO_KEY}'; "
                "policies are written by `sim2real pretrain` and `sim2real finetune`"
            )
        try:
            self.info = PolicyInfo.from_json(metadata[INFO_KEY])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{where} is a policy file that cannot be read: {error}") from None
        self.where = where
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.metadata = metadata
        self.horizon = self.info.horizon
        self._session = session
        shape = (self.info.horizon, len(self.info.joints))
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if (
            [value.name for value in inputs] != ["observation"]
            or [value.name for value in outputs] != ["chunk"]
            or inputs[0].shape[1:] != [self.info.observation_size]
            or tuple(outputs[0].shape[1:]) != shape
        ):
            raise UserError(
                f"{where} contradicts itself: its metadata describe observation (B, "
                f"{self.info.observation_size}) to chunk (B, {shape[0]}, {shape[1]}), its network is "
                f"{[(value.name, value.shape) for value in [*inputs, *outputs]]}"
            )

    def check(self, robot: "Robot", task: "Purpose | str | None" = None) -> None:
        """See `PolicyInfo.check`."""
        self.info.check(robot, task, self.where)

    def reset(self, seed: int) -> None:
        """Nothing to forget: the network has no memory and is deterministic."""

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(horizon, n) rad. Raises UserError when the observation lacks a feature."""
        return self.act_on(flatten(observation, self.info.features)[None, :])[0]

    def act_on(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """A batch: (B, D) observation vectors to (B, horizon, n) rad."""
        (chunk,) = self._session.run(["chunk"], {"observation": vectors})
        return np.asarray(chunk, dtype=np.float64)


def load_policy_file(path: str | Path, threads: int = 1) -> FilePolicy:
    """Load a policy file. Raises UserError when it is missing, damaged or not a policy of this project."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"the policy file {path} does not exist; `sim2real pretrain` writes DIR/policy.onnx")
    return FilePolicy(path.read_bytes(), str(path), threads)


def _open(content: bytes, where: str, threads: int) -> tuple[dict[str, str], Any]:
    # onnxruntime writes telemetry files into the user's cache unless told not to before its import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Networks of this size are slower on several threads, and the control process needs the other cores.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime's exceptions share no base class of their own.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{where} is not a policy file: onnxruntime cannot load it ({reason})") from None
    return dict(session.get_modelmeta().custom_metadata_map), session
