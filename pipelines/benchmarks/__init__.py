"""Measuring policies so that the figures hold: suites of trials, their statistics, and why trials fail."""
