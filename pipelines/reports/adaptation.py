"""The part of a report that says what fine-tuning did: on this arm or new tasks, elsewhere, from what, and to which
parameters."""

from collections.abc import Mapping
from typing import Any

from pipelines.learning.comparing import change_text
from pipelines.page import Section


def adaptation(metrics: Mapping[str, Any]) -> Section | None:
    """What `metrics.json` of a fine-tuning says; None for other runs."""
    taught = metrics.get("tasks") or ()
    places = (
        {"simulation": "the new tasks", "forgetting": "a sample of the old tasks"}
        if taught
        else {"simulation": "this arm, simulated", "forgetting": "the default space"}
    )
    rows = [
        {
            "where": where,
            "success before → after": change_text(metrics[key]),
            "p (McNemar)": f"{metrics[key]['p']:.3g}",
        }
        for key, where in places.items()
        if isinstance(metrics.get(key), Mapping) and "interval_95" in metrics[key]
    ]
    curve, identified = metrics.get("episodes_curve"), metrics.get("identified") or {}
    recorded = metrics.get("recorded") or {}
    if not rows and not curve and not identified:
        return None
    section = Section("Adaptation")
    section.table(rows, empty="success was not measured")
    if metrics.get("forgotten"):
        section.text(f"The policy has forgotten some of what it could: {places['forgetting']}.", "bad")
    if taught and "simulation" in metrics:
        section.heading("The new tasks")
        section.table(_by_task(metrics["simulation"]))
    if mix := metrics.get("mix"):
        section.text(f"Share of recorded data in a batch: {mix['chosen']:.0%}, by {mix['by']}.")
    if curve:
        section.heading("Success on this arm over the number of recorded episodes")
        section.table(
            [
                {"episodes": row["episodes"]}
                | {
                    name: _rate(row[key])
                    for key, name in (("tuned", "fine-tuned"), ("scratch", "from scratch"))
                }
                for row in curve
            ]
        )
    if identified.get("moved"):
        section.heading("What differs from the nominal arm")
        section.table(
            [{key: value if key == "parameter" else f"{value:.4g}" for key, value in row.items()}
             for row in identified["moved"]]
        )  # fmt: skip
    for remark in identified.get("remarks", ()):
        section.text(str(remark))
    if errors := recorded.get("episode_error_deg"):
        section.heading("Recorded episodes")
        section.text(
            "How far what was done is from what the policy would have done, before it learned from it."
        )
        odd = recorded.get("look_wrong", ())
        section.table(
            [
                {
                    "episode": number,
                    "degrees": f"{error:.2f}",
                    "": "looks wrong" if int(number) in odd else "",
                }
                for number, error in errors.items()
            ],
            folded=f"{len(errors)} episodes, {len(odd)} of which look wrong",
        )
    return section


def _by_task(compared: Mapping[str, Any]) -> list[dict[str, str]]:
    """Successes of each task before and after."""
    before, after = (compared[when]["per_task"] for when in ("before", "after"))
    return [
        {"task": name, "before": f"{before[name][0]} of {before[name][1]}", "after": f"{won} of {of}"}
        for name, (won, of) in after.items()
    ]


def _rate(row: Mapping[str, Any] | None) -> str:
    return "–" if row is None else f"{row['success']['success_rate']:.0%}"
