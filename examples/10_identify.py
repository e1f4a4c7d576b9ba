"""Identification: the simulated arm that moves as yours did, from any LeRobot data set of it.

    python examples/10_identify.py [DATA] [ROBOT]

Recordings of teleoperation or of a policy will do, also public ones of the same kind of arm: download one with
`huggingface-cli download --repo-type dataset NAME --local-dir DATA`. Those guided by hand say nothing of the servos.
"""

import sys

import sim2real as s2r
from pipelines import identify

folder = sys.argv[1] if len(sys.argv) > 1 else "runs/recorded"
robot = s2r.Robot.load(sys.argv[2]) if len(sys.argv) > 2 else None  # None: what the data set says

data = s2r.LeRobotDataset.open(folder)
twin = identify(data, robot, say=print)

print(
    f"simulation and recording differ by {twin.gap_before_degrees:.2f}°, after the fit by {twin.gap_degrees:.2f}°"
)
for name in [name for name in twin.parameters if name.endswith(".kp")]:
    print(f"  {name:24} {twin.parameters[name]:7.3f} ± {twin.uncertainty[name]:.3f}")
print(
    f"the data say little about {len(twin.undetermined)} quantities; `sim2real excite` records what they need"
)
print("written to", twin.save("runs/twin"))
