"""The report of a sweep: how often, what decides it, where it fails, what to do next."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from pipelines.page import Section
from pipelines.reports import figures as draw
from pipelines.sweeps.plan import compare_sweeps, dimensions
from randomization.analysis import Analysis, analyse, nearest_failures
from randomization.sensitivity import Level, PairMap
from randomization.sweep import SweepStore
from sim2real.files import read_json

_BARS = 12
_FAILURES = 12


def sections(directory: Path) -> list[Section]:
    """All sections of one sweep's report."""
    store = SweepStore(directory)
    config, table = read_json(store.config_path), store.read()
    identity = config["sweep"]
    info = _Info(config)
    design = identity["design"]["name"]
    found = analyse(table, dimensions(identity), design=design, seed=identity["seed"])
    result = [_overview(found, config, table.num_rows)]
    if found.effects or found.indices:
        result.append(_causes(found, info))
    if found.curves:
        result.append(_curves(found, info, design))
    # Without any effect beyond chance a map would invite to read patterns into noise.
    if found.pairs and (design == "grid" or found.indices or any(e.significant for e in found.effects)):
        result.append(_maps(found, info))
    if found.summary["successes"] < found.summary["draws"]:
        result.append(_failures(found, table, identity, info, directory))
    return result


def comparison(first: Path, second: Path) -> Section:
    """Two sweeps over the same draws, pair by pair. Raises UserError when their draws differ."""
    c = compare_sweeps(first, second)
    names = [f"{p.name} ({read_json(p / 'config.json')['policy']})" for p in (first, second)]
    section = Section(f"Paired comparison: {second.name} against {first.name}")
    section.tiles(
        [
            (
                f"{c['difference']:+.1%}",
                f"[{c['low']:+.1%}, {c['high']:+.1%}]",
                "difference in success, 95 % interval",
            ),
            (
                f"{c['p_value']:.2g}",
                "",
                "p value: chance of a difference like this if both were equally good",
            ),
            (str(c["draws"]), "", "draws that both ran"),
        ]
    )
    section.table(
        [
            {"": f"{names[0]} succeeds", f"{names[1]} succeeds": c["both"], f"{names[1]} fails": c["only_a"]},
            {"": f"{names[0]} fails", f"{names[1]} succeeds": c["only_b"], f"{names[1]} fails": c["neither"]},
        ]
    )
    section.text(
        "Both ran the same draws with the same noise, so only the draws on which they differ count "
        "(McNemar's exact test; Newcombe's interval).",
        "note",
    )
    return section


class _Info:
    """Units and nominal values by the name of a dimension."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._facts = config.get("parameters", {})
        self._columns = dimensions(config["sweep"])
        self._nominal = config["sweep"]["space"]["nominal"]

    def scale(self, parameter: str) -> tuple[float, str]:
        """Factor and unit that this parameter's values are shown in: millimetres rather than 0.004 m."""
        facts = self._facts.get(parameter, {})
        unit = "" if facts.get("unit") == "1" else str(facts.get("unit", ""))
        largest = max(abs(facts.get("low", 1.0)), abs(facts.get("high", 1.0)))
        factor, shown, below = _SHOWN.get(unit, (1.0, unit, 0.0))
        return (factor, shown) if largest < below else (1.0, unit)

    def label(self, name: str) -> str:
        unit = self.scale(self._columns[name])[1]
        return f"{name} ({unit})" if unit else name

    def factor(self, name: str) -> float:
        """From SI units to those that `label` says."""
        return self.scale(self._columns[name])[0]

    def shown(self, name: str, value: float) -> float:
        """A value of the dimension `name` in the unit that `label` says."""
        return value * self.factor(name)

    def text(self, name: str, value: float) -> str:
        unit = self.scale(self._columns[name])[1]
        return f"{self.shown(name, value):.3g} {unit}".replace(" °", "°").rstrip()

    def levels(self, name: str, levels: Sequence[Level]) -> list[Level]:
        k = self.scale(self._columns[name])[0]
        return [replace(p, value=k * p.value, start=k * p.start, stop=k * p.stop) for p in levels]

    def nominal(self, name: str) -> float | None:
        value = self._nominal.get(self._columns[name])
        return None if value is None else self.shown(name, float(value))

    def log(self, name: str) -> bool:
        return self._facts.get(self._columns[name], {}).get("scale") == "log"

    def typical(self) -> dict[str, tuple[float, float]]:
        """Nominal value and half the width of the range; where a task starts is not a change from nominal."""
        found = {}
        for name, column in self._columns.items():
            facts = self._facts.get(column)
            if facts and not column.startswith("task."):
                half = (facts["high"] - facts["low"]) / 2
                found[name] = (float(self._nominal[column]), half)
        return found


