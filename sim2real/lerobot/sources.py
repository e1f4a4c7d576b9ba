"""Which camera took which pictures: compared when a data set is continued."""

from collections.abc import Mapping
from pathlib import Path

from sim2real.errors import UserError

NOTE = "camera_sources"
"""Key in the notes of a data set: the identity of each camera's source by the camera's name."""


def compare_sources(root: Path, recorded: object, now: Mapping[str, str]) -> list[str]:
    """What is worth a warning when cameras `now` continue a set that was recorded with others.

    Raises UserError when a camera now has the name that another one had: what a policy learned to expect from one
    place would then be shown from another.
    """
    if not isinstance(recorded, Mapping):
        return []
    owners = {str(source): str(name) for name, source in recorded.items()}
    warnings = []
    for name, source in now.items():
        before = recorded.get(name)
        if before is None or before == source:
            continue
        owner = owners.get(source)
        if owner is not None and owner != name:
            raise UserError(
                f"{root} was recorded with {source} as camera '{owner}', now it is '{name}' (which was {before}): the "
                "cameras are swapped; give them the names they had, or another folder"
            )
        warnings.append(f"camera '{name}' was {before} in the episodes of {root} so far, now it is {source}")
    return warnings
