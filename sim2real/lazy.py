"""Public names of a package that are imported when they are used (PEP 562): `import sim2real` stays quick."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from sim2real.errors import nearest


def exports(package: str, where: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose public names are in the modules `where` says."""

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module '{package}' has no attribute '{name}'{nearest(name, where)}")
        value = getattr(import_module(where[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        own = vars(sys.modules[package])
        return sorted({*where, *(name for name in own if name[:2] == "__")})

    return get, names
