"""`sim2real fleet dashboard`: the fleet in a browser, and for Prometheus."""

import argparse

from pipelines.commands._fleet._options import add_store

SUMMARY = "the fleet in a browser, and /metrics for Prometheus"
HELP = (
    "Serve the fleet's pages on this machine (127.0.0.1): robots by site and state, success with intervals per robot, "
    "policy and site, interventions, rollouts with their tests' curves, episodes with joints and video where their "
    "runs are on this machine. /metrics is for Prometheus, /status the JSON of `fleet status`; --board prints a "
    "board for Grafana. It only looks: it changes nothing, and needs no hub. Ends with Ctrl-C."
)
EXAMPLES = """  sim2real fleet dashboard --store fleet
  sim2real fleet dashboard --store fleet --listen 8090 --runs robots      # robots/a1/runs/…
  sim2real fleet dashboard --board > board.json                           # import it in Grafana"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument(
        "--listen", default="8090", metavar="PORT", help="port on 127.0.0.1; 0: any free one (%(default)s)"
    )
    parser.add_argument(
        "--runs", action="append", default=[], metavar="DIR",
        help="where robots' runs are, a folder per robot: for joints and videos of episodes; may be repeated",
    )  # fmt: skip
    parser.add_argument("--board", action="store_true", help="print the board for Grafana instead")


def run(args: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from sim2real.errors import UserError

    if args.board:
        from pipelines.fleet.dashboard import BOARD

        print(BOARD.read_text(), end="")
        return 0
    port = args.listen.removeprefix("127.0.0.1:").removeprefix("localhost:")
    if not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise UserError(
            f"--listen takes a port of this machine, as 8090; got '{args.listen}' (from elsewhere, use a tunnel: "
            "ssh -L 8090:127.0.0.1:8090 HOST)"
        )
    for folder in args.runs:
        if not Path(folder).is_dir():
            raise UserError(f"--runs {folder} is no folder")
    from pipelines.fleet.dashboard.server import Dashboard
    from pipelines.fleet.registry.registry import Registry

    with Registry.open(args.store, args.database, args.objects) as registry:
        with Dashboard(registry, int(port), args.runs) as server:
            print(f"the fleet is at {server.url}", file=sys.stderr, flush=True)
            server.serve_forever()
    return 0
