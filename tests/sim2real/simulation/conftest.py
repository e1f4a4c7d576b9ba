from collections.abc import Iterator

import pytest

from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task


@pytest.fixture(scope="session")
def arm() -> Iterator[World]:
    """The arm alone on the table."""
    with World("so101") as world:
        yield world


@pytest.fixture(scope="session")
def lift() -> Iterator[World]:
    with World("so101", load_task("lift")) as world:
        yield world


@pytest.fixture(scope="session")
def push() -> Iterator[World]:
    with World("so101", load_task("push")) as world:
        yield world
