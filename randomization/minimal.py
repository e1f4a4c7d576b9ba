"""The smallest change from nominal that still fails: what of a failed draw is to blame.

A failed draw changes hundreds of parameters at once. Delta debugging (Zeller and Hildebrandt, IEEE Transactions
on Software Engineering 28, 2002) sets groups of them back to nominal as long as the episode still fails, until
no single one can be set back; then the remaining changes are shrunk together. Start of the task and noise stay
those of the draw, so every trial differs from it by parameters alone. The result is *a* smallest change, not
the only one: other draws may fail for other reasons.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from sim2real.errors import UserError
from sim2real.parameters import Draw

Fails = Callable[[Draw], bool]


@dataclass(frozen=True)
class MinimalFailure:
    """A draw that fails with as few and as small changes as were found.

    `changes` holds (nominal, value) by parameter name; all other parameters that may be set back are nominal.
    `scale` is how far the values had to go from nominal to the original draw's, 0..1: a little less succeeds.
    `trials` episodes were run. Without any change in `changes` the episode fails at nominal parameters too.
    """

    draw: Draw
    changes: Mapping[str, tuple[float, float]]
    scale: float
    trials: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "index": self.draw.index,
            "seed": self.draw.seed,
            "changes": {n: {"nominal": a, "value": b} for n, (a, b) in self.changes.items()},
            "scale": self.scale,
            "trials": self.trials,
            "values": dict(self.draw.values),
        }


def minimal_failure(
    fails: Fails, draw: Draw, nominal: Mapping[str, float], *, shrink: int = 6, most: int = 2000
) -> MinimalFailure:
    """Strip a failing draw.

    `fails(draw)` runs an episode; `nominal` holds the values of the parameters that may be set back, the most
    suspicious last. `shrink` bisections find the scale. Raises UserError when the draw does not fail.
    """
    trials = 0
    known: dict[tuple[str, ...], bool] = {}
    candidates = [name for name in nominal if name in draw.values and draw.values[name] != nominal[name]]

    def with_changes(kept: Sequence[str], scale: float = 1.0) -> Draw:
        values = dict(draw.values)
        for name in candidates:
            moved = scale * (draw.values[name] - nominal[name]) if name in kept else 0.0
            # At full scale exactly the draw's own number, so that the original is reproduced to the bit.
            values[name] = draw.values[name] if name in kept and scale == 1.0 else nominal[name] + moved
        return replace(draw, values=values)

    def still_fails(kept: Sequence[str]) -> bool:
        nonlocal trials
        key = tuple(kept)
        if key not in known:
            trials += 1
            known[key] = fails(with_changes(kept))
        return known[key]

    if not still_fails(candidates):
        raise UserError(f"draw {draw.index} succeeds when it is run again, so there is nothing to strip")
    if still_fails([]):
        return MinimalFailure(with_changes([]), {}, 0.0, trials)

    kept, parts = list(candidates), 2
    while len(kept) > 1 and trials < most:
        chunks = _split(kept, parts)
        smaller = (
            next((c for c in chunks if len(c) < len(kept) and still_fails(c)), None) if parts <= 4 else None
        )
        if smaller is not None:
            kept, parts = smaller, 2
            continue
        # Leaving out one chunk: the usual way forward when several changes act together.
        rest = next((r for c in chunks if still_fails(r := [n for n in kept if n not in c])), None)
        if rest is not None:
            kept, parts = rest, max(parts - 1, 2)
        elif parts >= len(kept):
            break
        else:
            parts = min(2 * parts, len(kept))

    low, high = 0.0, 1.0
    for _ in range(shrink):
        middle = (low + high) / 2
        trials += 1
        low, high = (low, middle) if fails(with_changes(kept, middle)) else (middle, high)
    final = with_changes(kept, high)
    return MinimalFailure(final, {n: (nominal[n], final.values[n]) for n in kept}, high, trials)


def _split(names: Sequence[str], parts: int) -> list[list[str]]:
    edges = [round(i * len(names) / parts) for i in range(parts + 1)]
    return [list(names[a:b]) for a, b in pairwise(edges) if b > a]