_SHOWN = {
    "m": (1e3, "mm", 0.5),
    "s": (1e3, "ms", 0.5),
    "kg": (1e3, "g", 0.5),
    "rad": (math.degrees(1), "°", math.inf),
    "rad/s": (math.degrees(1), "°/s", math.inf),
    "m/s": (1e3, "mm/s", 0.5),
}
"""Unit → what people say instead (factor, unit) where values stay below a bound."""


def _overview(found: Analysis, config: Mapping[str, Any], rows: int) -> Section:
    s, identity = found.summary, config["sweep"]
    low, high = s["wilson_95"]
    section = Section("Success")
    tiles = [
        (
            f"{s['success_rate']:.1%}",
            f"[{low:.1%}, {high:.1%}]",
            "of draws succeeded, 95 % interval (Wilson)",
        ),
        (f"{s['successes']} / {s['draws']}", "", "draws"),
    ]
    if s.get("median_seconds_to_success") is not None:
        tiles.append((f"{s['median_seconds_to_success']:.1f} s", "", "median time to success, simulated"))
    tiles.append((f"{s['draws_to_halve_interval']:,}", "", "more draws would halve the interval"))
    section.tiles(tiles)
    design = identity["design"]["name"]
    section.text(
        f"Task {identity['task']} on the robot {identity['robot']}, policy {config['policy']}, which sees the "
        f"{identity['sees']}; {len(identity['space']['columns'])} parameters vary, "
        f"{'one at a time' if design == 'oat' else 'all at once'} (design {design}, seed {identity['seed']}). "
        "The rate holds for these draws' distribution of parameters, not for one particular arm."
    )
    if config.get("draws", rows) > rows:
        section.text(f"Unfinished: {rows} of {config['draws']} draws; the same command continues it.", "bad")
    if s["errors"]:
        section.text(
            f"{s['errors']} episodes ended in an error of the simulation or the policy and count as failures.",
            "bad",
        )
    if s["failures"]:
        labels, values = list(s["failures"])[:10], list(s["failures"].values())[:10]
        section.figure(
            draw.counts([_shorten(label) for label in labels], values, "failed draws"),
            "Failed draws by how they failed",
            "How the failed draws failed: the furthest stage they reached.",
        )
    return section


