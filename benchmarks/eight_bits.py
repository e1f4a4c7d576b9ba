"""What 8-bit weights save, and what they change, by kind of network: `python benchmarks/eight_bits.py [--seconds S]`.

Networks of random weights for `reach`: the default one's size, a wide one, a transformer of four layers. One thread.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines import quantize_policy
from pipelines.api.export import export_policy
from sim2real.tasks.registry import load_task

FEATURES = sum(feature.size for feature in load_task("reach").features)
HORIZON, JOINTS = 10, 6


class Dense(nn.Module):
    """Two hidden layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, HORIZON * JOINTS),
        )  # fmt: skip

    def forward(self, observation: Tensor) -> Tensor:
        return 0.3 * self.layers(observation).reshape(-1, HORIZON, JOINTS)


class Transformer(nn.Module):
    """A token an action, four layers of width 256."""

    def __init__(self, width: int = 256, layers: int = 4) -> None:
        super().__init__()
        self.take, self.give = nn.Linear(FEATURES, width), nn.Linear(width, JOINTS)
        self.queries = nn.Parameter(0.1 * torch.randn(HORIZON, width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, dropout=0.0)
        self.layers = nn.TransformerEncoder(layer, layers)

    def forward(self, observation: Tensor) -> Tensor:
        return 0.2 * self.give(self.layers(self.take(observation)[:, None] + self.queries))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of timing, both together (%(default)s)")
    seconds = parser.parse_args().seconds
    torch.manual_seed(0)
    networks = {"2 × 256": Dense(256), "2 × 2048": Dense(2048), "transformer": Transformer().eval()}
    print("network       p50, ms: 32 bits   8 bits    apart, °: rms      max   pays")
    with tempfile.TemporaryDirectory() as folder:
        for name, network in networks.items():
            path = export_policy(network, "reach", out=Path(folder) / "policy.onnx", gives="chunk")
            found = quantize_policy(path, Path(folder) / "policy8.onnx", seconds=seconds)
            p50 = found.result["p50_ms"]
            print(
                f"{name:12} {p50['before']:17.3f} {p50['after']:8.3f} {found.rms_degrees:16.4f} "
                f"{found.largest_degrees:8.3f}   {'yes' if found.pays else 'no'}"
            )


if __name__ == "__main__":
    main()
