"""Which settings a pretraining has, by what its policy observes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pipelines.metaworld.suite import is_metaworld
from sim2real.errors import UserError

if TYPE_CHECKING:
    from pipelines.learning.pretrain import PretrainSettings

Observe = Literal["state", "pixels"]


def kind_of_settings(
    observe: str, given: Mapping[str, Any], *, suite: str | None = None
) -> "type[PretrainSettings]":
    """The class of the settings; `given` are the values by name, None where nothing was said.

    Raises UserError for settings that only policies of pixels, or of a suite, have.
    """
    from pipelines.learning.pixels import PIXELS_ONLY, PixelSettings
    from pipelines.learning.pretrain import PretrainSettings
    from pipelines.learning.suite import SUITE_ONLY, SuiteSettings

    if suite is not None and is_metaworld(suite):
        from pipelines.learning.metaworld import MetaworldSettings

        if said := [name for name in (*SUITE_ONLY, *PIXELS_ONLY) if given.get(name) is not None]:
            flags = ", ".join("--" + name for name in said)
            raise UserError(f"{flags}: policies for {suite} do not have this; leave it out")
        if observe != "state":
            raise UserError(f"a policy for {suite} observes states; leave --observe out")
        return MetaworldSettings
    if suite is not None:
        if observe != "state":
            raise UserError("a policy for a suite observes the objects' places; leave --observe out")
        return SuiteSettings
    if said := [name for name in SUITE_ONLY if given.get(name) is not None]:
        flags = ", ".join("--" + name for name in said)
        raise UserError(f"{flags}: only policies for a suite have this; add --suite table (suite='table')")
    if observe == "pixels":
        return PixelSettings
    if observe != "state":
        raise UserError(f"a policy observes 'state' or 'pixels', got '{observe}'")
    if said := [name for name in PIXELS_ONLY if given.get(name) is not None]:
        names = {"pictures": "picture", "backgrounds": "background"}
        flags = ", ".join("--" + names.get(name, name) for name in said)
        raise UserError(f"{flags}: only policies that see have this; add --observe pixels (observe='pixels')")
    return PretrainSettings
