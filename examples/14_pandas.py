"""Recordings with pandas: every table that the project writes is parquet.

    pip install pandas
    python examples/14_pandas.py [DATA]

A LeRobot data set has one row per frame. How far behind its goal was each joint?
"""

import sys
from pathlib import Path

import numpy as np
import pandas

import sim2real as s2r

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/recorded")
frames = pandas.concat(pandas.read_parquet(path) for path in sorted((folder / "data").rglob("*.parquet")))
print(frames.groupby("episode_index")["timestamp"].agg(["count", "max"]))

# The same in radians: LeRobotDataset knows calibrations and units.
robot = s2r.Robot.load("so101")
data = s2r.LeRobotDataset.open(folder)
episodes = data.load(robot)
lag = pandas.DataFrame(
    np.degrees(np.vstack([episode.executed - episode.state for episode in episodes])),
    columns=list(robot.joint_names),
)
print(lag.abs().describe().loc[["mean", "50%", "max"]].round(2).T)
