"""Which settings a pretraining has, by what its policy observes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from sim2real.errors import UserError

if TYPE_CHECKING:
    from pipelines.learning.pretrain import PretrainSettings

Observe = Literal["state", "pixels"]


def kind_of_settings(observe: str, given: Mapping[str, Any]) -> "type[PretrainSettings]":
    """The class of the settings; `given` are the values by name, None where nothing was said.

    Raises UserError for settings that only policies of pixels have.
    """
    from pipelines.learning.pixels import PIXELS_ONLY, PixelSettings
    from pipelines.learning.pretrain import PretrainSettings

    if observe == "pixels":
        return PixelSettings
    if observe != "state":
        raise UserError(f"a policy observes 'state' or 'pixels', got '{observe}'")
    if said := [name for name in PIXELS_ONLY if given.get(name) is not None]:
        names = {"pictures": "picture", "backgrounds": "background"}
        flags = ", ".join("--" + names.get(name, name) for name in said)
        raise UserError(f"{flags}: only policies that see have this; add --observe pixels (observe='pixels')")
    return PretrainSettings
