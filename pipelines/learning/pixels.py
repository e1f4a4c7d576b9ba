"""Pretraining of policies that see: what is different from policies of states.

The way is the one of `pretrain.py`: the expert, who knows where everything is, labels every state that is visited; the
student gets pictures instead. Its world varies in all that a camera shows, too.
"""

import re
from dataclasses import dataclass, fields
from typing import Any

from pipelines.learning.collect import Labels, Sight
from pipelines.learning.networks.cnn import HISTORY
from pipelines.learning.pretrain import PretrainSettings
from sim2real.errors import UserError
from sim2real.observation import Feature
from sim2real.pictures import FRAME_SIZE, TABLE_SIZE, VIEWS, PictureInput
from sim2real.task import Task

DEFAULT = ("front=table",)
"""What a policy sees where nothing is said."""

_SPELLING = re.compile(r"(\w+)(?:=(\w+))?(?::(\d+)x(\d+))?")


@dataclass(frozen=True)
class PixelSettings(PretrainSettings):
    """Everything that decides a policy that was pretrained on pictures.

    `pictures` as `parse_picture` reads them, `history` observations in a row, `channels` of the convolutions, `keep`
    the share of the steps whose pictures are learned from, `backgrounds` files with photographs of an empty table.
    """

    episodes: int = 800
    rounds: int = 5
    epochs: int = 60
    batches: int = 200
    batch_size: int = 128
    learning_rate: float = 1e-3
    network: str = "cnn"
    labels: Labels = "objects"
    pictures: tuple[str, ...] = DEFAULT
    history: int = HISTORY
    channels: int = 24
    keep: float = 0.3
    backgrounds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.pictures:
            raise UserError("a policy that observes pixels needs a picture; give --picture CAMERA=VIEW")
        if self.channels < 1:
            raise UserError(f"channels must be at least 1, got {self.channels}")
        cameras = [picture.camera for picture in self.sight.pictures]
        if len(set(cameras)) < len(cameras):
            raise UserError(f"a policy sees one picture of each camera, got {', '.join(self.pictures)}")

    @property
    def photographs(self) -> tuple[str, ...]:
        return self.backgrounds

    @property
    def sight(self) -> Sight:
        return Sight(tuple(map(parse_picture, self.pictures)), self.history, self.keep)

    def features(self, task: Task) -> tuple[Feature, ...]:
        """The joints, the goal where it is given and not seen, and where cameras stand that see from above."""
        wanted = {"joint_position", "joint_command"} | (set() if task.goal_zone else {"goal"})
        places = [picture.place for picture in self.sight.pictures]
        return (
            *(feature for feature in task.features if feature.name in wanted),
            *(Feature(place, 3) for place in places if place is not None),
        )

    def network_options(self, task: Task) -> dict[str, Any]:
        goal_zone = task.goal_zone if any(feature.name == "goal" for feature in task.features) else None
        return super().network_options(task) | {
            "pictures": [picture.table() for picture in self.sight.pictures],
            "objects": [{"name": spec.name, "rest": spec.rest} for spec in task.objects],
            "goal_zone": goal_zone,
            "goal_height": float(task.goal_height) if goal_zone else 0.0,
            "history": self.history,
            "channels": self.channels,
        }


PIXELS_ONLY = tuple(
    sorted(
        {field.name for field in fields(PixelSettings)} - {field.name for field in fields(PretrainSettings)}
    )
)
"""Settings that policies of states do not have."""


def parse_picture(text: str) -> PictureInput:
    """A picture from `CAMERA[=VIEW][:WIDTHxHEIGHT]`. Raises UserError for anything else."""
    found = _SPELLING.fullmatch(text.strip())
    if found is None:
        raise UserError(
            f"a picture is CAMERA=VIEW or CAMERA=VIEW:WIDTHxHEIGHT, for example front=table or wrist=frame:112x84; "
            f"views are {' and '.join(VIEWS)}; got '{text}'"
        )
    camera, view, width, height = found.groups()
    view = view or ("frame" if camera == "wrist" else "table")
    if width is None:
        high, wide = TABLE_SIZE if view == "table" else FRAME_SIZE
    else:
        high, wide = int(height), int(width)
    return PictureInput(camera, high, wide, view)  # type: ignore[arg-type]  # it refuses other views
