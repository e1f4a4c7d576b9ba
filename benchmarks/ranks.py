"""Two processes that train together: loss against one, and bytes that each way of sending gradients takes.

    python benchmarks/ranks.py [--epochs 6] [--width 256]

As root in a network namespace of its own, where nothing else sends (`unshare -n`); otherwise bytes are of everything on
loopback meanwhile.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from pipelines.learning.cloning import ChunkCloning
from pipelines.learning.data import ChunkDataModule
from pipelines.learning.demonstrations import Demonstrations
from pipelines.learning.networks.registry import build_network
from pipelines.learning.trainer import History, TrainerOptions, fit

FEATURES = [["joint_position", 6], ["joint_command", 6], ["goal", 3]]
ALONE = "SIM2REAL_OWN_NETWORK"
BATCHES = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--width", type=int, default=256)
    options = parser.parse_args()
    if os.geteuid() == 0 and ALONE not in os.environ:
        command = [
            "unshare",
            "-n",
            "sh",
            "-c",
            'ip link set lo up; exec "$@"',
            "sh",
            sys.executable,
            *sys.argv,
        ]
        sys.exit(subprocess.run(command, env={**os.environ, ALONE: "1"}).returncode)
    arguments = {
        "kind": "mlp",
        "features": FEATURES,
        "joints": 6,
        "horizon": 10,
        "width": options.width,
        "depth": 3,
    }
    size = sum(value.numel() for value in build_network(arguments).parameters())
    print(f"{size:,} weights, {options.epochs * BATCHES} steps")
    print("| processes | strategy | loss at the end | held out | against one | kB a step |")
    print("|---|---|---|---|---|---|")
    one = None
    for devices, strategy in (("1", "auto"), ("2", "ddp"), ("2", "ddp_fp16"), ("2", "ddp_powersgd")):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            out.mkdir()
            before = loopback()
            row = trained(arguments, out, TrainerOptions("cpu", devices, strategy=strategy), options.epochs)
            sent = (loopback() - before) / (options.epochs * BATCHES)
        one = one or row["val_loss"]
        cells = (devices, strategy, f"{row['train_loss']:.4f}", f"{row['val_loss']:.4f}")
        print(
            "| " + " | ".join((*cells, f"{row['val_loss'] / one - 1:+.2%}", f"{sent / 1e3:,.0f}")) + " |",
            flush=True,
        )


def trained(
    arguments: dict[str, object], out: Path, options: TrainerOptions, epochs: int
) -> dict[str, float]:
    """The last row of a training on made-up demonstrations."""
    torch.manual_seed(0)
    model = ChunkCloning(dict(arguments), total_steps=epochs * BATCHES)
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(4000, 15)).astype(np.float32)
    chunks = 0.1 * np.tanh(observations @ rng.normal(size=(15, 60))).reshape(-1, 10, 6).astype(np.float32)
    shown = Demonstrations(observations, chunks, np.arange(4000) // 80)
    data = ChunkDataModule(model.network, lambda group: shown, batch_size=512, batches_per_epoch=BATCHES)
    fit(model, data, out, epochs=epochs, options=options, history=History(out / "metrics.json"))
    row: dict[str, float] = json.loads((out / "metrics.json").read_text())["curve"][-1]
    return row


def loopback() -> int:
    """Bytes that loopback has carried."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            return int(rest.split()[0])
    return 0


if __name__ == "__main__":
    main()
