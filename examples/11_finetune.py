"""Fine-tuning: a pretrained policy learns from recordings, without forgetting what it could.

    python examples/11_finetune.py [EPOCHS]

Goes on from examples 08, 09 and 10.
"""

import sys

import sim2real as s2r
from pipelines import finetune
from randomization import Space

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
small = {} if epochs > 2 else {"batches": 5, "simulated": 4, "evaluate": 4}

data = s2r.LeRobotDataset.open("runs/recorded")
tuned = finetune(
    "runs/reach/policy.onnx",
    data,
    space=Space.load("runs/twin/space.toml"),
    epochs=epochs,
    every_episode=True,
    out="runs/tuned",
    **small,
)
print(tuned)
before, after = tuned.success_rates or (None, None)
print(f"success in simulation: {before:.0%} before, {after:.0%} after")
