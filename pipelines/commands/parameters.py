"""`sim2real parameters`: what can be randomized, and over which range by default."""

import argparse
import json

from pipelines.commands._options import add

SUMMARY = "list the simulation parameters that can be randomized"
GROUP = "setting up"
HELP = (
    "List the simulation parameters of a robot (and a task): name, unit, nominal value, default range, whether "
    "it is drawn once per episode or sets the size of noise within it. Those drawn per picture change nothing but "
    "pictures; they vary where pictures are rendered, and elsewhere only if a space names them. --save writes the "
    "default ranges as a space file to edit."
)
EXAMPLES = """  sim2real parameters --robot so101 --task lift
  sim2real parameters 'servo.*.coulomb' 'object.*'          # only these
  sim2real parameters --task lift --save space.toml         # a file to edit, for sweep and pretrain
  sim2real parameters --task lift --space space.toml --json # what varies under this file"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="*", help="names or wildcards; all parameters when none is given")
    add(
        parser,
        "robot",
        task="task name or module:Class; adds its parameters",
        space="show the ranges of this space file instead",
    )
    parser.add_argument("--save", metavar="FILE", help="write what is listed as a space file")
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import fnmatch
    from pathlib import Path

    from pipelines.sweeps.plan import all_parameters
    from randomization.space import Space, default_variation, nearest_names
    from sim2real.errors import UserError
    from sim2real.parameters import unseen

    parameters = all_parameters(args.robot, args.task)
    bound = (Space.load(args.space) if args.space else Space()).bind(unseen(parameters))
    varying = {name: column for column in bound.columns for name in column.targets}
    wanted = list(parameters)
    if args.pattern:
        wanted = [n for n in parameters if any(fnmatch.fnmatchcase(n, p) for p in args.pattern)]
        if not wanted:
            near = nearest_names(args.pattern[0], list(parameters))
            hint = f"the nearest are {', '.join(near)}" if near else "leave it out to see all"
            raise UserError(f"no parameter matches {' '.join(args.pattern)}; {hint}")
    rows = []
    for name in wanted:
        p, column = parameters[name], varying.get(name)
        low, high = (p.low, p.high) if p.visual and column is None else bound.range(name)
        rows.append(
            {
                "name": name,
                "unit": p.unit,
                "nominal": p.nominal,
                "low": low,
                "high": high,
                "varies": column is not None,
                "distribution": column.variation.to_toml() if column else None,
                "when": p.when,
                "visual": p.visual,
                "description": p.description,
            }
        )
    if args.save:
        if args.space:
            raise UserError("--save writes default ranges; with --space there is nothing to write")
        named = parameters if args.pattern else unseen(parameters)
        entries = {n: default_variation(named[n]) for n in wanted if named[n].randomized}
        about = f"default ranges of {args.robot}" + (f" for {args.task}" if args.task else "")
        try:
            Space(entries).save(Path(args.save), about=about)
        except OSError as error:
            raise UserError(f"cannot write {args.save}: {error.strerror or error}") from None
    if args.json:
        print(json.dumps({"robot": args.robot, "task": args.task, "parameters": rows}, indent=2))
    else:
        _print_table(rows)
    return 0


def _print_table(rows: list[dict[str, object]]) -> None:
    cells = [("name", "nominal", "range", "unit", "drawn per", "")]
    for row in rows:
        span = f"{row['low']:.4g} … {row['high']:.4g}" if row["low"] != row["high"] else "–"
        cells.append(
            (
                str(row["name"]),
                f"{row['nominal']:.4g}",
                span,
                str(row["unit"]),
                "picture" if row["visual"] else str(row["when"]),
                str(row["description"]),
            )
        )
    widths = [max(len(line[i]) for line in cells) for i in range(5)]
    for line in cells:
        print("  ".join(text.ljust(width) for text, width in zip(line, [*widths, 0])).rstrip())
    varying = sum(bool(row["varies"]) for row in rows)
    print(f"\n{len(rows)} parameters, {varying} of them randomized")
    idle = sum(bool(row["visual"] and not row["varies"]) for row in rows)
    if idle:
        print(f"{idle} more change pictures only and vary where pictures are rendered")
