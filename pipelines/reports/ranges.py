"""The report of automatic ranges."""

from pathlib import Path

import numpy as np

from pipelines.page import Section
from pipelines.reports import figures as draw
from sim2real.files import read_json


def sections(directory: Path) -> list[Section]:
    """The report of a run of `sim2real ranges`."""
    answer = read_json(directory / "ranges.json")
    history, names = answer["history"], list(answer["ranges"])
    section = Section("Ranges that the policy can bear")
    section.text(
        f"Found with {answer['draws']} episodes by "
        + ("automatic domain randomization" if answer["method"] == "adr" else "maximum entropy (DORAEMON)")
        + f", to keep a success rate of {answer['wanted_success']:.0%}."
    )
    section.table(
        [
            {
                "parameter": name,
                "from": answer["ranges"][name][0],
                "to": answer["ranges"][name][1],
                "unit": answer["units"][name].removeprefix("1"),
                "outer limits": " … ".join(f"{v:.4g}" for v in answer["outer"][name]),
            }
            for name in names
        ]
    )
    task = read_json(directory / "config.json")["settings"]["task"]
    section.code(f"sim2real pretrain --task {task} --space {directory / 'space.toml'} --out runs/wider")
    progress = Section("How it went")
    draws = [row["draws"] for row in history]
    rate = [row["success"] for row in history]
    progress.figure(
        draw.lines(draws, [("success", rate)], x_label="episodes", y_label="success rate", height=2.0),
        "Success rate over episodes",
        "Success in each iteration"
        + (", in which parameters are held at the ends under test." if answer["method"] == "adr" else "."),
    )
    shown = names[:12]
    with draw.Canvas(
        9.4, 1.6 * -(-len(shown) // 2) + 0.3, -(-len(shown) // 2), 2, sharex=True, sharey=True
    ) as c:
        for ax, name in zip(c.axes, shown):
            ends = np.array([row["ranges"][name] for row in history])
            ax.fill_between(draws, ends[:, 0], ends[:, 1], color=draw.ACCENT, alpha=0.3, lw=0)
            ax.set_title(name)
            ax.set_ylim(0, 1)
            ax.set_ylabel("of outer range")
            ax.set_xlabel("episodes")
            ax.label_outer()
        for ax in c.axes[len(shown) :]:
            ax.set_visible(False)
    progress.figure(
        c.uri,
        "Ranges over episodes",
        "Each range as a part of its outer limits (for logarithmic ones in the logarithm)"
        + ("." if answer["method"] == "adr" else "; the central 90 % of the distribution."),
    )
    return [section, progress]
