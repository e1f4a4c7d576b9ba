"""One recorded or simulated episode."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real.parameters import Draw

Array = NDArray[np.float64]


@dataclass(repr=False)
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

    def __repr__(self) -> str:
        judged = "not judged" if self.success is None else "succeeded" if self.success else "failed"
        parts = [f"{len(self)} frames at {self.fps:g} Hz", judged, *([self.stage] if self.stage else [])]
        return f"Episode({self.task or 'no task'} on {self.robot or 'an unnamed robot'}: {', '.join(parts)})"
