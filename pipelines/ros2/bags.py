"""What bags have in common: which paths are bags, and rosbags, which reads and writes them without ROS."""

from pathlib import Path
from typing import Any

from sim2real.errors import UserError

FILES = (".mcap", ".db3", ".bag")


def is_bag(path: str | Path) -> bool:
    """Whether `path` is a bag: a folder with metadata.yaml, or a file of one of `FILES`."""
    path = Path(path)
    if path.is_dir():
        return (path / "metadata.yaml").is_file() and not (path / "meta" / "info.json").is_file()
    return path.suffix.lower() in FILES


def rosbags() -> Any:
    """The package, or one message that says how to get it."""
    try:
        import rosbags.highlevel
        import rosbags.rosbag2
        import rosbags.typesys
    except ImportError:
        raise UserError(
            "bags of ROS 2 need rosbags, which is not installed: pip install 'sim2real-transfer[ros2]'"
        ) from None
    return rosbags


def typestore() -> Any:
    """Message types of ROS 2 Jazzy (those used here are alike in all releases since Humble)."""
    types = rosbags().typesys
    return types.get_typestore(types.Stores.ROS2_JAZZY)
