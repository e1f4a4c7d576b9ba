"""`sim2real federate serve`: the server of a federation."""

import argparse

from pipelines.commands._federate._options import add_learning, add_rounds
from pipelines.commands._options import add

SUMMARY = "the server of a federation: clients elsewhere join it"
HELP = (
    "Serve a federation: clients connect, are given weights, train on their own data and send what that changed. "
    "Writes DIR/policy.onnx and result.json after the last round, and a checkpoint after every one: the same command "
    "goes on from it. Listens on this computer only unless --listen says otherwise; whoever reaches the port can take "
    "part, unless --certificate, --key and --ca ask for certificates."
)
EXAMPLES = """  sim2real federate serve --task reach --rounds 20 --clients 3 --out runs/server
  sim2real federate serve --task lift --clients 8 --codec int8 --listen 0.0.0.0:5600 \\
                          --certificate server.crt --key server.key --ca ca.crt --out runs/server"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clients", type=int, default=2, metavar="N", help="clients that it begins with; more may join later"
    )
    add_learning(parser, strategies="fedavg, fedprox or trimmed")
    add_rounds(parser, of="of --clients ")
    parser.add_argument(
        "--listen",
        default="127.0.0.1:5600",
        metavar="HOST:PORT",
        help="where to listen (%(default)s); port 0: a free one",
    )
    parser.add_argument("--certificate", metavar="FILE", help="TLS: the server's certificate (PEM)")
    parser.add_argument("--key", metavar="FILE", help="TLS: its key")
    parser.add_argument("--ca", metavar="FILE", help="TLS: clients need a certificate of this authority")
    add(
        parser,
        evaluate={"default": 0, "help": "episodes of a measurement in simulation at the end (%(default)s)"},
    )
    add(parser, "seed", "out", "workers", "json")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.api.federate import serve_federation

    found = serve_federation(**{name: value for name, value in vars(args).items() if name in NAMES})
    if args.json:
        print(json.dumps(found))
    else:
        print(f"{found['rounds']} rounds with {found['clients']} clients; written to {args.out}")
    return 0


NAMES = (
    "task", "robot", "clients", "rounds", "strategy", "codec", "personal", "steps", "batch_size", "learning_rate",
    "width", "depth", "deadline", "quorum", "listen", "certificate", "key", "ca", "evaluate", "seed", "out", "workers",
)  # fmt: skip
