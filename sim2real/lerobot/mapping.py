"""Other people's names for what a data set holds: an explicit mapping to ours.

`theirs=ours`, where theirs is a feature (`observation.qpos=observation.state`), the name of a component of one
(`elbow=elbow_flex`, `cube_x=object.cube.position.x`), or a camera (`observation.images.phone=front`, `phone=front`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sim2real.errors import UserError, nearest
from sim2real.lerobot import schema
from sim2real.lerobot.schema import FeatureSpec


@dataclass(frozen=True)
class Mapped:
    """Features under our names; `columns` the stored names of those that were renamed, `cameras` the features of
    renamed cameras, `remarks` what was renamed, in words."""

    features: dict[str, FeatureSpec]
    columns: Mapping[str, str]
    cameras: Mapping[str, str]
    remarks: tuple[str, ...]


def parse_names(pairs: Sequence[str]) -> dict[str, str]:
    """Names by names out of `theirs=ours`. Raises UserError for anything else, and for names that are given twice."""
    names: dict[str, str] = {}
    for pair in pairs:
        theirs, equals, ours = pair.partition("=")
        if not (theirs and equals and ours) or "=" in ours:
            raise UserError(f"a mapping is THEIRS=OURS, such as elbow=elbow_flex; got '{pair}'")
        if theirs in names or ours in names.values():
            raise UserError(f"the mapping '{pair}' names what another one has named already")
        names[theirs] = ours
    return names


def mapped(features: Mapping[str, FeatureSpec], names: Mapping[str, str], where: str) -> Mapped:
    """The features of the data set `where` with these names mapped. Raises UserError for a name that it does not have,
    and for one that it would then have twice."""
    made = dict(features)
    columns: dict[str, str] = {}
    cameras: dict[str, str] = {}
    remarks = []
    components = {name for spec in features.values() for name in spec.names or ()}
    for theirs, ours in names.items():
        camera = next(
            (f for f in (theirs, schema.IMAGES + theirs) if f in features and features[f].visual), None
        )
        if camera is not None:
            cameras[ours.removeprefix(schema.IMAGES)] = camera
        elif theirs in features:
            if ours in features:
                raise UserError(f"{where} has {ours} itself; '{theirs}' cannot be called that, too")
            made[ours] = made.pop(theirs)
            columns[ours] = theirs
        elif theirs in components:
            _rename(made, theirs, ours, where)
        else:
            known = [*(name for name in features if name not in schema.MANDATORY), *sorted(components)]
            raise UserError(
                f"{where} has no '{theirs}'{nearest(theirs, known) or ';'} it has {', '.join(known)}"
            )
        remarks.append(f"mapped: {theirs} is read as {ours}")
    return Mapped(made, columns, cameras, tuple(remarks))


def _rename(features: dict[str, FeatureSpec], theirs: str, ours: str, where: str) -> None:
    for key, spec in features.items():
        if spec.names is None or theirs not in spec.names:
            continue
        if ours in spec.names:
            raise UserError(f"{key} of {where} has {ours} itself; '{theirs}' cannot be called that, too")
        features[key] = replace(spec, names=tuple(ours if name == theirs else name for name in spec.names))
