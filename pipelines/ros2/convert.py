"""Bags as LeRobot data sets, so that everything that reads recordings reads bags."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from pipelines.ros2.bags import is_bag
from pipelines.ros2.read_bag import BagContent, read_bag
from sim2real.calibration import Calibration
from sim2real.errors import UserError
from sim2real.lerobot.recording import write_episodes
from sim2real.robot import Robot


def bag_to_dataset(
    path: str | Path,
    out: str | Path,
    robot: str | Path | Robot | None = None,
    *,
    states: str | None = None,
    commands: str | None = None,
    fps: float | None = None,
) -> BagContent:
    """Write a bag's episodes as a new LeRobot data set; arguments as for `read_bag`.

    Raises UserError for a bag that cannot be read, and an `out` that exists.
    """
    if os.path.lexists(out) and (not Path(out).is_dir() or os.listdir(out)):
        raise UserError(f"{out} exists; it is not overwritten: name another --out")
    content = read_bag(path, robot, states=states, commands=commands, fps=fps)
    calibration = content.calibration or Calibration.nominal(content.robot)
    rates = {round(episode.fps) for episode in content.episodes}
    if len(rates) > 1:
        raise UserError(
            f"the episodes of {path} have rates of {', '.join(map(str, sorted(rates)))} Hz; a data set has one: take "
            "frames at one with --fps"
        )
    write_episodes(out, content.robot, calibration, content.episodes, executed=content.sent)
    return content


def as_dataset(path: str | Path, robot: str | Path | Robot | None = None) -> Path:
    """`path` itself, or, where it is a bag, a data set made of it that lasts as long as this process.

    Says on standard error how a bag was read. Raises UserError as `bag_to_dataset` does.
    """
    if not is_bag(path):
        return Path(path)
    folder = Path(tempfile.mkdtemp(prefix="sim2real-bag-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    content = bag_to_dataset(path, folder / Path(path).stem, robot)
    print(
        f"bag: {len(content.episodes)} episodes, states from {content.states}, commands from {content.commands}",
        file=sys.stderr,
    )
    for remark in content.remarks:
        print(f"note: {remark}", file=sys.stderr)
    return folder / Path(path).stem
