"""`sim2real federate join`: a client of a federation."""

import argparse

from pipelines.commands._options import add

SUMMARY = "take part in a federation with one's own data"
HELP = (
    "Take part in a federation: train on the recordings of this arm whenever the server has work, and send what that "
    "changed, never the recordings. What is learned, and on what network, the server says; only tasks and robots that "
    "ship with the package are taken from it. Goes on when the server is away for a while. Writes DIR/policy.onnx."
)
EXAMPLES = """  sim2real federate join --server 127.0.0.1:5600 --name kitchen --data recorded --out runs/kitchen
  sim2real federate join --server hub.example.org:5600 --name lab --data recorded --ca ca.crt \\
                         --certificate lab.crt --key lab.key --out runs/lab
  sim2real federate join --server 127.0.0.1:5600 --name trial --simulated 20 --out runs/trial   (to try it)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", required=True, metavar="HOST:PORT", help="where `federate serve` listens")
    parser.add_argument("--name", metavar="NAME", help="this client's name (default: the computer's)")
    parser.add_argument("--data", metavar="DIR", help="a LeRobot data set (v3.0 or v2.x)")
    parser.add_argument(
        "--simulated", type=int, metavar="N", help="instead of --data: so many demonstrations in simulation"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="S",
        help="s that the server may be away (%(default)s)",
    )
    parser.add_argument("--ca", metavar="FILE", help="TLS: authority of the server's certificate")
    parser.add_argument("--certificate", metavar="FILE", help="TLS: this client's certificate (PEM)")
    parser.add_argument("--key", metavar="FILE", help="TLS: its key")
    add(parser, seed="of the simulated demonstrations (%(default)s)")
    add(parser, "out", "workers", "json")


def run(args: argparse.Namespace) -> int:
    import json
    import platform

    from pipelines.api.federate import join_federation

    found = join_federation(
        args.server,
        out=args.out,
        name=args.name or platform.node() or "client",
        data=args.data,
        simulated=args.simulated,
        patience=args.patience,
        ca=args.ca,
        certificate=args.certificate,
        key=args.key,
        seed=args.seed,
        workers=args.workers,
    )
    print(json.dumps(found) if args.json else found["policy"])
    return 0