def _causes(found: Analysis, info: _Info) -> Section:
    rate = found.outcome == "success"
    what = "whether a draw succeeds" if rate else "the time to success"
    section = Section("What decides it")
    if found.indices:
        shown = found.indices[:_BARS]
        section.text(
            f"Sobol indices of {what}, estimated exactly from the pick-freeze design: the bar is the share of the "
            "variance that a parameter is involved in (total), the point what it explains alone (first order)."
        )
        section.figure(
            draw.intervals(
                [i.name for i in shown], [i.total for i in shown], [max(i.total_low, 0) for i in shown],
                [i.total_high for i in shown], unit="share of the variance, with 95 % intervals",
                marks=[(i.first, i.first_low, i.first_high) for i in shown],
                mark_label="alone", value_label="total",
            ),
            "Sobol indices of the strongest parameters",
        )  # fmt: skip
        return section
    strong = [e for e in found.effects if e.significant]
    section.text(_verdict(strong, found.curves, what, info))
    shown_effects = found.effects[: max(len(strong) + 3, 6)][:_BARS]
    totals = {t.name: t for t in found.totals}
    useful = found.q2 is not None and found.q2 >= 0.03
    marks = None
    if useful:
        marks = [
            (totals[e.name].total, totals[e.name].low, totals[e.name].high) if e.name in totals else None
            for e in shown_effects
        ]
    section.figure(
        draw.intervals(
            [e.name for e in shown_effects], [e.index for e in shown_effects], [e.low for e in shown_effects],
            [e.high for e in shown_effects], unit="share of the variance explained, with 95 % intervals",
            faded=[not e.significant for e in shown_effects], marks=marks, value_label="alone (first order)",
            mark_label="with interactions (total, by surrogate)",
        ),
        "Share of the outcome's variance that each of the strongest parameters explains",
        "Bars: what a parameter explains alone, from the draws directly. Grey bars cannot be told from chance "
        f"(Holm's correction for {len(found.effects)} parameters at 5 %).",
    )  # fmt: skip
    if found.q2 is not None:
        if useful:
            text = (
                f"Points: including interactions, from a polynomial surrogate that explains {found.q2:.0%} of the "
                "variance on draws it has not seen. The rest is noise within episodes or finer structure, of which "
                "these totals say nothing."
            )
        else:
            text = (
                "A surrogate for interactions explains no part of the variance on draws it has not seen, so no "
                "totals are shown: what is left is noise within episodes, or takes more draws to see."
            )
        section.text(text, "note")
    return section


def _verdict(strong: Sequence[Any], curves: Mapping[str, Sequence[Level]], what: str, info: _Info) -> str:
    if not strong:
        return (
            f"No single parameter decides {what} beyond what chance would show with this many draws. Either it is "
            "robust within these ranges, or failures come from combinations; more draws or wider ranges would tell."
        )
    first = strong[0]
    share = f"{first.index:.0%} [{first.low:.0%}, {first.high:.0%}]"
    text = f"{first.name} decides most: alone it explains {share} of {what}."
    levels = curves.get(first.name)
    if levels:
        worst, best = min(levels, key=lambda p: p.mean), max(levels, key=lambda p: p.mean)
        at = [info.text(first.name, level.value) for level in (worst, best)]
        if what == "whether a draw succeeds":
            text += (
                f" Success goes from {worst.mean:.0%} [{worst.low:.0%}, {worst.high:.0%}] around {at[0]} to "
                f"{best.mean:.0%} [{best.low:.0%}, {best.high:.0%}] around {at[1]}."
            )
        else:
            text += f" It takes {worst.mean:.2f} s around {at[0]}, {best.mean:.2f} s around {at[1]}."
    others = ", ".join(e.name for e in strong[1:4])
    return text + (f" Then come {others}." if others else " No other parameter stands out.")


def _curves(found: Analysis, info: _Info, design: str) -> Section:
    rate = found.outcome == "success"
    told = found.indices or not found.effects or any(e.significant for e in found.effects)
    title = (
        "How it depends on the strongest parameters"
        if told
        else "The strongest parameters, none beyond chance"
    )
    section = Section(title)
    images = []
    for name, levels in list(found.curves.items())[: None if told else 3]:
        uri = draw.curve(
            info.levels(name, levels),
            x_label=info.label(name),
            y_label="success" if rate else "time to success (s)",
            nominal=info.nominal(name),
            rate=rate,
            log=info.log(name),
        )
        images.append((uri, f"{'Success' if rate else 'Time to success'} over {name}", ""))
    section.figures(images)
    others = "nominal" if design == "oat" else "varying"
    section.text(
        f"Mean over equally full bins of the drawn values, all other parameters {others}; the band is the 95 % "
        "interval, the dashed line the nominal value.",
        "note",
    )
    return section


