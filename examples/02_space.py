"""A space: what varies, and how. Built here, saved as TOML, swept.

    python examples/02_space.py [DRAWS]

Names may hold wildcards; `sim2real parameters --task push` lists them all.
"""

import sys

from pipelines import sweep
from randomization import LogUniform, Normal, Space, Uniform, Variation

draws = int(sys.argv[1]) if len(sys.argv) > 1 else 128

space = Space(
    {
        # Absolute values, log-uniformly: slippery to rough.
        "object.cube.friction": LogUniform(0.1, 1.2),
        # Factors of the nominal value, one number for all joints: they share a supply.
        "servo.*.voltage": Variation(Uniform(0.85, 1.05), mode="scale", shared=True),
        # Added to the nominal value, each joint its own.
        "servo.*.offset": Variation(Normal(0.0, 0.01), mode="add"),
    },
    base="task",  # besides these only where the task starts
)
space.save("space.toml", about="what I am unsure about")

result = sweep("push", "so101", space=Space.load("space.toml"), draws=draws, out="runs/space")
print(result)
