"""The report of a training run: learning curves, rounds of collection, success of the result."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.page import Section
from pipelines.reports import figures as draw
from pipelines.reports.adaptation import adaptation
from sim2real.files import read_json


def sections(directory: Path) -> list[Section]:
    """Sections from `metrics.json`: `curve` (a row per epoch), `rounds`, `evaluation`, whatever is there."""
    path = directory / "metrics.json"
    metrics: Mapping[str, Any] = read_json(path) if path.exists() else {}
    result = []
    outcome = _outcome(metrics)
    if outcome is not None:
        result.append(outcome)
    adapted = adaptation(metrics)
    if adapted is not None:
        result.append(adapted)
    if metrics.get("curve"):
        result.append(_curves(metrics["curve"]))
    if metrics.get("practice"):
        result.append(_practice(metrics["practice"]))
    if metrics.get("learning_curve"):
        result.append(_amounts(metrics))
    if metrics.get("rounds"):
        result.append(_rounds(metrics["rounds"]))
    if not result:
        empty = Section("Training")
        empty.text("This run has written no metrics yet.", "note")
        result.append(empty)
    return result


def rate_tile(result: Mapping[str, Any], label: str) -> tuple[str, str, str]:
    """A success rate with its interval and number of episodes, for `Section.tiles`."""
    total = result.get("draws", result.get("episodes"))
    if result.get("success_rate") is None:
        return ("unknown", "", f"{label}: nobody judged")
    low, high = result["wilson_95"]
    return (
        f"{result['success_rate']:.1%}",
        f"[{low:.1%}, {high:.1%}]",
        f"{label}, {total} episodes, 95 % interval",
    )


def _outcome(metrics: Mapping[str, Any]) -> Section | None:
    section = Section("Result")
    tiles = []
    if isinstance(metrics.get("evaluation"), Mapping):
        measured = metrics["evaluation"]
        tiles.append(rate_tile(measured, f"success in simulation on {measured.get('on', 'unseen draws')}"))
    simulation, error = metrics.get("simulation") or {}, metrics.get("held_out_deg") or {}
    for when in ("before", "after"):
        if isinstance(simulation.get(when), Mapping):
            tiles.append(rate_tile(simulation[when], f"success in simulation {when}"))
    for when in ("before", "after"):
        if isinstance(error.get(when), (int, float)):
            tiles.append(
                (f"{error[when]:.2f}°", "", f"error of actions on held-out recorded episodes {when}")
            )
    if not tiles:
        return None
    section.tiles(tiles)
    if metrics.get("interrupted"):
        section.text("Training was interrupted; the policy is that of the moment.", "bad")
    evaluation = metrics.get("evaluation") or simulation.get("after")
    if isinstance(evaluation, Mapping) and evaluation.get("stages"):
        stages = evaluation["stages"]
        section.figure(
            draw.counts(list(stages), list(stages.values()), "episodes", draw.ACCENT),
            "Episodes by the stage they reached",
            "The furthest stage that each evaluated episode reached.",
        )
    return section


def _curves(rows: Sequence[Mapping[str, Any]]) -> Section:
    section = Section("Learning curves")
    epochs = [row["epoch"] for row in rows]
    losses = [name for name in _names(rows) if "loss" in name or "error" in name]
    groups: dict[str, list[str]] = {}
    for name in sorted(losses):
        # Training and validation of one quantity belong into one plot, in this order in all of them.
        groups.setdefault(name.removeprefix("train_").removeprefix("val_"), []).append(name)
    for quantity, names in groups.items():
        series = [(name.replace("_", " "), [row.get(name, float("nan")) for row in rows]) for name in names]
        values = [v for _, y in series for v in y if v is not None and v == v]
        wide = bool(values) and min(values) > 0 and max(values) > 10 * min(values)
        unit = (quantity if len(names) > 1 else names[0].replace("val_", "validation_")).replace("_", " ")
        section.figure(
            draw.lines(epochs, series, x_label="epoch", y_label=unit, log_y=wide), f"{unit} over epochs"
        )
    if rows and "seconds" in rows[-1]:
        section.text(f"{len(rows)} epochs in {float(rows[-1]['seconds']):.0f} s of wall time.", "note")
    return section


def _practice(rows: Sequence[Mapping[str, Any]]) -> Section:
    """Success over the practised episodes, with exploration and without."""
    section = Section("Practice")
    section.text(
        "Episodes that the policy practised in, each in a world drawn anew; while it learns it tries things, and is "
        "measured without from time to time. The policy is the one that measured best."
    )
    for key, label in (
        ("success_rate", "success while trying things"),
        ("measured_success_rate", "measured success"),
    ):
        shown = [row for row in rows if isinstance(row.get(key), (int, float))]
        if len(shown) > 1:
            section.figure(
                draw.lines(
                    [row["episodes"] for row in shown],
                    [(label, [row[key] for row in shown])],
                    x_label="practised episodes",
                    y_label="share of successes",
                ),
                f"{label} over practised episodes",
            )
    last = [row["measured_success_rate"] for row in rows if "measured_success_rate" in row]
    if last:
        section.text(f"Measured {len(last)} times, best {max(last):.0%}.", "note")
    return section


def _amounts(metrics: Mapping[str, Any]) -> Section:
    """How much a policy that sees learned from how many recorded episodes."""
    section = Section("What pretraining was worth")
    rows, error = metrics["learning_curve"], metrics.get("held_out_deg") or {}
    section.text(
        "Mean absolute error of the actions on recorded episodes that were held out: the pretrained policy after "
        "fine-tuning on so many episodes, and a network of the same kind that began from nothing, with as many steps."
    )
    names = {"pretrained_deg": "pretrained", "scratch_deg": "from nothing"}
    section.table(
        [
            {"episodes": row["episodes"], "pairs": row["pairs"]}
            | {label: _degrees(row[key]) for key, label in names.items() if key in row}
            for row in rows
        ]
    )
    if error.get("before") is not None:
        section.text(
            f"Without any fine-tuning: {_degrees(error['before'])}. An arm that stays where it was sent: "
            f"{_degrees(error.get('still'))}.",
            "note",
        )
    for line in (metrics.get("recorded") or {}).get("mapping", ()):
        section.text(line, "note")
    return section


def _degrees(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}°"


def _rounds(rounds: Sequence[Mapping[str, Any]]) -> Section:
    section = Section("Collection")
    section.text(
        "Demonstrations were collected in rounds: at first the expert drives, then more and more the student, while "
        "the expert says what should have been done."
    )
    names = {
        "episodes": "episodes",
        "pairs": "pairs",
        "student_share": "student drives",
        "success_rate": "success",
        "errors": "errors",
    }
    table = []
    for i, row in enumerate(rounds):
        shown: dict[str, Any] = {"round": i + 1}
        for key, label in names.items():
            if key in row:
                percent = key in ("student_share", "success_rate") and row[key] is not None
                shown[label] = f"{row[key]:.0%}" if percent else row[key]
        table.append(shown)
    section.table(table)
    return section


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name, v in row.items() if isinstance(v, (int, float))))
