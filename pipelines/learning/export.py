"""Writing policy files, and loading the network in one again for fine-tuning.

The file's format is described in `sim2real/policies/file.py`, which loads it for deployment without torch.
"""

import base64
import io
import json
import warnings
from pathlib import Path

import numpy as np
import torch

from pipelines.learning.networks.base import PolicyNetwork
from pipelines.learning.networks.registry import build_network
from sim2real.errors import Sim2RealError, UserError
from sim2real.files import write_bytes
from sim2real.policies.file import (
    INFO_KEY,
    NETWORK_KEY,
    QUANTIZED_KEY,
    WEIGHTS_KEY,
    FilePolicy,
    PolicyInfo,
    load_policy_file,
)

TOLERANCE = 1e-4
"""Largest difference, rad, allowed between the exported file and the network it came from."""


def export_policy(network: PolicyNetwork, info: PolicyInfo, path: str | Path) -> float:
    """Write `path`, complete or not at all; returns the largest difference to the network, rad.

    The file is loaded back and compared on random observations around the training data before it takes the
    place of an older one. Raises Sim2RealError when the two disagree.
    """
    path = Path(path)
    content = serialize_policy(network, info)
    difference = compare(network, FilePolicy(content, str(path)))
    if not difference <= TOLERANCE:
        raise Sim2RealError(
            f"the exported policy differs from the network by {difference:.2e} rad (allowed {TOLERANCE}); "
            f"{path} was not written"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return difference


def serialize_policy(network: PolicyNetwork, info: PolicyInfo) -> bytes:
    """The policy file's bytes. The network may be on any device and in any mode; it is left as it was."""
    import onnx
    from safetensors.torch import save

    arguments = network.arguments
    if (
        [list(pair) for pair in arguments["features"]] != [[f.name, f.size] for f in info.features]
        or arguments["horizon"] != info.horizon
        or arguments["joints"] != len(info.joints)
        or (network.pictures, network.history) != (info.pictures, info.history)
    ):
        raise ValueError(f"the network {arguments} is not the one described by {info}")
    copy = build_network(arguments)
    copy.load_state_dict({name: value.detach().float().cpu() for name, value in network.state_dict().items()})
    copy.eval()
    buffer = io.BytesIO()
    inputs = ["observation", *(picture.entry for picture in info.pictures)]
    with warnings.catch_warnings():
        # The tracing exporter takes 0.2 s where the newer one takes five; a file is written in every round of
        # data collection. The network has no control flow that depends on data, so tracing loses nothing.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            copy,
            (
                torch.zeros(2, info.observation_size),
                *(torch.zeros(2, *picture.shape, dtype=torch.uint8) for picture in info.pictures),
            ),
            buffer,  # type: ignore[arg-type]  # the tracing exporter writes to files and buffers alike
            dynamo=False,
            opset_version=17,
            input_names=inputs,
            output_names=list(network.outputs),
            dynamic_axes={name: {0: "B"} for name in (*inputs, *network.outputs)},
        )
    # Convolutions lie in memory as they compute fastest, files have one order.
    weights = {name: value.contiguous() for name, value in copy.state_dict().items()}
    model = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(
        model,
        {
            INFO_KEY: info.to_json(),
            NETWORK_KEY: json.dumps(arguments),
            WEIGHTS_KEY: base64.b64encode(save(weights)).decode(),
        },
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def compare(network: PolicyNetwork, policy: FilePolicy, samples: int = 64) -> float:
    """Largest difference, rad, between network and file on random observations spread like the training data."""
    rng = np.random.default_rng(0)
    vectors, pictures = network.typical_observations(samples, rng), network.typical_pictures(samples, rng)
    device = network.output_scale.device
    # While it learns a network may compute with fewer digits.
    training = network.training
    network.eval()
    with torch.no_grad():
        found = network(*(torch.from_numpy(values).to(device) for values in (vectors, *pictures)))
    network.train(training)
    expected = (found[0] if isinstance(found, tuple) else found).cpu().numpy()
    shown = {wanted.entry: images for wanted, images in zip(network.pictures, pictures)}
    return float(np.abs(policy.act_on(vectors, shown) - expected).max())


def load_network(path: str | Path) -> tuple[PolicyNetwork, FilePolicy]:
    """The trainable network in a policy file, and the file itself.

    Raises UserError when the file is no policy file or holds no weights that can be trained further: a network with
    8-bit weights is not the one whose weights the file keeps.
    """
    from safetensors.torch import load

    policy = load_policy_file(path)
    if QUANTIZED_KEY in policy.metadata:
        raise UserError(
            f"{path} has 8-bit weights, which cannot be trained further: fine-tune the file that it was made from, and "
            "give the result 8 bits (`sim2real bench-policy FILE --quantize OUT.onnx`)"
        )
    try:
        arguments = json.loads(policy.metadata[NETWORK_KEY])
        # In files of earlier versions the features have other names.
        arguments["features"] = [[feature.name, feature.size] for feature in policy.info.features]
        network = build_network(arguments)
        network.load_state_dict(load(base64.b64decode(policy.metadata[WEIGHTS_KEY], validate=True)))
    except KeyError as error:
        raise UserError(f"{path} can be run but not trained further: it lacks the metadata {error}") from None
    except Exception as error:
        raise UserError(f"{path} cannot be trained further: its weights do not load ({error})") from None
    return network, policy
