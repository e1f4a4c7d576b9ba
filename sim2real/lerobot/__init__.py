"""LeRobot data sets: reading v3.0 and v2.x, writing v3.0, with pyarrow and av.

`LeRobotDataset.open(DIR)` reads; `EpisodeRecorder` writes a robot's episodes, `LeRobotWriter` any columns. The
ecosystem's names of features, and ours where it has none, are in `schema`.
"""

from sim2real.lerobot.reader import LeRobotDataset
from sim2real.lerobot.recording import EpisodeRecorder, write_episodes
from sim2real.lerobot.schema import FeatureSpec
from sim2real.lerobot.writer import LeRobotWriter

__all__ = ["EpisodeRecorder", "FeatureSpec", "LeRobotDataset", "LeRobotWriter", "write_episodes"]
