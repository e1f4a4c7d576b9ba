"""Policies in files: one ONNX file that says everything about itself. Needs onnxruntime, not torch.

Input `observation` (B, D) float32, output `chunk` (B, H, n) float32, rad. A policy that sees has a further input for
each picture, `image.<camera>` (B, H, W, 3) uint8 RGB, which the metadata declare: of which camera, how large and how it
is cut out (`sim2real/pictures.py`). One with a `history` of k takes the last k observations one after the other, the
newest first; before there are as many, the first one stands for those that are missing. The embedded metadata has
these keys:

| key | content |
|---|---|
| `sim2real` | JSON: what `PolicyInfo` holds |
| `sim2real.network` | JSON: constructor arguments of the network |
| `sim2real.weights` | its state dict as base64 of safetensors, for fine-tuning |
| `sim2real.quantized` | where the network has 8-bit weights: JSON with the hash of the file it was made from |

Nothing in the file is a pickle, and loading it runs no code from it.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim2real import old_names
from sim2real.errors import UserError
from sim2real.observation import Feature, Observation, flatten
from sim2real.pictures import PictureInput
from sim2real.policies.committed import committed_features

if TYPE_CHECKING:
    from sim2real.policies.protocol import Purpose
    from sim2real.robot import Robot

FORMAT = 2
"""Version of the metadata; raised when an older loader could no longer make sense of a file. Files of format 1 know
one cube, and are read by `sim2real/old_names.py`."""
SEEING = 3
"""The format of policies with pictures or a history."""

INFO_KEY, NETWORK_KEY, WEIGHTS_KEY = "sim2real", "sim2real.network", "sim2real.weights"
QUANTIZED_KEY = "sim2real.quantized"


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
    pictures: tuple[PictureInput, ...] = ()
    history: int = 1
    objects: tuple[Mapping[str, Any], ...] = ()
    """What lay on the table in training, as `ObjectSpec.to_json` says it; nothing in files of earlier versions."""

    def __post_init__(self) -> None:
        if min(self.horizon, self.policy_rate, self.command_rate, self.history) < 1:
            raise ValueError("horizon, rates and history of a policy must be positive")
        cameras = [picture.camera for picture in self.pictures]
        if len(set(cameras)) < len(cameras):
            raise ValueError(f"a policy sees one picture of each camera, got {', '.join(cameras)}")
        if not self.joints or not self.features:
            raise ValueError("a policy needs joints and observation features")

    @property
    def observation_size(self) -> int:
        return self.history * sum(feature.size for feature in self.features)

    def to_json(self) -> str:
        table = asdict(self)
        table["format"] = SEEING if self.pictures or self.history > 1 else FORMAT
        if table["format"] == FORMAT:
            del table["pictures"], table["history"]
        table["features"] = [[feature.name, feature.size] for feature in self.features]
        table["rates"] = {"policy": table.pop("policy_rate"), "command": table.pop("command_rate")}
        return json.dumps(table)

    @classmethod
    def from_json(cls, text: str) -> "PolicyInfo":
        """Raises ValueError, KeyError or TypeError when the text is not what `to_json` wrote."""
        table = json.loads(text)
        if table["format"] not in (1, FORMAT, SEEING):
            raise ValueError(f"it has format {table['format']}, this version reads formats 1 to {SEEING}")
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
            objects=tuple(dict(spec) for spec in table.get("objects", ())),
            pictures=tuple(map(PictureInput.from_table, table.get("pictures", ()))),
            history=int(table.get("history", 1)),
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
            self._check_objects(task, where)
            known = {feature.name: feature.size for feature in task.features}
            known |= {feature.name: feature.size for feature in committed_features(robot.n)}
            known |= {picture.place: 3 for picture in self.pictures if picture.place is not None}
            for feature in self.features:
                if known.get(feature.name) != feature.size:
                    raise UserError(
                        f"{where} observes '{feature.name}' ({feature.size} numbers), the task '{name}' offers "
                        f"{', '.join(f'{key} ({size})' for key, size in known.items())}; train it again"
                    )

    def _check_objects(self, task: "Purpose", where: str) -> None:
        """Raise UserError where an object is not as large as training let it be. Colours are the camera's business."""
        trained = {spec.get("name"): spec for spec in self.objects}
        for spec in task.objects:
            if (before := trained.get(spec.name)) is None:
                continue
            sizes = [float(value) for value in before["size"]]
            if len(sizes) != len(spec.measures) or any(
                abs(new - old) > SIZE_SHARE * old + 1e-9 for new, old in zip(spec.measures, sizes)
            ):
                raise UserError(
                    f"{where} was trained with the object '{spec.name}' of {_millimetres(sizes)} mm, here it is "
                    f"{_millimetres(spec.measures)} mm; leave out its size, or train a policy for it "
                    f"(pretrain --object {spec.name}:size={'x'.join(f'{value:g}' for value in spec.measures)})"
                )


