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

    _check_algorithm(given, suite=suite is not None, states_of_one_task=suite is None and observe == "state")
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


_CLONING = (
    "expert", "episodes", "rounds", "epochs", "batches", "batch_size", "learning_rate", "noise", "labels",
)  # fmt: skip


def _check_algorithm(given: Mapping[str, Any], *, suite: bool, states_of_one_task: bool) -> None:
    """Raise UserError for settings of an algorithm that is not used, and for practice of what cannot be practised."""
    from pipelines.learning.algorithm import stages

    name = given.get("algorithm") or "cloning"
    cloning, practised = stages(name)
    said = [key for key in _CLONING if not cloning and given.get(key) is not None]
    if said:
        flags = ", ".join("--" + key.replace("_", "-") for key in said)
        raise UserError(
            f"{flags}: only cloning has this; --algorithm {name} practises --practice episodes (or clones first: "
            f"--algorithm cloning+{name})"
        )
    if not practised and given.get("practice") is not None:
        raise UserError("--practice: cloning does not practise; add --algorithm cloning+ppo, or ppo alone")
    if (given.get("history") or 1) > 1 and suite:
        raise UserError("--history: policies for a suite observe one moment; leave it out")
    if given.get("latency") and (practised or not states_of_one_task):
        raise UserError(
            "--latency: conditioning on committed actions is learned by cloning policies of states on one task; leave "
            "--latency out, or --algorithm, --suite and --observe"
        )
    if practised and not states_of_one_task:
        raise UserError(
            f"--algorithm {name}: what practises observes the objects' places, in one task; leave --suite and "
            "--observe out, or clone"
        )
