"""Recording: episodes on an arm as a LeRobot data set. Here on an emulated arm, with the expert at work.

    python examples/09_record.py [EPISODES]

With port="/dev/ttyACM0" it is a real one; leader=…, hand=True or keyboard=True let a person act.
"""

import sys

from pipelines import record

episodes = int(sys.argv[1]) if len(sys.argv) > 1 else 10

recording = record("reach", "so101", port="emulated", episodes=episodes, out="runs/recorded")
print(recording)
data = recording.dataset
print(f"{data.root}: {len(data)} episodes at {data.fps:g} Hz, features {', '.join(data.features)}")
