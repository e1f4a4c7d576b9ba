"""`sim2real federate simulate`: clients in this computer, and what each way to learn gives."""

import argparse

from pipelines.commands._options import add

SUMMARY = "clients in this computer: alone, federated and pooled, on the same episodes"
HELP = (
    "Simulate clients that each have an arm, a camera, objects and a share of the work of their own, collect "
    "demonstrations, and learn one policy together without sharing them. The result is compared with what each learns "
    "alone and with what all data in one place would give, on the same episodes. Who is late or dies follows a "
    "simulated clock, so that the same seed gives the same result. The same command goes on after Ctrl-C."
)
EXAMPLES = """  sim2real federate simulate --clients 8 --rounds 10 --task reach --out runs/federated
  sim2real federate simulate --clients 8 --rounds 20 --task lift --codec int8 --out runs/lift --json
  sim2real federate simulate --clients 8 --rounds 10 --task reach --stragglers 0.3 --dead 0.1 --out runs/late
  sim2real federate simulate --clients 9 --rounds 10 --task reach --strategy trimmed --lying 2 --out runs/liars"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, default=8, metavar="N", help="clients (%(default)s)")
    parser.add_argument("--rounds", type=int, default=10, metavar="R", help="rounds (%(default)s)")
    add(parser, task={"default": "reach", "help": "reach, push, lift, place, stack (%(default)s)"})
    add(parser, "robot")
    parser.add_argument(
        "--strategy",
        default="fedavg",
        metavar="S",
        help="fedavg, fedprox, fedbuff (nobody waits) or trimmed (stands liars) (%(default)s)",
    )
    parser.add_argument(
        "--codec",
        default="none",
        metavar="C",
        help="none, int8, topk or delta: how changes are sent (%(default)s)",
    )
    parser.add_argument(
        "--personal",
        default="none",
        metavar="P",
        help="what stays with each client: none, head or adapters (%(default)s)",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=0.5,
        metavar="A",
        help="of the Dirichlet distribution that shares the work out; small: very unlike, inf: alike (%(default)s)",
    )
    parser.add_argument(
        "--episodes", type=int, default=20, metavar="N", help="demonstrations of each client (%(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, default=40, metavar="N", help="training steps of a round (%(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=256, metavar="B", help="pairs a step (%(default)s)")
    add(parser, learning_rate={"default": 2e-3, "help": "largest learning rate (%(default)s)"})
    parser.add_argument("--width", type=int, default=128, metavar="W", help="units per layer (%(default)s)")
    parser.add_argument("--depth", type=int, default=2, metavar="D", help="layers (%(default)s)")
    parser.add_argument(
        "--stragglers",
        type=float,
        default=0.0,
        metavar="F",
        help="share of the clients that are late each round",
    )
    parser.add_argument(
        "--dead", type=float, default=0.0, metavar="F", help="share of the clients that die in each round"
    )
    parser.add_argument("--lying", type=int, default=0, metavar="K", help="clients that send what is wrong")
    parser.add_argument(
        "--deadline",
        type=float,
        default=4.0,
        metavar="K",
        help="a round closes at the median + K · MAD of past times (%(default)s)",
    )
    parser.add_argument(
        "--quorum",
        type=float,
        default=0.5,
        metavar="F",
        help="share that must have answered for it to count (%(default)s)",
    )
    add(parser, evaluate={"default": 16, "help": "episodes that each client is measured on (%(default)s)"})
    add(parser, "seed", "out", "workers", "json")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.api.federate import simulate_federation
    from pipelines.federated.settings import Federation

    given = {
        name: getattr(args, name)
        for name in Federation.__dataclass_fields__
        if name not in ("task", "clients", "rounds")
    }
    found = simulate_federation(
        args.task, out=args.out, clients=args.clients, rounds=args.rounds, workers=args.workers, **given
    )
    print(json.dumps(dict(found.result)) if args.json else found)
    return 0
