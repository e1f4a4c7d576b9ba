"""Serial drivers, perception, the deployment runtime and the emulator."""
