"""Letting a robot take part: its certificate, its folder, its row in the registry."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from hardware.fleet.certificates import HUB, Authority
from hardware.fleet.signing import Signer, Verifier
from pipelines.fleet.registry.names import check_name
from pipelines.fleet.registry.records import RobotRecord
from pipelines.fleet.registry.registry import Registry
from sim2real.errors import UserError


def enroll(
    registry: Registry,
    name: str,
    *,
    by: str,
    site: str = "",
    days: float,
    out: str | Path | None = None,
    strata: Mapping[str, str] | None = None,
    publisher: str | Path | None = None,
) -> tuple[RobotRecord, Path]:
    """The robot, and the folder to carry to it. Raises UserError for a bad name or a folder that is not empty."""
    check_name(name, "a robot")
    if name == HUB:
        raise UserError(f"no robot can be called '{HUB}': the hub is")
    if publisher is None:
        public = Signer.at(registry.publisher_key, create=True).public
    else:
        try:
            public = Path(publisher).read_text()
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {publisher}: {error}") from None
        Verifier(public, str(publisher))
    folder = registry.store / "enrolled" / name if out is None else Path(out)
    if out is None and folder.exists():
        # The store's own copy of a certificate that the registry refuses from now on.
        shutil.rmtree(folder)
    mark = Authority(registry.store / "ca", create=True).issue_to(folder, name, public, days)
    return registry.enroll(name, by=by, site=site, fingerprint=mark, strata=strata), folder
