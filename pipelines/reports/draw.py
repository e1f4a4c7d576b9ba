"""The page about one draw of a sweep that was run again: a video, joint plots, what was unusual."""

import base64
from pathlib import Path

import numpy as np

from pipelines.page import Section, page
from pipelines.reports import figures
from pipelines.runs import described
from pipelines.sweeps.replay_draw import ReplayedDraw
from sim2real import __version__
from sim2real.files import write_text


def write_draw_report(replayed: ReplayedDraw) -> Path:
    """Write `report.html` into the folder of the replayed draw; returns its path."""
    plan, draw, episode = replayed.plan, replayed.draw, replayed.episode
    joints, same, video, columns = replayed.joints, replayed.same, replayed.video, replayed.columns
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
    facts = described("sweep --replay")
    values.facts({"command": " ".join(map(str, facts["arguments"])), "versions": facts["versions"]})
    text = page(
        f"Draw {draw.index}: {plan.task}, policy {plan.policy}",
        f"seed {draw.seed}; replayed {'identically' if same else 'with another outcome'}",
        [first, motion, values],
        f"Written by sim2real {__version__}.",
    )
    path = replayed.folder / "report.html"
    write_text(path, text)
    return path
