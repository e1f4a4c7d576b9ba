"""Many arms: simulated first."""
