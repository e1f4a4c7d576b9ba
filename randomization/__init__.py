"""Distributions, designs, sweeps, sensitivity and identification; knows no simulator."""

from typing import TYPE_CHECKING

from sim2real.lazy import exports

if TYPE_CHECKING:
    from randomization.distributions import (
        Beta,
        Choice,
        Constant,
        Distribution,
        LogBeta,
        LogUniform,
        Mixture,
        Normal,
        TruncatedNormal,
        Uniform,
    )
    from randomization.space import BoundSpace, Correlation, Space, Variation
    from randomization.sweep import run_sweep
    from randomization.workers import Outcome, run_local

__all__ = [
    "Beta",
    "BoundSpace",
    "Choice",
    "Constant",
    "Correlation",
    "Distribution",
    "LogBeta",
    "LogUniform",
    "Mixture",
    "Normal",
    "Outcome",
    "Space",
    "TruncatedNormal",
    "Uniform",
    "Variation",
    "run_local",
    "run_sweep",
]

_WHERE = {
    "Beta": "randomization.distributions",
    "BoundSpace": "randomization.space",
    "Choice": "randomization.distributions",
    "Constant": "randomization.distributions",
    "Correlation": "randomization.space",
    "Distribution": "randomization.distributions",
    "LogBeta": "randomization.distributions",
    "LogUniform": "randomization.distributions",
    "Mixture": "randomization.distributions",
    "Normal": "randomization.distributions",
    "Outcome": "randomization.workers",
    "Space": "randomization.space",
    "TruncatedNormal": "randomization.distributions",
    "Uniform": "randomization.distributions",
    "Variation": "randomization.space",
    "run_local": "randomization.workers",
    "run_sweep": "randomization.sweep",
}
"""The module of each public name, which is imported when the name is used."""

__getattr__, __dir__ = exports(__name__, _WHERE)
