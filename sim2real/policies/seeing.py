"""Pictures for policies that ask for them (`pictures`), where a camera takes them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sim2real.camera import CameraModel
from sim2real.errors import HardwareError
from sim2real.observation import Observation
from sim2real.pictures import PictureInput, PictureTaker, find_cameras, places_of

FIRST = 10.0
"""s within which a camera must have given its first picture."""


class Camera(Protocol):
    """A camera as far as a policy is shown it."""

    @property
    def camera(self) -> CameraModel:
        """The camera's image size and where it stands."""

    def latest(self) -> tuple[float, NDArray[np.uint8]] | None:
        """(time of capture, s, (H, W, 3) uint8 RGB) of the newest picture; None before the first. Never waits."""


def wanted_by(policy: Any) -> tuple[PictureInput, ...]:
    """The pictures that a policy asks for; most ask for none."""
    return tuple(getattr(policy, "pictures", ()))


def example_pictures(wanted: Sequence[PictureInput]) -> Observation:
    """Grey pictures, to try a policy with."""
    grey: Any = {picture.entry: np.full(picture.shape, 128, dtype=np.uint8) for picture in wanted}
    places = {p.place: np.array([0.4, 0.0, 0.4]) for p in wanted if p.place is not None}
    return grey | places  # type: ignore[no-any-return]  # the only entries that are not float64


class Sight:
    """Cuts what a policy sees out of the newest pictures of the cameras.

    Raises UserError, naming what is missing, where there is no such camera or it does not give such a picture.
    """

    def __init__(self, wanted: Sequence[PictureInput], cameras: Mapping[str, Camera]) -> None:
        models = {name: camera.camera for name, camera in cameras.items()}
        find_cameras(wanted, models, "the policy")
        self._places = places_of(wanted, models)
        self._cameras = cameras
        self._takers = [PictureTaker(picture, cameras[picture.camera].camera) for picture in wanted]
        self._last: dict[str, tuple[float, NDArray[np.uint8]]] = {}

    def entries(self) -> Observation:
        """The pictures as entries of an observation. Waits only for the first. Raises HardwareError when none comes."""
        for taker in self._takers:
            name = taker.wanted.camera
            end = time.monotonic() + FIRST
            while (newest := self._cameras[name].latest()) is None:
                if time.monotonic() > end:
                    raise HardwareError(
                        f"the camera '{name}', through which the policy sees, gives no picture"
                    )
                time.sleep(0.01)
            taken, image = newest
            # Policies are asked as often as cameras deliver, or oftener.
            if name not in self._last or self._last[name][0] != taken:
                self._last[name] = (taken, taker(image))
        seen: Any = {taker.wanted.entry: self._last[taker.wanted.camera][1] for taker in self._takers}
        return seen | self._places  # type: ignore[no-any-return]  # the only entries that are not float64
