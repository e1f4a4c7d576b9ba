"""`sim2real federate serve`: the server of a federation."""

import argparse

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
    add(parser, task={"default": "reach", "help": "reach, push, lift, place, stack (%(default)s)"})
    add(parser, "robot")
    parser.add_argument(
        "--clients", type=int, default=2, metavar="N", help="clients that it begins with; more may join later"
    )
    parser.add_argument("--rounds", type=int, default=10, metavar="R", help="rounds (%(default)s)")
    parser.add_argument(
        "--strategy", default="fedavg", metavar="S", help="fedavg, fedprox or trimmed (%(default)s)"
    )
    parser.add_argument(
        "--codec", default="none", metavar="C", help="none, int8, topk or delta (%(default)s)"
    )
    parser.add_argument(
        "--personal", default="none", metavar="P", help="none, head or adapters (%(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, default=40, metavar="N", help="training steps of a round (%(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=256, metavar="B", help="pairs a step (%(default)s)")
    add(parser, learning_rate={"default": 2e-3, "help": "largest learning rate (%(default)s)"})
    parser.add_argument("--width", type=int, default=128, metavar="W", help="units per layer (%(default)s)")
    parser.add_argument("--depth", type=int, default=2, metavar="D", help="layers (%(default)s)")
    parser.add_argument(
        "--deadline",
        type=float,
        default=4.0,
        metavar="K",
        help="a round closes at the median + K · MAD (%(default)s)",
    )
    parser.add_argument(
        "--quorum",
        type=float,
        default=0.5,
        metavar="F",
        help="share of --clients that must have answered (%(default)s)",
    )
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
