"""The optional packages of a fleet, imported when they are needed."""

from importlib import import_module
from typing import Any

from sim2real.errors import UserError


def extra(module: str, package: str) -> Any:
    """A module of the extra `fleet`. Raises UserError that says how to install it."""
    try:
        return import_module(module)
    except ImportError:
        raise UserError(
            f"a fleet needs the package {package}, which is not installed: pip install 'sim2real-transfer[fleet]'"
        ) from None
