"""A robot: one TOML file and one URDF.

The URDF holds what a URDF can say (frames, limits, inertias, shapes); the TOML holds the rest (servos, gate
limits, poses, rates, cameras). `Robot.load("so101")` finds the robots that ship with the package,
`Robot.load("my_arm.toml")` a user's own.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError, nearest
from sim2real.robot_keys import checked, default
from sim2real.urdf_file import Mimic

if TYPE_CHECKING:
    from sim2real.camera import CameraModel
    from sim2real.urdf import ArmModel

Array = NDArray[np.float64]


_TORQUE_REGISTERS = {"feetech": ("max_torque_limit", 1000), "dynamixel": ("pwm_limit", 885)}
"""By protocol the register that limits the duty, and its value at full duty."""


POSE_TOLERANCE = 1e-3
"""rad or m that a pose may lie outside the limits: files round them."""
LONGEST_STOP = 2.0
"""s within which every joint must be able to stop: an emergency stop can be no quicker than its limits, and the gate
looks ahead, in every tick, to where all joints stand still."""


@dataclass(frozen=True)
class Joint:
    """One driven joint. `velocity` rad/s, `acceleration` rad/s², `jerk` rad/s³ (m/s and so on where it slides) are the
    gate's limits; `model` is the servo's name in its family ('': the family's usual one)."""

    name: str
    servo_id: int
    velocity: float
    acceleration: float
    jerk: float
    model: str = ""

    def __post_init__(self) -> None:
        for name in ("velocity", "acceleration", "jerk"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"joint {self.name}: {name} must be positive, got {getattr(self, name)}")
        stop = self.velocity / self.acceleration + 2 * self.acceleration / self.jerk
        if stop > LONGEST_STOP:
            raise ValueError(
                f"joint {self.name} would take {stop:.3g} s to stop from its top speed (velocity / acceleration + "
                f"2 acceleration / jerk), allowed are {LONGEST_STOP:g} s: lower its velocity or raise the others"
            )


@dataclass(frozen=True)
class GateSettings:
    """What the gate guards besides the joints' own limits. Lengths in m, angles in rad."""

    position_margin: float = default("gate", "position_margin")
    discontinuity: float = default("gate", "discontinuity")
    table_clearance: float = default("gate", "table_clearance")
    reach: float = default("gate", "reach")
    box: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    """Two corners in the base frame that the tool frame stays between."""
    self_clearance: float = default("gate", "self_clearance")
    torque: float | Mapping[str, float] = default("gate", "torque")
    """N·m that a motion may need: of every joint, or by joint (others: no limit)."""
    payload: float = default("gate", "payload")
    """kg at the tool frame that the torques allow for."""

    def __post_init__(self) -> None:
        for name in ("position_margin", "table_clearance", "self_clearance", "payload"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"[gate] {name} must be a number from 0 on, got {value!r}")
        torques = self.torque.values() if isinstance(self.torque, Mapping) else (self.torque,)
        for name, values in (
            ("discontinuity", [self.discontinuity]),
            ("reach", [self.reach]),
            ("torque", torques),
        ):
            if not all(isinstance(value, int | float) and value > 0 for value in values):
                raise ValueError(f"[gate] {name} must be positive, got {getattr(self, name)!r}")
        if self.box is not None:
            corners = np.array(self.box, dtype=np.float64)
            if corners.shape != (2, 3) or not (corners[0] < corners[1]).all():
                raise ValueError(
                    "[gate] box needs two corners [[x, y, z], [x, y, z]] in m, each coordinate of the first less "
                    f"than that of the second, got {self.box!r}"
                )


@dataclass(frozen=True, repr=False)
class Robot:
    """See the module docstring. Joint vectors have the order of `joints`; n is their number."""

    name: str
    urdf: Path
    joints: tuple[Joint, ...]
    tool_link: str
    gripper: int | None
    home: Array
    rest: Array
    policy_rate: int
    command_rate: int
    physics_rate: int
    gate: GateSettings = field(default_factory=GateSettings)
    protocol: str = "feetech"
    baud: int = 1_000_000
    servo: Mapping[str, Any] = field(default_factory=dict)
    """Nominal servo parameters that differ from `servo.SERVO_FIELDS`: a number, or a table by joint."""
    servo_settings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Registers to write before use: table "all", and one per joint that differs."""
    camera_tables: Mapping[str, Any] = field(default_factory=dict)
    mimic: Mapping[str, Mimic] = field(default_factory=dict)
    """By joint of the URDF that is not one of `joints`: what it follows."""
    locked: Mapping[str, float] = field(default_factory=dict)
    """By joint of the URDF that nothing drives: where it stays, rad or m; all others stay at zero."""
    monitors: Mapping[str, Any] = field(default_factory=dict)
    """Thresholds of the runtime's monitors that differ from those of the servos: a number, or a table by joint."""
    source: str = field(default="", compare=False)
    """What `load` found it by, a name or a file; other processes find it so."""

    @classmethod
    def load(cls, name_or_path: "str | Path | Robot") -> "Robot":
        """Load by name or from a TOML file. Raises UserError that says which robots there are."""
        if isinstance(name_or_path, Robot):
            return name_or_path
        path = Path(name_or_path)
        if path.suffix.lower() != ".toml":
            path = Path(str(resources.files("sim2real"))) / "robots" / f"{name_or_path}.toml"
            if not path.exists():
                raise UserError(
                    f"there is no robot called '{name_or_path}'; known are {', '.join(robot_names())}"
                    f"{nearest(str(name_or_path), robot_names()) or ';'} "
                    "for your own arm give the path of its .toml file"
                )
        if not path.exists():
            raise UserError(f"robot file {path} does not exist")
        if path.is_dir():
            raise UserError(f"robot file {path} is a folder; name the .toml in it")
        try:
            table = tomllib.loads(path.read_text())
        except OSError as error:
            raise UserError(f"robot file {path} cannot be read: {error.strerror or error}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"robot file {path} is not valid TOML: {error}") from None
        try:
            checked(table)
            robot = replace(cls._from_table(table, path), source=str(name_or_path))
            robot._check_poses()
            return robot
        except (TypeError, ValueError) as error:
            raise UserError(f"robot file {path}: {error}") from None

    @classmethod
    def _from_table(cls, table: Mapping[str, Any], path: Path) -> "Robot":
        joints = tuple(Joint(**entry) for entry in table["joints"])
        names = [joint.name for joint in joints]
        gripper_name = table.get("gripper")
        if gripper_name is not None and gripper_name not in names:
            raise ValueError(
                f"gripper '{gripper_name}' is not one of the joints {names}{nearest(gripper_name, names)}"
            )
        for what, values in (("names", names), ("servo IDs", [joint.servo_id for joint in joints])):
            if len(set(values)) != len(values):
                raise ValueError(f"joint {what} must differ, got {values}")
        rates = table["rates"]
        protocol = table.get("protocol", "feetech")
        if protocol not in _TORQUE_REGISTERS:
            raise ValueError(
                f"there is no protocol '{protocol}'; known are {', '.join(_TORQUE_REGISTERS)}"
                + nearest(protocol, _TORQUE_REGISTERS)
            )
        for rate in ("policy", "command"):
            if rates["physics"] % rates[rate]:
                raise ValueError(
                    f"the physics rate must be a multiple of the {rate} rate, "
                    f"got {rates['physics']} and {rates[rate]} Hz"
                )
        gate = GateSettings(**table.get("gate", {}))
        if isinstance(gate.torque, Mapping) and (unknown := sorted(set(gate.torque) - set(names))):
            raise ValueError(
                f"[gate] torque names '{unknown[0]}', which is not one of the joints {names}"
                + nearest(unknown[0], names)
            )
        return cls(
            name=table["name"],
            urdf=_find_urdf(table["urdf"], path.parent),
            joints=joints,
            tool_link=table["tool_link"],
            gripper=None if gripper_name is None else names.index(gripper_name),
            home=_pose(table["poses"]["home"], "home", len(joints)),
            rest=_pose(table["poses"]["rest"], "rest", len(joints)),
            policy_rate=int(rates["policy"]),
            command_rate=int(rates["command"]),
            physics_rate=int(rates["physics"]),
            gate=gate,
            protocol=protocol,
            baud=int(table.get("baud", 1_000_000)),
            servo=table.get("servo", {}),
            servo_settings=table.get("servo_settings", {}),
            camera_tables=table.get("cameras", {}),
            mimic={name: _mimic(name, entry) for name, entry in table.get("mimic", {}).items()},
            locked={name: _locked(name, entry) for name, entry in table.get("locked", {}).items()},
            monitors=table.get("monitors", {}),
        )

    def _check_poses(self) -> None:
        """Raises ValueError for a pose that the joints cannot have: degrees, above all."""
        for name, pose in (("home", self.home), ("rest", self.rest)):
            outside = (pose < self.lower - POSE_TOLERANCE) | (pose > self.upper + POSE_TOLERANCE)
            if not outside.any():
                continue
            i = int(np.argmax(outside))
            text = (
                f"pose '{name}': joint {self.joint_names[i]} at {pose[i]:g} {self.units[i]} is outside its limits "
                f"{self.lower[i]:.4g} … {self.upper[i]:.4g}"
            )
            turned = np.where(self.model.sliding, pose, np.radians(pose))
            if ((turned >= self.lower - 0.1) & (turned <= self.upper + 0.1)).all() and np.abs(
                pose
            ).max() > 2 * np.pi:
                listed = ", ".join(f"{angle:.4g}" for angle in turned)
                raise ValueError(f"{text}. Is the pose in degrees? In rad it would be [{listed}]")
            raise ValueError(text)

    def __repr__(self) -> str:
        rates = f"{self.policy_rate}/{self.command_rate}/{self.physics_rate} Hz"
        return f"Robot({self.name}: {', '.join(self.joint_names)}; {self.protocol}, {rates})"

    @property
    def n(self) -> int:
        """Number of joints."""
        return len(self.joints)

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    @cached_property
    def arm(self) -> NDArray[np.intp]:
        """Indices of the arm's joints, without the gripper."""
        return np.array([i for i in range(self.n) if i != self.gripper], dtype=np.intp)

    @property
    def units(self) -> tuple[str, ...]:
        """(n) unit of each joint's position: "rad", or "m" where it slides."""
        return tuple("m" if slides else "rad" for slides in self.model.sliding)

    @property
    def torque_limits(self) -> Array:
        """(n,) N·m, what a motion may need of each joint; infinite without a limit."""
        torque = self.gate.torque
        if not isinstance(torque, Mapping):
            return np.full(self.n, float(torque))
        return np.array([float(torque.get(name, np.inf)) for name in self.joint_names])

    @cached_property
    def model(self) -> "ArmModel":
        """The arm's tree of links as arrays."""
        from sim2real.urdf import ArmModel

        return ArmModel.from_urdf(
            self.urdf, self.joint_names, self.tool_link, mimic=self.mimic, locked=self.locked
        )

    @cached_property
    def lower(self) -> Array:
        """(n,) rad (m where a joint slides), the URDF's lower limits."""
        return np.asarray(self.model.lower, dtype=np.float64)

    @cached_property
    def upper(self) -> Array:
        """(n,) rad (m where a joint slides), the URDF's upper limits."""
        return np.asarray(self.model.upper, dtype=np.float64)

    @cached_property
    def cameras(self) -> "dict[str, CameraModel]":
        """The nominal cameras around this robot, by name."""
        from sim2real.camera import CameraModel

        return {name: CameraModel.from_table(table, name) for name, table in self.camera_tables.items()}

    @cached_property
    def torque_limit(self) -> Array:
        """(n,) share of full torque that the servos' registers allow, as they are set before the arm is used."""
        register, full = _TORQUE_REGISTERS.get(self.protocol, ("max_torque_limit", 1000))
        common = self.servo_settings.get("all", {}).get(register, full)
        given = [self.servo_settings.get(name, {}).get(register, common) for name in self.joint_names]
        return np.clip(np.array(given, dtype=np.float64) / full, 0.0, 1.0)

    def limits(self, what: str) -> Array:
        """(n,) array of a joint attribute: "velocity", "acceleration" or "jerk"."""
        return np.array([getattr(joint, what) for joint in self.joints], dtype=np.float64)


def robot_names() -> list[str]:
    """The robots that ship with the package."""
    folder = Path(str(resources.files("sim2real"))) / "robots"
    return sorted(path.stem for path in folder.glob("*.toml"))


def _pose(values: Sequence[float], name: str, n: int) -> Array:
    pose = np.asarray(values, dtype=np.float64)
    if pose.shape != (n,) or not np.isfinite(pose).all():
        raise ValueError(f"pose '{name}' needs {n} finite angles, got {list(values)}")
    pose.setflags(write=False)
    return pose


def _mimic(name: str, entry: Any) -> Mimic:
    """What a joint follows: the other's name, or a table of `joint`, `multiplier` and `offset`."""
    if isinstance(entry, str):
        return Mimic(entry)
    known = ("joint", "multiplier", "offset")
    if not isinstance(entry, dict) or "joint" not in entry:
        raise ValueError(
            f"[mimic] {name} must be the name of a joint, or a table of {', '.join(known)}; got {entry!r}"
        )
    if unknown := [key for key in entry if key not in known]:
        raise ValueError(
            f"[mimic] {name}: there is no key '{unknown[0]}'; known are {', '.join(known)}"
            + nearest(unknown[0], known)
        )
    for key in ("multiplier", "offset"):
        if not isinstance(entry.get(key, 0.0), int | float) or isinstance(entry.get(key), bool):
            raise ValueError(f"[mimic] {name}: {key} must be a number, got {entry[key]!r}")
    return Mimic(**entry)


def _locked(name: str, entry: Any) -> float:
    if not isinstance(entry, int | float) or isinstance(entry, bool) or not np.isfinite(entry):
        raise ValueError(f"[locked] {name} must be a finite number (rad or m), got {entry!r}")
    return float(entry)


def _find_urdf(name: str, folder: Path) -> Path:
    """A path relative to the TOML, or `pybullet_data:relative/path` for a model that PyBullet ships."""
    if name.startswith("pybullet_data:"):
        # Found without importing pybullet, which takes longer than everything else here.
        from importlib.util import find_spec

        spec = find_spec("pybullet_data")
        if spec is None or spec.origin is None:
            raise ValueError(f"{name} needs the package pybullet")
        path = Path(spec.origin).parent / name.removeprefix("pybullet_data:")
    else:
        path = folder / name
    if not path.exists():
        raise ValueError(f"the URDF {path} does not exist")
    return path
