"""Options that several subcommands of `sim2real fleet` have."""

import argparse


def add_store(parser: argparse.ArgumentParser) -> None:
    """Where the fleet's store is."""
    parser.add_argument(
        "--store", default="fleet", metavar="DIR", help="the fleet's store (default: %(default)s)"
    )
    parser.add_argument(
        "--database", metavar="URL",
        help="PostgreSQL instead of a file in the store: postgresql://user@host/name; remembered there",
    )  # fmt: skip
    parser.add_argument(
        "--objects",
        metavar="URL",
        help="keep policy files elsewhere: any URL of fsspec; remembered in the store",
    )
