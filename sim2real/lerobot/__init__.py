"""LeRobot data sets: reading v3.0 and v2.x, writing v3.0, with pyarrow and av.

`LeRobotDataset.open(DIR)` reads. The ecosystem's names of features, and ours where it has none, are in `schema`.
"""

from sim2real.lerobot.reader import LeRobotDataset

__all__ = ["LeRobotDataset"]
