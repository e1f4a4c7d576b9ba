"""One draw of a sweep, run again to be looked at: a video, joint plots, and whether the outcome was the same."""

import base64
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.reports import figures
from pipelines.reports.page import Section, page
from pipelines.sweeps.plan import dimensions, open_policy, plan_of, provenance, recorded_draw
from sim2real import __version__
from sim2real.episode import Episode
from sim2real.parameters import Draw

CAMERA = "front"


def replay_draw(directory: Path, index: int) -> dict[str, Any]:
    """Run draw `index` of the sweep in `directory` again and write `replay-INDEX/` beside its results.

    That folder gets `video.mp4` (where the robot has a camera called "front"), `episode.npz` and `report.html`.
    Returns what happened, and whether success and duration are those of the sweep. Raises UserError when the
    directory holds no sweep or not this draw.
    """
    from randomization.sweep import read_json
    from sim2real.robot import Robot
    from sim2real.simulation.rollout import rollout
    from sim2real.simulation.world import World
    from sim2real.tasks.registry import load_task

    plan = plan_of(directory)
    draw, row = recorded_draw(directory, plan, index)
    robot, task = Robot.load(plan.robot), load_task(plan.task)
    world = World(robot, task, nominal=dict(plan.nominal))
    try:
        policy = open_policy(plan.policy, task, robot)
        cameras = (CAMERA,) if CAMERA in robot.cameras else ()
        episode = rollout(world, policy, draw, privileged=plan.sees_truth, images=cameras)
    finally:
        world.close()
    same = bool(episode.success) == row["success"] and (
        row.get("seconds") is None or abs(row["seconds"] - len(episode) / episode.fps) < 1e-9
    )
    folder = directory / f"replay-{index}"
    folder.mkdir(exist_ok=True)
    video = _video(episode, folder / "video.mp4") if cameras else None
    arrays: dict[str, Any] = {
        name: getattr(episode, name) for name in ("time", "state", "action", "executed")
    }
    arrays |= {f"feature.{name}": values for name, values in episode.features.items()}
    np.savez(
        folder / "episode.npz", joints=np.array(robot.joint_names), draw=np.array(draw.to_json()), **arrays
    )
    columns = dimensions(read_json(directory / "config.json")["sweep"])
    report = folder / "report.html"
    report.write_text(_page(episode, draw, robot.joint_names, row, same, video, plan, columns))
    return {
        "index": index,
        "outcome": "success" if episode.success else f"failure ({row['failure'] or episode.stage})",
        "success": bool(episode.success),
        "stage": episode.stage,
        "seconds": len(episode) / episode.fps,
        "same_as_in_sweep": same,
        "video": str(video) if video else None,
        "report": str(report),
    }


def _video(episode: Episode, path: Path) -> Path:
    from sim2real.lerobot.video import VideoEncoder

    frames = episode.images[CAMERA]
    encoder = VideoEncoder(path, frames.shape[2], frames.shape[1], episode.fps)
    try:
        for frame in frames:
            encoder.add(frame)
        encoder.finish()
    except BaseException:
        encoder.abort()
        raise
    return path


def _page(
    episode: Episode,
    draw: Draw,
    joints: tuple[str, ...],
    row: dict[str, Any],
    same: bool,
    video: Path | None,
    plan: Any,
    columns: dict[str, str],
) -> str:
    outcome = "succeeded" if episode.success else "failed"
    first = Section(f"This draw {outcome}")
    first.tiles(
        [
            (f"{len(episode) / episode.fps:.2f} s", "", "simulated"),
            (episode.stage.replace("_", " ") or "–", "", "furthest stage"),
            (
                str(sum(episode.info.get("interventions", {}).values())),
                "",
                "ticks at which the gate stepped in",
            ),
        ]
    )
    if not same:
        first.text(
            "The outcome differs from the sweep's: the policy, the package or a library has changed since.",
            "bad",
        )
    if video is not None:
        data = base64.b64encode(video.read_bytes()).decode()
        first.blocks.append(
            f'<figure><video controls muted playsinline style="max-width:100%" src="data:video/mp4;base64,{data}">'
            "</video><figcaption>What the camera sees under this draw.</figcaption></figure>"
        )
    motion = Section("Joints")
    rows = [
        (
            name,
            [
                ("sensed", np.degrees(episode.state[:, j])),
                ("goal sent", np.degrees(episode.executed[:, j])),
                ("asked for", np.degrees(episode.action[:, j])),
            ],
        )
        for j, name in enumerate(joints)
    ]
    motion.figure(
        figures.panels(episode.time, rows, x_label="time (s)", y_label="degrees", least_span=2.0),
        "Joint angles over time",
        "What the sensors showed, the goal after the gate, and what the policy asked for.",
    )
    world = plan.bind()
    unusual = []
    for column in columns.values():
        value, (low, high) = draw.values.get(column), world.range(column)
        if value is not None and high > low and not column.startswith("task."):
            nominal = world.parameters[column].nominal
            unusual.append(
                (abs(value - nominal) / (high - low), column, value, nominal, world.parameters[column].unit)
            )
    unusual.sort(reverse=True)
    values = Section("The draw")
    values.text("The parameters farthest from nominal, as a share of their range:")
    values.table(
        [
            {
                "parameter": name,
                "value": value,
                "nominal": nominal,
                "unit": "" if unit == "1" else unit,
                "away": f"{share:.0%} of the range",
            }
            for share, name, value, nominal, unit in unusual[:12]
        ]
    )
    values.facts(
        {"draw": draw.index, "seed": draw.seed, **{k: f"{v:.6g}" for k, v in draw.values.items()}}, "All"
    )
    facts = provenance("sweep --replay")
    values.facts({"command": " ".join(map(str, facts["arguments"])), "versions": facts["versions"]})
    return page(
        f"Draw {draw.index}: {plan.task}, policy {plan.policy}",
        f"seed {draw.seed}; replayed {'identically' if same else 'with another outcome'}",
        [first, motion, values],
        f"Written by sim2real {__version__}.",
    )
