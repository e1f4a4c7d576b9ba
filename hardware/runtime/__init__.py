"""The deployment runtime: control loop, supervisor, inference, watchdog, recorder."""
