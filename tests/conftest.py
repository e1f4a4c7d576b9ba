"""Settings of all tests."""

import os
import signal
from collections.abc import Iterator

# Before anything loads them: threads of linear algebra that wait for each other by spinning cost two test processes
# on two cores three times the time that they save.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

import sim2real
from sim2real.compiled_cache import cache_folder

# No test depends on how fast the machine is: not on deadlines, and not on how long drawing examples takes.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# Whoever starts the tests may ignore these (nohup, a shell's `&`), and what the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where nobody computes for half a second the watchdogs of an arm do what they are for, and a test that
    drives one by the wall's clock sees a fault that is the machine's. It is tried again; one that is really
    broken fails each time, and every repetition is told in the summary."""
    for item in items:
        if item.get_closest_marker("realtime"):
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=3))


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """What a test runs in this process may ignore signals from then on, and what later tests start would inherit
    that."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Failures of arms are counted in the user's state directory; tests have one of their own."""
    os.environ["SIM2REAL_STATE"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session", autouse=True)
def commands_do_not_announce_compiling(state_of_its_own: None) -> None:
    """On a fresh machine the first of them would: what tests read would depend on which one comes first."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    (cache / f"sim2real-{sim2real.__version__}.tests.nbc").touch()
