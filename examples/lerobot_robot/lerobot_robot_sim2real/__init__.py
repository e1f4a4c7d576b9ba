"""A robot for LeRobot: `--robot.type=sim2real_follower`. See sim2real_follower.py."""

from .config_sim2real_follower import Sim2RealFollowerConfig
from .sim2real_follower import Sim2RealFollower

__all__ = ["Sim2RealFollower", "Sim2RealFollowerConfig"]
