"""One recorded or simulated episode."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.parameters import Draw

Array = NDArray[np.float64]


@dataclass
class Episode:
    """T frames at `fps`. Row t is read *before* the action of the same frame is sent.

    `state` sensed joint angles, `action` requested and `executed` really sent goals: (T, n) rad. `time` (T,)
    s, the true time of capture from the start of the episode. `features` holds the other observation keys,
    (T, k) each. `images` holds encoded or raw frames per camera. `success` is None when nobody judged it.
    """

    time: Array
    state: Array
    action: Array
    executed: Array
    fps: float
    robot: str = ""
    task: str = ""
    features: dict[str, Array] = field(default_factory=dict)
    images: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    success: bool | None = None
    stage: str = ""
    draw: Draw | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in ("time", "state", "action", "executed")}
        lengths |= {name: len(column) for name, column in self.features.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"all columns of an episode need the same length, got {lengths}")

    def __len__(self) -> int:
        return len(self.time)
