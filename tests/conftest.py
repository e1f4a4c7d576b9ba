"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# No test depends on how fast the machine is: not on deadlines, and not on how long drawing examples takes.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
