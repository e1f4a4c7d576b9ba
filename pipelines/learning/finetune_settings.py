"""What decides a fine-tuning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sim2real.camera import CameraModel
from sim2real.errors import UserError

Train = Literal["head", "adapters", "all"]
Failures = Literal["leave-out", "avoid"]
Labels = Literal["auto", "recorded", "expert"]

DEFAULT, IDENTIFIED = "default", "identified"
"""Spaces by name: all default ranges, and what `identify` finds in the recordings."""

RATES: Mapping[str, float] = {"head": 5e-4, "adapters": 1e-3, "all": 3e-4}
"""Learning rates by what is trained."""


@dataclass(frozen=True)
class FinetuneSettings:
    """Everything that decides a fine-tuned policy. `task` None: the one the policy was trained for.

    `units`, `episodes`, `arm`, `fps`, `names` say how the data set is read, as `open_readings` takes them.
    `lead`: how much later than due the recorded actions are learned, in policy periods (None: estimated, see
    `recorded.py`). `labels`: what is learned in recorded states: what was "recorded", or what the "expert" would do
    ("auto": the latter where the policy itself drove, and there is an expert). `failures` in the recordings: "avoid"
    learns what the expert would have done in them, "leave-out" ignores them (None: avoid where the expert labels).
    `space`: a file, its content, "default" or "identified" (found in the recordings; None: that, where they tell
    something and no `twin` is given). `cameras`: those of this arm, as `pretrain` takes them (None: anywhere).
    `mix`: the share of every batch that is recorded, or "auto". `rehearsal`: the share of the rest that comes from the
    default space. `train`: "head", "adapters" of rank `rank`, or "all", of which all but the head is frozen until the
    share `thaw` of the training is done. `simulated` episodes are collected in `rounds`; `student` is the share of the
    time in which the policy itself drives them. Training ends early after `patience` epochs in which held-out recorded
    episodes did not get better (0: never). `curve`: after how many recorded episodes success is measured besides.
    """

    policy: str
    data: str
    robot: str = "so101"
    task: str | None = None
    calibration: str | None = None
    units: str = "auto"
    episodes: str | None = None
    arm: str | None = None
    fps: float | None = None
    names: Mapping[str, str] | None = None
    every_episode: bool = False
    lead: float | None = None
    labels: Labels = "auto"
    failures: Failures | None = None
    simulated: int = 100
    rounds: int = 2
    space: str | Mapping[str, Any] | None = None
    twin: str | Mapping[str, float] | None = None
    cameras: str | Mapping[str, Any] | None = None
    seed: int = 0
    mix: float | Literal["auto"] = "auto"
    rehearsal: float = 0.3
    train: Train = "adapters"
    rank: int = 8
    thaw: float = 0.2
    student: float = 0.7
    noise: float = 0.05
    epochs: int = 15
    batches: int = 60
    batch_size: int = 512
    learning_rate: float | None = None
    patience: int = 6
    held_out: float = 0.2
    evaluate: int = 50
    curve: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                words = ", ".join(str(word) for word in allowed if word is not None)
                raise UserError(f"{name} is one of {words}, got '{getattr(self, name)}'")
        if self.mix != "auto" and not (isinstance(self.mix, (int, float)) and 0 < self.mix <= 1):
            raise UserError(
                f"the mix is 'auto' or a share of recorded data in 0..1 (not 0), got {self.mix!r}"
            )
        if not 0 <= self.held_out < 1 or not 0 <= self.rehearsal < 1 or not 0 <= self.thaw <= 1:
            raise UserError("the held-out share and the rehearsal must lie in 0..1 (not 1), thaw in 0..1")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise UserError(f"the learning rate must be above 0, got {self.learning_rate}")
        if min(self.epochs, self.batches, self.batch_size, self.rank, self.rounds) < 1:
            raise UserError("epochs, batches, batch size, rank and rounds must be at least 1")
        if min(self.simulated, self.evaluate, self.patience) < 0:
            raise UserError("simulated, evaluate and patience must be at least 0")
        object.__setattr__(self, "curve", tuple(self.curve))
        if any(count < 0 for count in self.curve):
            raise UserError(f"the curve takes counts of episodes, 0 or more; got {self.curve}")
        if self.mix == "auto" and self.simulated == 0:
            object.__setattr__(self, "mix", 1.0)

    @property
    def camera_models(self) -> str | dict[str, CameraModel] | None:
        """The cameras, or the name of their file."""
        if self.cameras is None or isinstance(self.cameras, str):
            return self.cameras
        return {name: CameraModel.from_table(table, name) for name, table in self.cameras.items()}

    @property
    def adapted(self) -> bool:
        """Whether the simulated arm is told to be another than the default one."""
        return self.twin is not None or self.cameras is not None

    @property
    def rate(self) -> float:
        """The learning rate."""
        return RATES[self.train] if self.learning_rate is None else self.learning_rate


_ALLOWED: Mapping[str, tuple[str | None, ...]] = {
    "train": ("head", "adapters", "all"),
    "labels": ("auto", "recorded", "expert"),
    "failures": ("leave-out", "avoid", None),
}
