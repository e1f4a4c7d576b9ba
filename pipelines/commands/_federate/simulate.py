"""`sim2real federate simulate`: clients in this computer, and what each way to learn gives."""

import argparse

from pipelines.commands._federate._options import add_learning, add_rounds
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
    add_learning(parser, strategies="fedavg, fedprox, fedbuff (nobody waits) or trimmed (stands liars)")
    add_rounds(parser, of="")
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
