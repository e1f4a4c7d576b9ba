"""Distributions, designs, sweeps, sensitivity and identification; knows no simulator."""
