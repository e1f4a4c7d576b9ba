"""`sim2real chaos`: random faults against the whole control loop, on simulated physics and a stepped clock."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pipelines.commands._options import add

SUMMARY = "let random faults loose on an emulated arm and check that every promise is kept"
GROUP = "without an arm"
COMPILES = True
HELP = (
    "Let random faults loose on an emulated arm at work (real bytes, simulated physics, a clock that runs as fast "
    "as it can) and check that every promise of docs/safety.md is kept. Exit status 1 when one is broken."
)

EXAMPLES = """\
  sim2real chaos                             ten simulated minutes, a fault every ten seconds
  sim2real chaos --seed 7 --hours 2 --out runs/chaos
  sim2real chaos --only mute,late,brown_out --gap 3
  sim2real chaos --mix field --hours 24      faults as rare as on a real arm: uptime as an operator would see it
  sim2real chaos --seed 7 --json             the same seed gives the same faults, and the same end
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "robot", "seed")
    duration = parser.add_mutually_exclusive_group()
    add(duration, seconds="simulated time (default: 600)")
    duration.add_argument("--hours", type=float, help="the same in hours")
    parser.add_argument(
        "--gap",
        type=float,
        help="mean time between faults, s (default: 10; not with --mix field)",
    )
    parser.add_argument(
        "--mix",
        choices=("even", "field"),
        default="even",
        help="every fault equally likely, or as often as the catalogue assumes for a real arm (default: even)",
    )
    parser.add_argument("--stress", type=float, help="with --mix field: so many times as often (default: 1)")
    parser.add_argument("--only", metavar="NAME,…", default="", help="draw from these faults alone")
    add(parser, out={"required": False, "help": "keep the result as chaos.json"})
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from pipelines.reliability.chaos import ChaosOptions, run_chaos, timed
    from pipelines.reliability.tally import summary
    from sim2real.errors import UserError
    from sim2real.files import require_own_file, write_text

    seconds = (
        args.hours * 3600 if args.hours is not None else (600.0 if args.seconds is None else args.seconds)
    )
    if args.mix == "field" and args.gap is not None:
        raise UserError(
            f"--gap {args.gap:g} goes with --mix even; --mix field takes the catalogue's rates, times --stress"
        )
    if args.mix == "even" and args.stress is not None:
        raise UserError(f"--stress {args.stress:g} goes with --mix field; --mix even takes --gap")
    density = {"gap": args.gap, "stress": args.stress}
    options = ChaosOptions(
        robot=args.robot,
        seed=args.seed,
        seconds=seconds,
        mix=args.mix,
        **{name: value for name, value in density.items() if value is not None},
        only=tuple(name.strip() for name in args.only.split(",") if name.strip()),
    )
    out = None if args.out is None else Path(args.out)
    if out is not None:
        require_own_file(out / "chaos.json", b'"options"')
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_text(out / "chaos.json", json.dumps({"options": asdict(options)}))
        except OSError as error:
            raise UserError(f"cannot write to --out {out}: {error.strerror}; choose another folder") from None
    tally, took = timed(lambda: run_chaos(options, _progress()))
    result: dict[str, Any] = {"options": asdict(options), **tally.as_dict()}
    if out is not None:
        write_text(out / "chaos.json", json.dumps(result, indent=2) + "\n")
    print(json.dumps(result) if args.json else summary(tally, took))
    if tally.broken:
        print(f"sim2real chaos: a promise was broken with --seed {options.seed}", file=sys.stderr)
        return 1
    return 0


def _progress() -> Any:
    from tqdm import tqdm

    bar = None  # begun with the first run: what is refused before stands on a line of its own

    def advance(done: float) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=100, desc="chaos", unit="%", bar_format="{l_bar}{bar}| {elapsed}", leave=False)
        bar.update(round(100 * done) - bar.n)
        if done >= 1.0:
            bar.close()

    return advance
