"""`sim2real report`: a page about one or several runs."""

import argparse

from pipelines.commands._options import add

SUMMARY = "write report.html for run directories"
GROUP = "from recordings"
HELP = (
    "Write report.html for run directories: self-contained, readable offline. One directory gets its report inside "
    "it; several get one page with a table of results on top, beside them or at --out. Sweeps over the same draws "
    "are compared pair by pair."
)
EXAMPLES = """  sim2real report runs/sweep                                   # runs/sweep/report.html
  sim2real report runs/before runs/after                       # runs/report.html
  sim2real report runs/sweep runs/lift runs/deployed --out lift.html"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directories", nargs="+", metavar="DIR", help="what --out of a command named")
    add(parser, out={"required": False, "metavar": "FILE", "help": "where to write the page"})
    add(parser, "json")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.reports.report import write_report

    path = write_report(args.directories, args.out)
    print(json.dumps({"report": str(path)}) if args.json else path)
    return 0
