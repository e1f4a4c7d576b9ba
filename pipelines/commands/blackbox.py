"""`sim2real blackbox`: what happened in the ten seconds around a fault."""

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.commands._options import add

if TYPE_CHECKING:
    from hardware.runtime.recording.timeline import BlackBoxRecording

SUMMARY = "show what happened around a fault"
GROUP = "on an arm"
HELP = (
    "Show a black box: the last ten seconds before a fault and one after it, as deploy, record and play write them "
    "into their run directory (blackbox-1.npz, …): states, warnings and faults in order, every joint at the moment "
    "of the fault, and the last bytes on the line, packet by packet. Times are seconds from the last fault."
)
EXAMPLES = """  sim2real blackbox runs/deployed/blackbox-1.npz
  sim2real blackbox runs/deployed/blackbox-1.npz --exchanges 200
  sim2real blackbox runs/deployed/blackbox-1.npz --plot blackbox.png
  sim2real blackbox runs/deployed/blackbox-1.npz --json > blackbox.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="blackbox-<n>.npz of a run directory")
    parser.add_argument(
        "--exchanges", type=int, default=24, metavar="N",
        help="how many of the last exchanges on the line to show (%(default)s; 0: none)",
    )  # fmt: skip
    parser.add_argument("--plot", metavar="FILE", help="draw joints and states over time into a picture")
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json

    from hardware.runtime.recording.timeline import BlackBoxRecording
    from sim2real.errors import UserError

    if args.exchanges < 0:
        raise UserError(f"--exchanges must not be negative, got {args.exchanges}")
    recording = BlackBoxRecording(args.file)
    if args.plot:
        _plot(recording, args.plot)
    if args.json:
        print(json.dumps(as_json(recording, args.exchanges), allow_nan=False))
    else:
        print(as_text(recording, args.exchanges))
    return 0


def as_json(recording: "BlackBoxRecording", exchanges: int) -> dict[str, Any]:
    """Everything that is shown; times in s from the last fault, null where nothing is known."""
    zero = recording.zero
    return {
        "meta": recording.meta,
        "faults": recording.faults,
        "seconds": round(float(sum(seconds for *_, seconds in recording.states())), 3),
        "ticks": len(recording.ticks),
        "events": [{"time": round(t - zero, 4), "text": text} for t, text in recording.events],
        "warnings": [{"time": round(t - zero, 4), "text": text} for t, text in recording.warnings()],
        "states": [
            {"time": round(t - zero, 4), "state": state, "seconds": round(seconds, 4)}
            for t, state, seconds in recording.states()
        ],
        "joints": {
            joint: {name: None if value != value else round(value, 5) for name, value in row.items()}
            for joint, row in recording.joint_table().items()
        },
        "exchanges": [
            {
                "time": round(line.time - zero, 6),
                "sent": line.sent,
                "bytes": line.data.hex(),
                "packets": list(line.packets),
            }
            for line in recording.lines(exchanges)
        ],
    }


def as_text(recording: "BlackBoxRecording", exchanges: int) -> str:
    """A recording as text for people: why it was written, ticks, events and the last `exchanges` of the line."""
    zero, meta = recording.zero, recording.meta
    lines = [
        f"{meta.get('robot', '?')} at {meta.get('port', '?')}, {meta.get('command', '?')}; written because: "
        f"{meta.get('why', '?')}; {len(recording.ticks)} ticks, {len(recording.lines(None))} exchanges",
        f"faults      {'; '.join(recording.faults) or 'none'}",
        "",
    ]
    happened = [(t, text) for t, text in recording.events] + recording.warnings()
    lines += [f"{t - zero:+9.3f} s  {text}" for t, text in sorted(happened)]
    table = recording.joint_table()
    if table:
        shown = (
            ("requested", 3), ("gated", 3), ("executed", 3), ("position", 3), ("velocity", 3), ("load", 2),
            ("voltage", 1), ("temperature", 0), ("current", 2), ("valid", 0), ("status", 0),
        )  # fmt: skip
        width = max(len(joint) for joint in table)
        lines += ["", " " * width + "".join(f"{name:>12}" for name, _ in shown)]
        for joint, row in table.items():
            cells = ["-" if row[name] != row[name] else f"{row[name]:.{digits}f}" for name, digits in shown]
            lines.append(f"{joint:<{width}}" + "".join(f"{cell:>12}" for cell in cells))
    if exchanges:
        lines.append("")
        for line in recording.lines(exchanges):
            arrow = "->" if line.sent else "<-"
            said = " | ".join(line.packets) or line.data.hex(" ")
            lines.append(f"{line.time - zero:+10.4f} s {arrow} {said}")
    return "\n".join(lines)


def _plot(recording: "BlackBoxRecording", path: str) -> None:
    import numpy as np

    from sim2real.errors import UserError
    from sim2real.files import PICTURE, require_own_file, write_bytes

    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise UserError("--plot needs matplotlib: pip install matplotlib") from None
    require_own_file(path, PICTURE)
    joints = recording.meta["joints"]
    figure, axes = pyplot.subplots(len(joints), 1, sharex=True, figsize=(11, 1.7 * len(joints) + 0.8))
    time = recording.scalar("t") - recording.zero
    styles = (("requested", "0.6", "--"), ("executed", "tab:orange", "-"), ("position", "tab:blue", "-"))
    states = recording.states()
    names = list(dict.fromkeys(state for _, state, _ in states))
    for i, (axis, joint) in enumerate(zip(axes, joints, strict=True)):
        for name, colour, style in styles:
            axis.plot(time, recording.vector(name)[:, i], style, color=colour, label=name, linewidth=1)
        for start, state, seconds in states:
            begin = start - recording.zero
            shade = matplotlib.colormaps["Pastel1"](names.index(state) % 9)
            axis.axvspan(begin, begin + seconds, color=shade, alpha=0.6, linewidth=0)
            if i == 0 and seconds > 0.04 * float(np.ptp(time)):
                axis.text(begin, 1.02, state, transform=axis.get_xaxis_transform(), fontsize=7, rotation=20)
        axis.axvline(0.0, color="tab:red", linewidth=0.8)
        axis.set_ylabel(f"{joint}\nrad", fontsize=8)
    axes[-1].set_xlabel("s from the last fault")
    axes[0].legend(loc="upper left", fontsize=7, ncols=3)
    figure.tight_layout()
    try:
        field = {".png": "Software", ".svg": "Creator", ".pdf": "Creator"}.get(Path(path).suffix.lower())
        drawn = io.BytesIO()
        figure.savefig(
            drawn,
            format=Path(path).suffix.lstrip(".") or None,
            dpi=110,
            metadata={field: PICTURE.decode()} if field else None,
        )
        write_bytes(path, drawn.getvalue())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        pyplot.close(figure)
