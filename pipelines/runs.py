"""The run directory: one definition for every command that writes `--out`.

    config.json     what the run is: command, arguments, resolved settings, seed, versions, `identity`
    …               its data, results and `report.html`

`identity` is what decides the results, by content (hashes of robot, policy, data, …). The same command with the same
identity goes on in the directory; anything else is refused, and nothing that another run left is ever removed.
"""

import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim2real import __version__
from sim2real.errors import UserError
from sim2real.files import read_json, write_json
from sim2real.identity import differences

if TYPE_CHECKING:
    from sim2real.policies.file import FilePolicy

CONFIG = "config.json"

PACKAGES = ("numpy", "scipy", "numba", "pybullet", "pyarrow", "onnxruntime", "torch", "lightning", "onnx")
"""Whose versions may change what a run gives; noted in config.json."""

COMMANDS = (
    "sweep",
    "benchmark",
    "ranges",
    "pretrain",
    "finetune",
    "identify",
    "record",
    "excite",
    "deploy",
    "play",
    "cost",
    "federate serve",
    "federate simulate",
    "fleet simulate",
    "ros2 bridge",
    "transfer",
)
"""Who makes run directories. (Early ones did not note their versions.)"""

EARLIER = "earlier"
"""Where the logs of earlier sessions lie in a directory that several add to."""

HIDDEN = ".lock"
"""Files of a directory that say nothing about whose it is."""


def described(
    command: str,
    *,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    identity: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a run's config.json says: command, arguments, resolved settings, identity, seed, versions, time."""
    versions = {"sim2real": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    config: dict[str, Any] = {
        "command": command,
        "arguments": sys.argv[1:],
        "versions": versions,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    if seed is not None:
        config["seed"] = seed
    if settings is not None:
        config["settings"] = dict(settings)
    if identity is not None:
        config["identity"] = dict(identity)
    return config


def provenance(config: Mapping[str, Any], parent: "FilePolicy | None" = None) -> dict[str, Any]:
    """What a policy file says of the run `config` that made it, and of the policy that this began with."""
    found = {key: config[key] for key in ("command", "settings", "versions", "created")}
    if parent is not None:
        found["parent"] = {"sha256": parent.sha256, "provenance": dict(parent.info.provenance)}
    return found


def claim(out: str | Path, config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Make `out` the directory of this run, or find that it is already; returns the earlier config.json then.

    Raises UserError, and changes nothing, when it holds another run (naming what differs) or anything else.
    """
    out = Path(out)
    path = out / CONFIG
    if path.exists():
        there = read_json(path)
        if there.get("command") != config["command"]:
            raise UserError(
                f"--out {out} holds a run of '{there.get('command')}', which this would overwrite; choose another --out"
            )
        found = list(differences(_decisive(there), _decisive(config)))
        if found:
            shown = "; ".join(found[:4]) + ("; …" if len(found) > 4 else "")
            raise UserError(
                f"--out {out} holds another run of '{config['command']}' ({shown}); choose another --out, or run "
                "it with the same settings to go on"
            )
        return there
    refuse_foreign(out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, config)
    return None


def refuse_foreign(out: Path) -> None:
    """Raise UserError when a directory without config.json holds anything: it is not ours."""
    if out.is_dir() and (names := sorted(set(os.listdir(out)) - {HIDDEN})):
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise UserError(f"--out {out} is not empty and holds no run ({shown}); choose another --out")


def require_own(out: str | Path, commands: Collection[str], names: Iterable[str]) -> None:
    """Raise UserError where writing the files `names` into `out` would replace what no run of `commands` has left.

    A run is known by its config.json, which says which command made it.
    """
    out = Path(out)
    taken = [name for name in names if os.path.lexists(out / name)]
    if not taken:
        return
    command, ours = None, False
    try:
        config = json.loads((out / "config.json").read_text(encoding="utf-8"))
        command = config.get("command")
        ours = command in COMMANDS or "sim2real" in config.get("versions", ())
    except (OSError, ValueError, AttributeError, TypeError):
        pass
    if not ours:
        raise UserError(
            f"--out {out} holds {taken[0]}, and no config.json says that a run of sim2real made it: it is not "
            "overwritten; choose another --out"
        )
    if command not in commands:
        raise UserError(
            f"--out {out} holds a run of '{command}', which this would overwrite; choose another --out"
        )


def require_unused(out: str | Path, results: Iterable[str]) -> None:
    """Raise UserError where an earlier run has left one of its `results` in `out`: they are not overwritten."""
    out = Path(out)
    found = [name for name in results if os.path.lexists(out / name)]
    if not found:
        return
    config = read_json(out / CONFIG) if (out / CONFIG).exists() else {}
    when = f" of {config['created']}" if "created" in config else ""
    raise UserError(
        f"--out {out} holds the results of an earlier run{when} ({', '.join(found)}), which are not overwritten; "
        "choose another --out"
    )


def set_aside(out: str | Path, names: Iterable[str]) -> None:
    """Move the files `names` of an earlier run that this one goes on with into a folder of their own,
    `earlier/1` and so on."""
    out = Path(out)
    found = [name for name in names if os.path.lexists(out / name)]
    if not found:
        return
    number = 1
    while (out / EARLIER / str(number)).exists():
        number += 1
    folder = out / EARLIER / str(number)
    folder.mkdir(parents=True)
    for name in found:
        (out / name).rename(folder / name)


def unused(out: str) -> str:
    """`out`, or the first of `out`_2, `out`_3 … that does not exist."""
    name, number = out, 1
    while os.path.lexists(name):
        number += 1
        name = f"{out}_{number}"
    return name


def _decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for a run to go on, as it comes back from JSON."""
    kept = (
        config["identity"] if "identity" in config else {key: config.get(key) for key in ("seed", "settings")}
    )
    return dict(json.loads(json.dumps(kept, default=str)))
