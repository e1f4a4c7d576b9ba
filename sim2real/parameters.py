"""Named simulation parameters, and the draws that set them."""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from sim2real.errors import UserError


@dataclass(frozen=True)
class Parameter:
    """One quantity that can be randomized.

    `low..high` is the range it is drawn from by default, in the same unit as `nominal`; `low == high` means
    that it is not randomized unless asked for. `scale="log"` draws uniformly in the logarithm. `when` says
    whether the value holds for an episode or is the scale of noise redrawn at every step. A `visual` one changes
    pictures and nothing else. Values below `minimum` or above `maximum` have no meaning.
    """

    name: str
    nominal: float
    unit: str = ""
    low: float = math.nan
    high: float = math.nan
    scale: Literal["linear", "log"] = "linear"
    when: Literal["episode", "step"] = "episode"
    description: str = ""
    visual: bool = False
    minimum: float = -math.inf
    maximum: float = math.inf

    def __post_init__(self) -> None:
        for bound in ("low", "high"):
            if math.isnan(getattr(self, bound)):
                object.__setattr__(self, bound, self.nominal)
        if not math.isfinite(self.nominal):
            raise ValueError(f"parameter {self.name}: nominal value must be finite, got {self.nominal}")
        if not self.low <= self.high:
            raise ValueError(f"parameter {self.name}: low must not exceed high, got {self.low} > {self.high}")
        if not self.minimum <= self.low <= self.high <= self.maximum:
            raise ValueError(f"parameter {self.name}: {self.low} … {self.high} must lie within {self.limits}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"parameter {self.name}: a log scale needs low > 0, got {self.low}")

    @property
    def limits(self) -> str:
        """What values can be, in words."""
        if math.isinf(self.maximum):
            text = f"{self.minimum:g} or more" if math.isfinite(self.minimum) else "any number"
        else:
            text = f"{self.minimum:g} … {self.maximum:g}"
        return f"{text} {self.unit}".rstrip()

    def refusal(self, value: float) -> str:
        """What is wrong with this value; empty when nothing is."""
        slack = 1e-9 * abs(value)  # a range scaled from nominal may end a rounding error beyond
        if self.minimum - slack <= value <= self.maximum + slack:
            return ""
        meaning = f" ({self.description})" if self.description else ""
        return f"{self.name} cannot be {value:g}; it can be {self.limits}{meaning}"

    @property
    def randomized(self) -> bool:
        """Whether the default range is more than one point."""
        return self.high > self.low


def unseen(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The parameters of a run that renders no pictures: visual ones have no default range.

    They would cost a design dimensions, and an analysis candidates, for what cannot have an effect.
    """
    return {
        name: replace(p, low=p.nominal, high=p.nominal) if p.visual else p for name, p in parameters.items()
    }


@dataclass(frozen=True)
class Draw:
    """One set of absolute parameter values, enough to replay an episode to the bit.

    Parameters not in `values` take their nominal value. `seed` feeds everything that is random within the
    episode (noise, jitter, dropped packets).
    """

    index: int = 0
    seed: int = 0
    values: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        clean = {name: float(value) for name, value in self.values.items()}
        bad = [f"{name}={value}" for name, value in clean.items() if not math.isfinite(value)]
        if bad:
            raise ValueError(f"a draw holds finite values only, got {', '.join(bad)}")
        object.__setattr__(self, "values", MappingProxyType(clean))

    def __reduce__(self) -> tuple[type["Draw"], tuple[int, int, dict[str, float]]]:
        # A mapping proxy does not pickle; worker processes need draws.
        return Draw, (self.index, self.seed, dict(self.values))

    def to_json(self) -> str:
        return json.dumps({"index": self.index, "seed": self.seed, "values": dict(self.values)})

    @classmethod
    def from_json(cls, text: str) -> "Draw":
        raw = json.loads(text)
        return cls(index=int(raw["index"]), seed=int(raw["seed"]), values=raw["values"])


def load_twin(path: str | Path) -> dict[str, float]:
    """The parameters in a twin file, by name. Raises UserError when it is missing or none."""
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))["parameters"]
        return {str(name): float(value) for name, value in table.items()}
    except FileNotFoundError:
        raise UserError(f"the twin file {path} does not exist; `sim2real identify` writes one") from None
    except (KeyError, ValueError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{path} is not a twin file (TOML with a table [parameters]): {error}") from None