SIZE_SHARE = 0.1
"""Training varies the objects' sizes by this share of them (`simulation/parameters.py`)."""


def _millimetres(sizes: Iterable[float]) -> str:
    return " x ".join(f"{1000 * value:g}" for value in sizes)


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
        except (ValueError, KeyError, TypeError, UserError) as error:
            raise UserError(f"{where} is a policy file that cannot be read: {error}") from None
        self.where = where
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.metadata = metadata
        self.horizon = self.info.horizon
        self.pictures = self.info.pictures
        """What it asks to see, as entries of its observations."""
        self._session = session
        self._past: deque[NDArray[np.float32]] = deque(maxlen=self.info.history)
        shape = (self.info.horizon, len(self.info.joints))
        inputs, outputs = session.get_inputs(), session.get_outputs()
        # Older files say nothing of their batch but a letter.
        declared: dict[str, tuple[tuple[int, ...], str]] = {
            "observation": ((self.info.observation_size,), "tensor(float)")
        }
        declared |= {picture.entry: (picture.shape, "tensor(uint8)") for picture in self.pictures}
        if (
            {value.name: (tuple(value.shape[1:]), value.type) for value in inputs} != declared
            or [value.name for value in outputs][:1] != ["chunk"]
            or tuple(outputs[0].shape[1:]) != shape
        ):
            seen = "".join(f" and {p.entry} (B, {p.height}, {p.width}, 3)" for p in self.pictures)
            raise UserError(
                f"{where} contradicts itself: its metadata describe observation (B, "
                f"{self.info.observation_size}){seen} to chunk (B, {shape[0]}, {shape[1]}), its network is "
                f"{[(value.name, value.shape) for value in [*inputs, *outputs]]}"
            )

    def check(self, robot: "Robot", task: "Purpose | str | None" = None) -> None:
        """See `PolicyInfo.check`."""
        self.info.check(robot, task, self.where)

    def reset(self, seed: int) -> None:
        """Forget the last observations, where it has a history; the network itself has no memory."""
        self._past.clear()

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(horizon, n) rad. Raises UserError when the observation lacks a feature or a picture."""
        vector = with_history(self._past, flatten(observation, self.info.features))
        pictures = {picture.entry: picture_of(observation, picture)[None] for picture in self.pictures}
        return self.act_on(vector[None, :], pictures)[0]

    def act_on(
        self, vectors: NDArray[np.float32], pictures: Mapping[str, NDArray[np.uint8]] | None = None
    ) -> NDArray[np.float64]:
        """A batch: (B, D) observation vectors, and (B, H, W, 3) pictures by entry, to (B, horizon, n) rad."""
        (chunk,) = self._session.run(["chunk"], {"observation": vectors, **(pictures or {})})
        return np.asarray(chunk, dtype=np.float64)

    def estimates(
        self, vectors: NDArray[np.float32], pictures: Mapping[str, NDArray[np.uint8]] | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """What else the network says of a batch, by the output's name: where it takes the objects for."""
        names = [value.name for value in self._session.get_outputs()[1:]]
        if not names:
            return {}
        found = self._session.run(names, {"observation": vectors, **(pictures or {})})
        return {name: np.asarray(value, dtype=np.float64) for name, value in zip(names, found)}


def with_history(past: "deque[NDArray[np.float32]]", vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Observation vectors of the last steps, newest first, as one; `past` keeps as many as its `maxlen`."""
    past.appendleft(vector)
    rows = [*past, *([past[-1]] * ((past.maxlen or 1) - len(past)))]
    return np.concatenate(rows) if len(rows) > 1 else vector


def picture_of(observation: Observation, wanted: PictureInput) -> NDArray[np.uint8]:
    """A picture in an observation. Raises UserError when it is missing, or is of another size."""
    image = observation.get(wanted.entry)
    if image is None:
        raise UserError(
            f"the observation lacks '{wanted.entry}', a picture which the policy needs; it has {sorted(observation)}"
        )
    if image.shape != wanted.shape or image.dtype != np.uint8:
        raise UserError(
            f"observation '{wanted.entry}' is {image.shape} {image.dtype}, the policy sees {wanted.shape} uint8"
        )
    return np.asarray(image, dtype=np.uint8)


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
