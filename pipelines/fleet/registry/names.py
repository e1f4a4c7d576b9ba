"""Names in a fleet, and whose doing something is."""

import getpass
import os
import re
import socket

from sim2real.errors import UserError
from sim2real.text import printable

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
"""Names of robots and aliases: they are parts of keys, certificates and files."""


def check_name(name: str, what: str) -> str:
    """`name` itself. Raises UserError unless it can be the name of a robot or an alias."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"'{printable(name)}' cannot be the name of {what}: lower-case letters, digits, '_', '-' and '.', 63 at "
            "most, a letter or digit first"
        )
    return name


def whoami() -> str:
    """Who types the command, for the audit log."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
