"""Randomization sweeps and evaluation in simulation."""
