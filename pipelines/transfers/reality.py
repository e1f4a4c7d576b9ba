"""Realities: arms that are not the simulation, each a frozen set of parameters under a name.

A reality is a TOML file:

    description = "what is different about it"
    engine = "mujoco"                         # or "bullet"
    pictures = "raster"                       # or "tiny": which of the project's renderers draws for the camera
    latency = 0.05                            # s from a picture's exposure until its percept is known

    [parameters]                              # names and wildcards, as in a space file
    "servo.*.command_delay" = 0.055           # sets
    "servo.*.coulomb" = { scale = 1.8 }       # multiplies the nominal value
    "servo.*.offset" = { add = [0.03, -0.04] }  # adds; joint i takes number i, in a circle

    [camera]                                  # optional: where the camera stands, as its user has calibrated it
    position = [0.55, -0.35, 0.42]            # m, base frame
    target = [0.22, 0.0, 0.0]
    width = 320
    height = 240
    fov = 0.85                                # rad, vertical
    fps = 20

What `camera.*` parameters say comes on top: the user's calibration does not know of it. Those that ship with the
package are at the edge of the default training ranges or outside. Nothing that trains imports this module.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from hardware.emulator.deviations import Change, changed
from hardware.emulator.view import PICTURES
from sim2real.camera import CameraModel
from sim2real.errors import UserError, nearest
from sim2real.files import file_hash
from sim2real.parameters import Parameter
from sim2real.robot import Robot
from sim2real.task import Task

ENGINES: Final = ("bullet", "mujoco")
MODES: Final = ("set", "scale", "add")
CAMERA: Final = "front"
"""The camera that looks for the objects."""
KEYS: Final = ("description", "engine", "pictures", "latency", "parameters", "camera")
CAMERA_KEYS: Final = ("position", "target", "width", "height", "fov", "fps")
OPTIONAL_THINGS: Final = ("object.", "gripper.", "task.", "colour.", "servo.gripper.")
"""Beginnings of names of what not every task and arm has: such an entry may match nothing."""


@dataclass(frozen=True)
class Reality:
    """One arm with its camera and its light; see the module docstring. `camera` None: where the robot's file has it."""

    name: str
    description: str
    engine: Literal["bullet", "mujoco"]
    changes: Mapping[str, Change]
    pictures: Literal["raster", "tiny"] = "raster"
    latency: float = 0.06
    camera: CameraModel | None = None
    fps: float = 30.0
    sha256: str = field(default="", compare=False)
    """Hash of the file that it comes from."""

    def values(self, parameters: Mapping[str, Parameter]) -> dict[str, float]:
        """Absolute values by name, of what differs from nominal. Raises UserError for names that match nothing."""
        for pattern in self.changes:
            if not any(fnmatchcase(name, pattern) for name in parameters) and not pattern.startswith(
                OPTIONAL_THINGS
            ):
                raise UserError(
                    f"reality '{self.name}': no parameter is called '{pattern}'{nearest(pattern, parameters)}"
                )
        return changed(self.changes, parameters)

    def robot(self, robot: Robot) -> Robot:
        """The robot with this reality's camera, as its user knows it."""
        if self.camera is None:
            return robot
        return replace(robot, camera_tables={**robot.camera_tables, CAMERA: self.camera.table()})

    @property
    def about(self) -> dict[str, str]:
        """What a table says of it."""
        return {"engine": self.engine, "description": self.description, "pictures": self.pictures}

    @property
    def identity(self) -> dict[str, str]:
        """What decides its results."""
        return {"name": self.name, "sha256": self.sha256}


def parameters_of(robot: Robot, task: Task) -> dict[str, Parameter]:
    """Everything that a reality may set for this arm and task, by name."""
    from sim2real.simulation.parameters import world_parameters

    return world_parameters(robot, task.objects) | task.parameters(robot)


def reality_names() -> list[str]:
    """The realities that ship with the package."""
    return sorted(
        path.name.removesuffix(".toml") for path in _folder().iterdir() if path.name.endswith(".toml")
    )


