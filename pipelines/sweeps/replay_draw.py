"""One draw of a sweep, run again to be looked at: a video, joint plots, and whether the outcome was the same."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.sweeps.plan import SweepPlan, dimensions, plan_of, recorded_draw, refuse_code
from sim2real.episode import Episode
from sim2real.files import read_json
from sim2real.parameters import Draw
from sim2real.policies.load import load_policy


@dataclass(frozen=True)
class ReplayedDraw:
    """What happened, and how it was in the sweep."""

    plan: SweepPlan
    draw: Draw
    row: dict[str, Any]
    """The draw's results in the sweep."""
    joints: tuple[str, ...]
    episode: Episode
    same: bool
    """Whether success and duration are those of the sweep."""
    folder: Path
    video: Path | None
    columns: dict[str, str]
    """Dimension of the sweep → the parameter that shows it."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for the command."""
        episode = self.episode
        failure = f"failure ({self.row['failure'] or episode.stage})"
        return {
            "index": self.draw.index,
            "outcome": "success" if episode.success else failure,
            "success": bool(episode.success),
            "stage": episode.stage,
            "seconds": len(episode) / episode.fps,
            "same_as_in_sweep": self.same,
            "video": str(self.video) if self.video else None,
        }


def replay_draw(
    directory: Path, index: int, *, trusted_task: str | None = None, trusted_policy: str | None = None
) -> ReplayedDraw:
    """Run draw `index` of the sweep in `directory` again and write `replay-INDEX/` beside its results.

    That folder gets `video.mp4`, of the camera that looks for objects, and `episode.npz`. Raises UserError
    when the directory holds no sweep or not this draw; `trusted_…` as in `refuse_code`.
    """
    from sim2real.robot import Robot
    from sim2real.simulation.rollout import rollout
    from sim2real.simulation.world import World
    from sim2real.tasks.registry import load_task

    plan = plan_of(directory, task=trusted_task)
    refuse_code(directory, "policy", plan.policy, trusted_policy)
    draw, row = recorded_draw(directory, plan, index)
    robot = Robot.load(plan.robot)
    task = load_task(plan.task, robot.n)
    world = World(robot, task, nominal=dict(plan.nominal), cameras=plan.camera_models)
    camera = world.cameras.detector or world.cameras.names[0]
    try:
        policy = load_policy(plan.policy, task, robot)
        episode = rollout(world, policy, draw, privileged=plan.sees_truth, images=(camera,))
    finally:
        world.close()
    same = bool(episode.success) == row["success"] and (
        row.get("seconds") is None or abs(row["seconds"] - len(episode) / episode.fps) < 1e-9
    )
    folder = directory / f"replay-{index}"
    folder.mkdir(exist_ok=True)
    video = _video(episode.images[camera], episode.fps, folder / "video.mp4")
    arrays: dict[str, Any] = {
        name: getattr(episode, name) for name in ("time", "state", "action", "executed")
    }
    arrays |= {f"feature.{name}": values for name, values in episode.features.items()}
    np.savez(
        folder / "episode.npz", joints=np.array(robot.joint_names), draw=np.array(draw.to_json()), **arrays
    )
    columns = dimensions(read_json(directory / "config.json")["sweep"])
    return ReplayedDraw(plan, draw, row, robot.joint_names, episode, same, folder, video, columns)


def _video(frames: NDArray[np.uint8], fps: float, path: Path) -> Path:
    from sim2real.lerobot.video import VideoEncoder

    encoder = VideoEncoder(path, frames.shape[2], frames.shape[1], fps)
    try:
        for frame in frames:
            encoder.add(frame)
        encoder.finish()
    except BaseException:
        encoder.abort()
        raise
    return path
