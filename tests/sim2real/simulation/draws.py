"""Random draws for the tests, without the randomization package."""

from collections.abc import Mapping

import numpy as np

from sim2real.parameters import Draw, Parameter


def random_draw(parameters: Mapping[str, Parameter], seed: int, prefixes: tuple[str, ...] = ("",)) -> Draw:
    """Uniform within the default ranges of all parameters whose names begin with one of `prefixes`.

    Each is drawn by itself: its value does not depend on what else is declared.
    """
    values = {}
    for name, p in sorted(parameters.items()):
        u = np.random.default_rng((seed, *name.encode())).random()
        if p.randomized and name.startswith(prefixes):
            values[name] = p.low * (p.high / p.low) ** u if p.scale == "log" else p.low + u * (p.high - p.low)
    return Draw(index=seed, seed=seed, values=values)
