"""Moving pictures of how trials failed: one of each of the most frequent causes, replayed from its draw."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.benchmarks.protocol import Entry
from pipelines.benchmarks.simulated import SimulatedTrials
from sim2real.files import write_bytes, write_json

SIZE = (240, 180)
"""Pixels, width and height."""
EVERY = 6
"""Policy steps between two pictures: five a second."""
FOLDER = "clips"


def add_clips(entries: Sequence[Entry], out: Path, summary: dict[str, Any], most: int) -> dict[str, Any]:
    """Write clips of the `most` frequent causes into `out`, unless they are there; returns the summary with their
    names under `clips`. Trials in other simulators than the project's own have none."""
    tried = {entry.id: entry.trials for entry in entries}
    clips = []
    for cause, task, index in _typical(out, most):
        trials = tried.get(task)
        if not isinstance(trials, SimulatedTrials):
            continue
        file = f"{FOLDER}/{cause.replace(': ', '-').replace(' ', '-')}-{task.replace('/', '-')}-{index}.gif"
        if not (out / file).exists():
            (out / FOLDER).mkdir(exist_ok=True)
            write_bytes(out / file, moving(frames(trials, index), EVERY / 30))
        clips.append({"cause": cause, "task": task, "trial": index, "file": file})
    if clips:
        summary = summary | {"clips": clips}
        write_json(out / "summary.json", summary)
    return summary


def _typical(out: Path, most: int) -> list[tuple[str, str, int]]:
    """(cause, task, number of the trial): of the most frequent causes the first failed trial each."""
    import pyarrow.parquet as pq

    columns = ["side", "task", "index", "success", "cause"]
    rows: list[Mapping[str, Any]] = [
        row
        for row in pq.read_table(out / "trials.parquet", columns=columns).to_pylist()
        if row["side"] == "policy" and not row["success"] and row["cause"]
    ]
    tasks = list(
        dict.fromkeys(
            row["task"] for row in pq.read_table(out / "trials.parquet", columns=["task"]).to_pylist()
        )
    )
    found = []
    for cause, _ in Counter(row["cause"] for row in rows).most_common(most):
        row = next(row for row in rows if row["cause"] == cause)
        # Trials of K tasks are numbered in turns.
        found.append((str(cause), str(row["task"]), int(row["index"]) // len(tasks)))
    return found


def frames(trials: SimulatedTrials, index: int) -> list[NDArray[np.uint8]]:
    """Pictures (H, W, 3) of one trial, from its draw."""
    from sim2real.simulation.rollout import rollout

    plan = trials.plan
    world, policy = plan.factory.open()
    seen: list[NDArray[np.uint8]] = []

    def look(step: int, *_: Any) -> None:
        if step % EVERY == 0:
            seen.append(world.render(None, *SIZE))

    with world:
        rollout(world, policy, trials.draws(index + 1)[index], privileged=plan.sees_truth, on_step=look)
        seen.append(world.render(None, *SIZE))
    return seen


def moving(pictures: Sequence[NDArray[np.uint8]], period: float) -> bytes:
    """An animated GIF of pictures (H, W, 3), `period` s each; the last one stays longer."""
    from PIL import Image

    images = [Image.fromarray(picture).quantize(64) for picture in pictures]
    buffer = io.BytesIO()
    durations = [round(1000 * period)] * (len(images) - 1) + [1500]
    images[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=durations,
        loop=0,
        optimize=True,
    )
    return buffer.getvalue()
