"""The report of an identification: how far the simulated arm was and is from the recorded one, and what is unsure."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.identification.results import OVERLAY
from pipelines.page import Section
from pipelines.reports import figures as draw
from sim2real.files import read_json
from sim2real.model.servo import SERVO_FIELDS


def sections(directory: Path) -> list[Section]:
    """Sections from `identify.json`, `twin.toml`, `space.toml` and `overlay.npz`."""
    summary = read_json(directory / "identify.json") if (directory / "identify.json").exists() else {}
    if not summary:
        empty = Section("Identification")
        empty.text("This run has written no results yet.", "note")
        return [empty]
    if "servos" in summary:
        return [_bench(kind, entry) for kind, entry in summary["servos"].items()]
    found = [_outcome(summary)]
    if (directory / OVERLAY).exists():
        with np.load(directory / OVERLAY, allow_pickle=False) as file:
            arrays = dict(file)
        found += [_overlays(arrays), _residuals(arrays)]
    if (directory / "twin.toml").exists():
        found.append(_parameters(directory, summary))
    return found


def _outcome(s: Mapping[str, Any]) -> Section:
    section = Section("How far the simulation is from the arm")
    section.tiles(
        [
            (f"{s['mean_before_deg']:.2f}°", "", "before: the nominal arm, mean of the arm's joints (RMS)"),
            (f"{s['mean_deg']:.2f}°", "", "after: the identified arm, same episodes"),
            (str(len(s["episodes"])), f"{s['frames']} frames", "recorded episodes"),
            (f"{s['seconds']:.0f} s", "", "for the fit"),
        ]
    )
    joints = list(s["before_deg"])
    with draw.Canvas(7.6, 0.8 + 0.36 * len(joints)) as c:
        ax, y = c.axes[0], np.arange(len(joints))[::-1]
        ax.barh(y + 0.19, [s["before_deg"][j] for j in joints], 0.34, color="#b9c4cc", label="nominal")
        bars = ax.barh(
            y - 0.19, [s["after_deg"][j] for j in joints], 0.34, color=draw.ACCENT, label="identified"
        )
        ax.bar_label(bars, fmt="%.2f°", padding=4, color=draw.SOFT)
        ax.set_yticks(y, joints)
        ax.tick_params(axis="y", length=0, labelcolor=draw.INK)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("RMS difference of joint angle, open loop (degrees)")
        c.figure.legend(loc="outside upper right", ncols=2)
    section.figure(
        c.uri,
        "RMS difference per joint before and after",
        "The simulated arm is given the recorded commands and never the recorded state. These are the episodes that "
        "were fitted; `sim2real replay --episodes` on others says how it generalizes.",
    )
    for remark in [*s.get("standouts", []), *s.get("remarks", [])]:
        section.text(str(remark), "note")
    return section


def _bench(kind: str, entry: Mapping[str, Any]) -> Section:
    """One kind of servo, identified on a test bench."""
    section = Section(f"Servo {kind}")
    runs = dict(sorted(entry["runs"].items(), key=lambda item: item[1]))
    section.tiles(
        [(f"{entry['mean_deg']:.2f}°", "", f"RMS difference, mean over {len(runs)} runs, open loop")]
    )
    with draw.Canvas(7.6, 0.5 + 0.28 * len(runs)) as c:
        ax, y = c.axes[0], np.arange(len(runs))[::-1]
        bars = ax.barh(y, list(runs.values()), height=0.56, color=draw.ACCENT)
        ax.bar_label(bars, fmt="%.2f°", padding=4, color=draw.SOFT)
        ax.set_yticks(y, [Path(name).stem for name in runs])
        ax.tick_params(axis="y", length=0, labelcolor=draw.INK)
        ax.grid(axis="y", visible=False)
        ax.margins(x=0.1)
        ax.set_xlabel("RMS difference of angle (degrees)")
    section.figure(
        c.uri, f"Difference per run of servo {kind}", "Each run, simulated open loop until torque is cut."
    )
    units = {field.name: field.unit for field in SERVO_FIELDS}
    section.table(
        [
            {"parameter": name, "value": value, "unit": units.get(name, "").removeprefix("1")}
            for name, value in entry["parameters"].items()
        ]
    )
    return section


def _overlays(arrays: Mapping[str, Any]) -> Section:
    section = Section("Recorded and simulated motion")
    joints = [str(j) for j in arrays["joints"]]
    kinds = ("The typical episode", "The worst episode") if len(arrays["episode"]) > 1 else ("The episode",)
    for k, kind in enumerate(kinds):
        section.heading(f"{kind} (number {int(arrays['episode'][k])}, {float(arrays['error'][k]):.2f}°)")
        t = arrays[f"time_{k}"]
        rows = (len(joints) + 1) // 2
        with draw.Canvas(9.4, 1.9 * rows + 0.3, rows, 2, sharex=True) as c:
            for j, (ax, name) in enumerate(zip(c.axes, joints)):
                ax.fill_between(
                    t, arrays[f"low_{k}"][:, j], arrays[f"high_{k}"][:, j], color=draw.ACCENT, alpha=0.18, lw=0,
                    label="90 % band",
                )  # fmt: skip
                ax.plot(t, arrays[f"nominal_{k}"][:, j], color="#aab4bd", lw=1.0, label="nominal")
                ax.plot(t, arrays[f"fitted_{k}"][:, j], color=draw.ACCENT, lw=1.3, label="identified")
                ax.plot(
                    t, arrays[f"recorded_{k}"][:, j], color=draw.INK, lw=0.9, ls=(0, (3, 2)), label="recorded"
                )
                ax.set_title(name)
                ax.margins(x=0.01)
                if j % 2 == 0:
                    ax.set_ylabel("degrees")
            for ax in c.axes[len(joints) :]:
                ax.set_visible(False)
            for ax in c.axes[max(0, len(joints) - 2) : len(joints)]:
                ax.set_xlabel("time (s)")
                ax.tick_params(labelbottom=True)
            handles, labels = c.axes[0].get_legend_handles_labels()
            c.figure.legend(handles, labels, loc="outside upper right", ncols=4)
        section.figure(c.uri, f"Recorded and simulated joint angles, {kind.lower()}")
        differences = [
            (
                name,
                [
                    (label, arrays[f"{key}_{k}"][:, j] - arrays[f"recorded_{k}"][:, j])
                    for key, label in (("fitted", "identified"), ("nominal", "nominal"))
                ],
            )
            for j, name in enumerate(joints)
        ]
        section.figure(
            draw.panels(t, differences, x_label="time (s)", y_label="degrees", height=1.45, least_span=1.0),
            f"Simulated minus recorded joint angles, {kind.lower()}",
            "The same as a difference: simulated minus recorded.",
        )
    return section


def _residuals(arrays: Mapping[str, Any]) -> Section:
    section = Section("What is left")
    joints = [str(j) for j in arrays["joints"]]
    with draw.Canvas(9.4, 2.6) as c:
        ax = c.axes[0]
        for j, (name, color) in enumerate(zip(joints, [*draw.SERIES, *draw.SERIES])):
            share = np.linspace(0.005, 1, 200)
            left = np.nanquantile(np.abs(arrays["after"][:, j]), share)
            ax.plot(left, share, color=color, label=name)
        ax.set_xscale("log")
        ax.set_xlim(left=0.01)
        ax.set_ylim(0, 1)
        ax.set_xlabel("absolute difference, identified minus recorded (degrees)")
        ax.set_ylabel("share of frames")
        ax.legend(loc="upper left", ncols=2)
    section.figure(
        c.uri,
        "Cumulative distribution of residuals per joint",
        "Read: for which share of frames the difference is below a value. An encoder's step is 0.088°.",
    )
    return section


def _parameters(directory: Path, summary: Mapping[str, Any]) -> Section:
    section = Section("What was found")
    twin = tomllib.loads((directory / "twin.toml").read_text())
    space = directory / "space.toml"
    ranges = tomllib.loads(space.read_text()).get("parameters", {}) if space.exists() else {}
    unclear = set(summary.get("undetermined", []))
    if unclear:
        section.text(
            f"The recording says little about {len(unclear)} of {len(ranges) or len(twin['parameters'])} quantities; "
            "their ranges stay those of the prior."
        )
        for line in summary.get("advice", []):
            section.text(line, "note")
        if summary.get("excite"):
            section.text("The arm can move so by itself, through the gate, and record it:")
            section.code(str(summary["excite"]))
    rows = []
    for name, entry in ranges.items():
        value = twin["parameters"].get(name)
        if value is None:
            # A shared quantity is spelt out for every joint.
            matches = [v for n, v in twin["parameters"].items() if n.endswith(name.rsplit("*", 1)[-1])]
            value = matches[0] if matches else None
        rows.append(
            {
                "quantity": name,
                "value": value,
                "train from": entry.get("low"),
                "to": entry.get("high"),
                "": "hardly determined" if name in unclear else "",
            }
        )
    section.table(
        rows, "no ranges were written", folded=f"All {len(rows)} quantities and the ranges to train under"
    )
    for line in summary.get("bounds", summary.get("at_bound", [])):
        section.text(str(line), "note")
    section.code(f"sim2real sweep --task lift --space {directory / 'space.toml'} --out runs/sweep")
    return section
