"""Settings of all tests."""

import os

import pytest
from hypothesis import HealthCheck, settings

# No test depends on how fast the machine is: not on deadlines, and not on how long drawing examples takes.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Failures of arms are counted in the user's state directory; tests have one of their own."""
    os.environ["SIM2REAL_STATE"] = str(tmp_path_factory.mktemp("state"))