def load_reality(name: str) -> Reality:
    """By name, or from a TOML file of one's own. Raises UserError that says which there are."""
    if name.endswith(".toml"):
        return read_reality(Path(name))
    if name not in reality_names():
        raise UserError(
            f"there is no reality '{name}'{nearest(name, reality_names())}; there are "
            f"{', '.join(reality_names())}, or give the path of a .toml file"
        )
    with resources.as_file(_folder() / f"{name}.toml") as path:
        return read_reality(path)


def load_realities(text: str) -> tuple[Reality, ...]:
    """Those that a comma-separated list names, or all. Raises UserError for one named twice."""
    names = reality_names() if text == "all" else [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise UserError(f"--realities needs names or 'all'; there are {', '.join(reality_names())}")
    found = tuple(load_reality(name) for name in names)
    labels = [reality.name for reality in found]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UserError(f"--realities names '{twice[0]}' twice")
    return found


def read_reality(path: Path) -> Reality:
    """The reality in a TOML file. Raises UserError naming the key that is wrong."""
    where = f"reality {path}"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{where}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{where} cannot be read as TOML: {error}") from None
    _known(raw, KEYS, where)
    camera = raw.get("camera")
    try:
        return Reality(
            name=path.stem,
            description=str(raw.get("description", "")),
            engine=_choice(raw.get("engine", "bullet"), ENGINES, f"{where}: engine"),  # type: ignore[arg-type]
            changes={
                name: _change(value, f"{where}: {name}") for name, value in raw.get("parameters", {}).items()
            },
            pictures=_choice(raw.get("pictures", "raster"), PICTURES, f"{where}: pictures"),  # type: ignore[arg-type]
            latency=_number(raw.get("latency", 0.06), f"{where}: latency", 0.0, 1.0),
            camera=None if camera is None else _camera(camera, f"{where}: [camera]"),
            fps=_number((camera or {}).get("fps", 30.0), f"{where}: fps", 1.0, 120.0),
            sha256=file_hash(path),
        )
    except AttributeError:
        raise UserError(f"{where}: [parameters] and [camera] are tables") from None


def _folder() -> Any:
    return resources.files("pipelines.transfers") / "realities"


def _known(table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            raise UserError(f"{where}: unknown key '{key}'{nearest(key, keys)}; known are {', '.join(keys)}")


def _choice(value: object, allowed: tuple[str, ...], where: str) -> str:
    if value not in allowed:
        raise UserError(
            f"{where} must be {' or '.join(allowed)}, got {value!r}{nearest(str(value), allowed)}"
        )
    return str(value)


def _number(value: object, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where} must be a finite number, got {value!r}")
    if not low <= value <= high:
        raise UserError(f"{where} must be {low:g} … {high:g}, got {value:g}")
    return float(value)


def _change(value: object, where: str) -> Change:
    mode, amounts = "set", value
    if isinstance(value, Mapping):
        if len(value) != 1:
            raise UserError(f"{where} takes one of {', '.join(MODES)}, got {value!r}")
        mode, amounts = next(iter(value.items()))
        _choice(mode, MODES, where)
    many = list(amounts) if isinstance(amounts, list | tuple) else [amounts]
    if not many:
        raise UserError(f"{where} needs a number, or a list of numbers")
    return mode, tuple(_number(amount, where) for amount in many)  # type: ignore[return-value]


def _camera(table: Mapping[str, Any], where: str) -> CameraModel:
    _known(table, CAMERA_KEYS, where)
    for key in ("position", "target"):
        if not isinstance(table.get(key), list) or len(table[key]) != 3:
            raise UserError(f"{where}: {key} needs three numbers in m, got {table.get(key)!r}")
    return CameraModel.looking_at(
        [_number(x, f"{where}: position") for x in table["position"]],
        [_number(x, f"{where}: target") for x in table["target"]],
        width=int(_number(table.get("width", 640), f"{where}: width", 16, 4096)),
        height=int(_number(table.get("height", 480), f"{where}: height", 16, 4096)),
        fov=_number(table.get("fov", math.radians(50)), f"{where}: fov", 0.1, 2.5),
        name=CAMERA,
    )
