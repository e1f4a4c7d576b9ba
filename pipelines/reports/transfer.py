"""The report of a transfer run: realities × methods, paired differences, what simulation predicted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.page import Section
from pipelines.reports import figures as draw
from sim2real.files import read_json

MEANINGS = {
    "none": "no randomization",
    "narrow": "narrow ranges",
    "default": "default ranges (zero-shot)",
    "forces": "random pushes alone",
    "automatic": "automatic ranges",
    "identified": "identified twin",
    "finetuned": "fine-tuned there",
    "oracle": "true parameters",
}


def sections(directory: Path) -> list[Section]:
    """The report of a run of `sim2real transfer`."""
    found = read_json(directory / "transfer.json")
    made = [_rates(found), _differences(found), _ranking(found), _episodes(found)]
    return [section for section in made if section is not None]


def _rates(found: Mapping[str, Any]) -> Section:
    section = Section("On arms that are not the simulation")
    section.text(found["caveat"])
    section.tiles(
        [
            (
                "–" if one["mean_over_realities"] is None else f"{one['mean_over_realities']:.1%}",
                f"{one['successes']} of {one['episodes']}",
                MEANINGS.get(method, method),
            )
            for method, one in found["methods"].items()
        ]
    )
    rows = []
    for reality, cells in found["realities"].items():
        row: dict[str, Any] = {"reality": reality}
        for method in found["methods"]:
            row[method] = _rate(cells[method]) if method in cells else "–"
        rows.append(row)
    section.table(rows)
    section.text(
        "Successes of episodes, with the 95 % interval after Wilson. Every method meets the same episodes. The large "
        "figures are means over the realities, each counting the same. "
        + (
            "Simulated time: the servos' bytes, the driver, the control loop and the detector are those of an arm."
            if found["clock"] == "stepped"
            else "In real time, with the processes, the port and the HTTP camera of a deployment."
        ),
        "note",
    )
    section.table(
        [
            {
                "reality": name,
                "engine": one["engine"],
                "drawn by": one["pictures"],
                "what is different": one["description"],
            }
            for name, one in found["about"].items()
        ]
    )
    section.text("Pictures are drawn by the project's own renderers in both engines.", "note")
    lost = sum(one["not_counted"] for one in found["methods"].values())
    if lost:
        section.text(f"{lost} episodes do not count: their reality fell behind real time.")
    return section


def _rate(one: Mapping[str, Any]) -> str:
    if one["success_rate"] is None:
        return "–"
    low, high = one["wilson_95"]
    return f"{one['successes']}/{one['episodes']} ({low:.0%}–{high:.0%})"


def _differences(found: Mapping[str, Any]) -> Section | None:
    gap = found["gap_closed"]
    if not found["comparisons"] and gap is None:
        return None
    section = Section("What a method adds")
    section.table(
        [
            {
                "method": pair["after"],
                "against": pair["before"],
                "difference": f"{pair['difference']:+.1%}",
                "95 % interval": f"{pair['newcombe_95'][0]:+.1%} … {pair['newcombe_95'][1]:+.1%}",
                "p": f"{pair['mcnemar_p']:.2g}",
                "only it": pair["only_after"],
                "only the other": pair["only_before"],
                "pairs": pair["pairs"],
            }
            for pair in found["comparisons"]
        ],
        empty="only one method was run",
    )
    section.text(
        "Episode by episode; the interval is Newcombe's for pairs, p that of McNemar's exact test.", "note"
    )
    if gap is not None and gap["value"] is not None:
        within = "" if gap["bootstrap_95"] is None else " [{:.0%}, {:.0%}]".format(*gap["bootstrap_95"])
        section.text(
            f"Fine-tuning closes {gap['value']:.0%}{within} of the gap between zero-shot and a policy trained with the "
            f"true parameters ({gap['episodes']} episodes)."
        )
    elif gap is not None:
        section.text(
            "The policy with the true parameters is no better than zero-shot: there is no gap to close."
        )
    return section


def _ranking(found: Mapping[str, Any]) -> Section | None:
    ranking = found["ranking"]
    points = ranking["points"]
    if ranking["policies"]["count"] < 2:
        return None
    section = Section("What success in simulation predicts")
    with draw.Canvas(6.0, 3.4) as canvas:
        ax = canvas.axes[0]
        ax.plot([0, 1], [0, 1], color=draw.GRID, lw=1, zorder=0)
        for method in dict.fromkeys(point["method"] for point in points):
            own = [point for point in points if point["method"] == method]
            ax.scatter([p["simulated"] for p in own], [p["real"] for p in own], s=18, label=method, alpha=0.8)
        ax.set_xlabel("success in simulation")
        ax.set_ylabel("success on a reality")
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(-0.03, 1.03)
        ax.legend(frameon=False, fontsize=8)
    section.figure(
        canvas.uri, "Success in simulation and on realities", "Each policy on each reality; simulated success is that "
        "under the default ranges, through sensors, on unseen draws."
    )  # fmt: skip
    rows = []
    for name, what in (("policies", "policies, by their means"), ("pairs", "policies × realities")):
        one = ranking[name]
        rows.append(
            {
                "over": what,
                "count": one["count"],
                "Pearson": one["pearson"],
                "mean maximum rank violation": one["rank_violation"],
            }
        )
    section.table(rows)
    return section


def _episodes(found: Mapping[str, Any]) -> Section:
    section = Section("How episodes ended")
    rows = []
    for reality, cells in found["realities"].items():
        for method, one in cells.items():
            stages = ", ".join(f"{name} {count}" for name, count in one["stages"].items())
            faults = ", ".join(f"{name} {count}" for name, count in one["faults"].items())
            rows.append(
                {"reality": reality, "method": method, "came as far as": stages, "faults": faults or "–",
                 "seconds to success": one["mean_seconds"]}
            )  # fmt: skip
    section.table(rows)
    return section
