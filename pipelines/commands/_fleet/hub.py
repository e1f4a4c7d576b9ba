"""`sim2real fleet hub`: what robots report to."""

import argparse

from pipelines.commands._fleet._options import add_store

SUMMARY = "the process that robots report to"
HELP = (
    "Answer the robots of a fleet: keep what they tell, offer each the policy to run, pass on requests to stop. "
    "Speaks mutual TLS with the certificates that `fleet enroll` made; a robot reaches nothing but its own. Listens on "
    "this computer alone unless told otherwise. Without a hub robots go on with the policy they have."
)
EXAMPLES = """  sim2real fleet hub --store fleet
  sim2real fleet hub --store fleet --listen tls/0.0.0.0:7447 --host hub.factory.lan"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from hardware.fleet.link import DEFAULT

    add_store(parser)
    parser.add_argument(
        "--listen", action="append", metavar="ENDPOINT",
        help=f"tls/HOST:PORT, or tcp/127.0.0.1:PORT; may be repeated (default: {DEFAULT})",
    )  # fmt: skip
    parser.add_argument(
        "--host", action="append", default=[], metavar="NAME",
        help="a name or address by which robots reach it, for its certificate; may be repeated",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    import signal

    from hardware.fleet.agent import say_line
    from hardware.fleet.link import DEFAULT, Endpoint, log_refusals
    from pipelines.fleet.hub.hub import Hub
    from pipelines.fleet.registry.registry import Registry

    endpoints = [Endpoint.parse(text) for text in args.listen or [DEFAULT]]
    log_refusals()
    with Registry.open(args.store, args.database, args.objects) as registry:
        hub = Hub(registry, endpoints, args.host, say_line)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: hub.stop())
        say_line(f"{len(hub.desk.robots)} robots are enrolled; listening on {', '.join(map(str, endpoints))}")
        hub.run()
    return 0
