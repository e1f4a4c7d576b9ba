"""Options that several subcommands of `sim2real federate` have."""

import argparse

from pipelines.commands._options import add


def add_learning(parser: argparse.ArgumentParser, *, strategies: str) -> None:
    """What is learned, how clients learn for a round, and how their changes are sent; `strategies`: those there are,
    for people."""
    add(parser, task={"default": "reach", "help": "reach, push, lift, place, stack (%(default)s)"})
    add(parser, "robot")
    parser.add_argument("--rounds", type=int, default=10, metavar="R", help="rounds (%(default)s)")
    parser.add_argument("--strategy", default="fedavg", metavar="S", help=f"{strategies} (%(default)s)")
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
        "--steps", type=int, default=40, metavar="N", help="training steps of a round (%(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=256, metavar="B", help="pairs a step (%(default)s)")
    add(parser, learning_rate={"default": 2e-3, "help": "largest learning rate (%(default)s)"})
    parser.add_argument("--width", type=int, default=128, metavar="W", help="units per layer (%(default)s)")
    parser.add_argument("--depth", type=int, default=2, metavar="D", help="layers (%(default)s)")


def add_rounds(parser: argparse.ArgumentParser, *, of: str) -> None:
    """When a round closes, and when it counts; `of`: whose share a quorum is."""
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
        help=f"share {of}that must have answered for it to count (%(default)s)",
    )
