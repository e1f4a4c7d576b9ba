"""Networks that were trained elsewhere, on the Gymnasium environments or on anything with their observations.

What the environment does with an action becomes the last layer of the network: the file that comes out maps an
observation to a chunk of joint goals like any other policy file, and needs nothing of where it was trained.
"""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError
from sim2real.observation import Feature
from sim2real.policies.actions import ActionScale
from sim2real.policies.file import INFO_KEY, PolicyInfo

Gives = Literal["actions", "chunk"]

OLDEST, OURS = 13, 17
"""Opsets: the oldest in which the operators below mean what they mean now, and the one that torch exports to."""


def policy_content(source: Any, info: PolicyInfo, scale: ActionScale, gives: Gives) -> bytes:
    """The bytes of a policy file whose network is `source`: a torch module, or an ONNX file or its bytes.

    It maps observation vectors (B, D) float32 to actions (B, n) in -1 … 1, or (`gives="chunk"`) to chunks
    (B, horizon, n) rad. Raises UserError for networks of another shape.
    """
    import onnx

    model = _loaded(source, info.observation_size)
    given, wanted = _ends(model, info)
    _try(model, given, wanted, info, gives)
    # Names of ours must not meet names of theirs.
    model = onnx.compose.add_prefix(model, "source/")
    for node in model.graph.node:
        node.input[:] = ["observation" if name == f"source/{given}" else name for name in node.input]
    graph = model.graph
    del graph.input[:], graph.output[:], graph.value_info[:]
    value, number = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph.input.append(value("observation", number, ("B", info.observation_size)))
    graph.output.append(value("chunk", number, ("B", info.horizon, len(info.joints))))
    if gives == "actions":
        nodes, constants = _last_layer(f"source/{wanted}", info.features, scale)
    else:
        nodes, constants = [onnx.helper.make_node("Identity", [f"source/{wanted}"], ["chunk"])], []
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    onnx.helper.set_model_props(model, {INFO_KEY: info.to_json()})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _loaded(source: Any, size: int) -> Any:
    """The ONNX model of a source, at an opset of ours."""
    import onnx

    try:
        if isinstance(source, str | Path):
            model = onnx.load(str(source))
        elif isinstance(source, bytes):
            model = onnx.load_from_string(source)
        else:
            model = onnx.load_from_string(_exported(source, size))
        opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        return model if opset >= OLDEST else onnx.version_converter.convert_version(model, OURS)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"the ONNX file {source} does not exist") from None
    except Exception as error:
        # onnx's and protobuf's exceptions share no base class of their own.
        what = source if isinstance(source, str | Path) else "the network"
        raise UserError(
            f"{what} is no ONNX model that can be read ({type(error).__name__}: {error})"
        ) from None


def _exported(module: Any, size: int) -> bytes:
    """A torch module as ONNX. It is left as it was."""
    import torch

    if not isinstance(module, torch.nn.Module):
        raise UserError(
            f"a torch module, an ONNX file or its bytes is needed, got a {type(module).__name__}; wrap a function of "
            "tensors in a torch.nn.Module"
        )
    training, device = module.training, next((p.device for p in module.parameters()), torch.device("cpu"))
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # see export.py
            torch.onnx.export(
                _First(module).eval(),
                (torch.zeros(2, size, device=device),),
                buffer,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=OURS,
                input_names=["observation"],
                output_names=["action"],
                dynamic_axes={"observation": {0: "B"}, "action": {0: "B"}},
            )
    except Exception as error:
        raise UserError(
            f"the network cannot be exported; is it made for observations (B, {size})? {type(error).__name__}: {error}"
        ) from None
    finally:
        module.train(training)
    return buffer.getvalue()


def _First(module: Any) -> Any:
    """The module without what it gives besides its first output (a value, a log-probability)."""
    import torch

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, observation: torch.Tensor) -> Any:
            found = self.module(observation)
            return found[0] if isinstance(found, tuple | list) else found

    return First()


def _ends(model: Any, info: PolicyInfo) -> tuple[str, str]:
    """Names of the network's input and first output. Raises UserError unless they are what is needed."""
    import onnx

    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    size = info.observation_size
    shown = ", ".join(f"{value.name} {_shape(value)}" for value in inputs)
    needed = (
        f"one input (B, {size}) float32 is needed: {', '.join(f'{f.name} ({f.size})' for f in info.features)}"
    )
    if len(inputs) != 1:
        raise UserError(f"the network has the inputs {shown or 'none'}; {needed}")
    kind, shape = inputs[0].type.tensor_type.elem_type, _shape(inputs[0])
    if kind != onnx.TensorProto.FLOAT or len(shape) != 2 or shape[1] not in (size, None):
        raise UserError(f"the network's input is {shown} {onnx.TensorProto.DataType.Name(kind)}; {needed}")
    return inputs[0].name, model.graph.output[0].name


def _try(model: Any, given: str, wanted: str, info: PolicyInfo, gives: Gives) -> None:
    """Raise UserError unless the network gives what is needed, for one observation and for several."""
    import onnxruntime

    last = (len(info.joints),) if gives == "actions" else (info.horizon, len(info.joints))
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for count in (1, 3):
            shape = session.run([wanted], {given: np.zeros((count, info.observation_size), np.float32)})[
                0
            ].shape
            if shape != (count, *last):
                raise UserError(
                    f"for {count} observations the network gives the shape {shape}, needed is {(count, *last)}: "
                    + ("an action for each joint" if gives == "actions" else "goals for each joint")
                )
    except UserError:
        raise
    except Exception as error:
        # onnxruntime's exceptions share no base class of their own.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the network does not run on observations (B, {info.observation_size}): {reason}"
        ) from None


def _shape(value: Any) -> list[int | None]:
    return [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]


def _last_layer(action: str, features: Sequence[Feature], scale: ActionScale) -> tuple[list[Any], list[Any]]:
    """Nodes and constants of `ActionScale.chunk`: from an action to a chunk around the observed `joint_command`."""
    from onnx import helper, numpy_helper

    start = 0
    for feature in features:
        if feature.name == "joint_command":
            break
        start += feature.size
    else:
        raise UserError(
            "actions move the goals of the joints, and this task's policies do not observe where these are: its "
            "features lack 'joint_command'"
        )
    n = len(scale.reach)
    numbers: dict[str, NDArray[Any]] = {
        "start": np.array([start]), "end": np.array([start + n]), "axis": np.array([1]),
        "least": np.array(-1, np.float32), "most": np.array(1, np.float32), "reach": scale.reach.astype(np.float32),
        "lower": scale.lower.astype(np.float32), "upper": scale.upper.astype(np.float32),
        "rows": np.array([1, scale.horizon, 1]),
    }  # fmt: skip
    steps = (
        ("Slice", ("observation", "start", "end", "axis"), "command"),
        ("Clip", (action, "least", "most"), "clipped"),
        ("Mul", ("clipped", "reach"), "moved"),
        ("Add", ("command", "moved"), "wanted"),
        ("Max", ("wanted", "lower"), "above"),
        ("Min", ("above", "upper"), "goal"),
        ("Unsqueeze", ("goal", "axis"), "row"),
        ("Expand", ("row", "rows"), "chunk"),
    )
    kept = {"observation", "chunk", action}

    def named(name: str) -> str:
        return name if name in kept else f"scale/{name}"

    nodes = [helper.make_node(kind, [named(n) for n in given], [named(made)]) for kind, given, made in steps]
    return nodes, [numpy_helper.from_array(value, named(name)) for name, value in numbers.items()]
