"""A data set of others, made up: LeRobot v2.1, degrees on the grid of ticks, states 120 ms behind the commands.

Everything about it can be changed, as others' recorders and tools do.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NAMES = tuple(
    f"{joint}.pos"
    for joint in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
)
TICK = 360 / 4095

Columns = Mapping[str, Any]


def wave(frames: int = 90, fps: float = 30.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Commands and states (T, 6), degrees."""
    time = np.arange(frames) / fps

    def at(moment: np.ndarray) -> np.ndarray:
        swing = 20 * np.sin(2 * np.pi * moment[:, None] * (0.3 + 0.05 * np.arange(6)) + seed)
        return np.asarray(np.rint((swing + np.array([0, -10, 10, 20, 0, 40])) / TICK) * TICK)

    return at(time), at(time - 0.12)


def foreign_set(
    root: Path,
    episodes: list[tuple[np.ndarray, np.ndarray]] | None = None,
    *,
    names: tuple[str, ...] = NAMES,
    stamps: Callable[[int, np.ndarray], Any] | None = None,
    columns: Callable[[int, int], Columns] | None = None,
    features: Mapping[str, Any] | None = None,
    row: Callable[[int], Mapping[str, Any]] | None = None,
    **info: Any,
) -> Path:
    """Write it to `root`. `stamps(episode, frames)`, `columns(episode, length)` and `row(episode)` fill in what others
    have; `features` and `info` go to meta/info.json."""
    episodes = [wave(seed=seed) for seed in range(3)] if episodes is None else episodes
    fps = info.get("fps", 30)
    vector = {"dtype": "float32", "shape": [len(names)], "names": list(names)}
    one = {"dtype": "int64", "shape": [1], "names": None}
    content = {
        "codebase_version": "v2.1",
        "robot_type": "so101_follower",
        "fps": fps,
        "total_episodes": len(episodes),
        "total_frames": sum(len(state) for _, state in episodes),
        "data_path": "data/episode_{episode_index:06d}.parquet",
        "features": {
            "action": vector,
            "observation.state": vector,
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), one),
            **(features or {}),
        },
        **info,
    }
    (root / "meta").mkdir(parents=True)
    (root / "data").mkdir()
    (root / "meta/info.json").write_text(json.dumps(content))
    (root / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "put"}) + "\n")
    lines = [
        json.dumps({"episode_index": e, "tasks": ["put"], "length": len(state), **(row(e) if row else {})})
        for e, (_, state) in enumerate(episodes)
    ]
    (root / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    for e, (action, state) in enumerate(episodes):
        frames = np.arange(len(state))
        table = {
            "action": list(action.astype(np.float32)),
            "observation.state": list(state.astype(np.float32)),
            "timestamp": frames / fps if stamps is None else stamps(e, frames),
            "frame_index": frames,
            "episode_index": np.full(len(state), e),
            "index": frames,
            "task_index": np.zeros(len(state), int),
            **(columns(e, len(state)) if columns else {}),
        }
        pq.write_table(pa.table(table), file_of(root, e))
    return root


def file_of(root: Path, episode: int) -> Path:
    return root / f"data/episode_{episode:06d}.parquet"


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)
