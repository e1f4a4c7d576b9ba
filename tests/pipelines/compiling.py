"""`python -m tests.pipelines.compiling COMMAND …`: the command, and a line for each function that was compiled, or
loaded from what had been compiled, while torque was on: on a new machine each of them would stop the loop."""

import sys
from typing import Any

from numba.core.dispatcher import Dispatcher

from hardware.runtime.control.link import Link
from pipelines.cli import main

MARK = "first called under torque:"


def watch() -> None:
    """From now on, say so."""
    enable, relax, get_compiled = Link.enable, Link.relax, Dispatcher.compile
    torque = False

    def watched_enable(link: Link) -> Any:
        nonlocal torque
        torque = True
        return enable(link)

    def watched_relax(link: Link) -> bool:
        nonlocal torque
        limp = relax(link)
        torque = torque and not limp
        return limp

    def watched_compile(dispatcher: Any, signature: Any) -> Any:
        if torque:
            print(MARK, dispatcher.py_func.__qualname__, signature, file=sys.stderr)
        return get_compiled(dispatcher, signature)

    Link.enable = watched_enable  # type: ignore[method-assign]
    Link.relax = watched_relax  # type: ignore[method-assign]
    Dispatcher.compile = watched_compile


if __name__ == "__main__":
    watch()
    sys.exit(main(sys.argv[1:]))