def _maps(found: Analysis, info: _Info) -> Section:
    rate = found.outcome == "success"
    section = Section("Pairs that act together")
    alone = {e.name: e.index for e in found.effects}
    images = []
    for pair in found.pairs:
        nominal = (info.nominal(pair.x), info.nominal(pair.y))
        uri = draw.success_map(
            replace(
                pair, x_edges=info.factor(pair.x) * pair.x_edges, y_edges=info.factor(pair.y) * pair.y_edges
            ),
            x_label=info.label(pair.x),
            y_label=info.label(pair.y),
            rate=rate,
            nominal=None if None in nominal else nominal,  # type: ignore[arg-type]
        )
        images.append(
            (
                uri,
                f"Map over {pair.x} and {pair.y}",
                _together(pair, alone),
            )
        )
    section.figures(images)
    what = "success rate" if rate else "mean time to success in seconds"
    section.text(
        f"In each cell the {what} and the number of draws; the cross is nominal. Cells with few draws are uncertain.",
        "note",
    )
    return section


def _together(pair: PairMap, alone: Mapping[str, float]) -> str:
    parts = [f"{name} alone {alone[name]:.0%}" for name in (pair.x, pair.y) if name in alone]
    more = f" ({', '.join(parts)})" if parts else ""
    return f"Together they explain {pair.joint:.0%} of the variance{more}."


def _failures(
    found: Analysis, table: Any, identity: Mapping[str, Any], info: _Info, directory: Path
) -> Section:
    section = Section("Failed draws")
    columns = dimensions(identity)
    near = nearest_failures(table, columns, info.typical(), 3)
    rows = table.to_pylist()
    strongest = [i.name for i in found.indices] or [e.name for e in found.effects]
    if near:
        section.heading("Nearest to nominal")
        section.table(
            [
                {
                    "draw": rows[i]["index"],
                    "failure": _shorten(rows[i]["failure"]),
                    "distance": round(distance, 2),
                    "most unusual": ", ".join(f"{name} {z:+.1f}" for name, z in unusual),
                }
                for i, distance, unusual in near
            ]
        )
        section.text(
            "Distance: root mean square over all parameters, 1 = half a range away from nominal (where the task "
            "starts left out).",
            "note",
        )
    explained = [read_json(path) for path in sorted(directory.glob("explain-*.json"))]
    if explained:
        section.heading("Stripped to the smallest change that still fails")
        section.table([_stripped(e, info) for e in explained])
    failed = [row for row in rows if not row["success"]]
    section.heading(
        f"All {len(failed)}" if len(failed) <= _FAILURES else f"The first {_FAILURES} of {len(failed)}"
    )
    section.table(
        [
            {"draw": row["index"], "failure": _shorten(row["failure"])}
            | ({"after (s)": row["seconds"]} if "seconds" in row else {})
            | {info.label(name): _rounded(info, name, row[columns[name]]) for name in strongest[:4]}
            for row in failed[:_FAILURES]
        ]
    )
    section.text(
        "Look at one again, with video and joint plots; or ask which of its changes are to blame:", "note"
    )
    if replays := sorted(
        directory.glob("replay-*/report.html"), key=lambda p: int(p.parent.name.split("-")[1])
    ):
        links = [
            f'<a href="{escape(p.parent.name)}/report.html">draw {escape(p.parent.name.split("-")[1])}</a>'
            for p in replays
        ]
        section.blocks.append(f"<p>Looked at: {', '.join(links)}</p>")
    example = rows[near[0][0] if near else table["success"].to_pylist().index(False)]["index"]
    section.code(
        f"sim2real sweep --replay {example} --out {directory}\nsim2real sweep --explain {example} --out {directory}"
    )
    return section


def _rounded(info: _Info, name: str, value: float | None) -> float | None:
    return None if value is None else float(f"{info.shown(name, value):.3g}")


def _stripped(found: Mapping[str, Any], info: _Info) -> dict[str, Any]:
    changes = []
    for name, change in found["changes"].items():
        factor, unit = info.scale(name)
        changes.append(
            f"{name} {factor * change['nominal']:.3g} → {factor * change['value']:.3g} {unit}".rstrip()
        )
    return {
        "draw": found["index"],
        "failure": _shorten(found["failure"]),
        "episodes run": found["trials"],
        "fails with only": ", ".join(changes) or "nothing changed: where the task starts is enough",
    }


def _shorten(text: str, length: int = 60) -> str:
    first = text.split("\n")[0]
    if not first.startswith("error: "):
        first = first.replace("_", " ")
    return first if len(first) <= length else first[: length - 1] + "…"
