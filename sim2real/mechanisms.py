"""Things on the table that move on a joint: what they are made of, and how the joint moves.

Drawer, slider, lever, knob, lid and button are a housing, fixed to the table, and one moving part. All but the button
have a handle that stands up from them, so that two fingertips that come from above can push it both ways; a button is
pressed from above. A joint's value is 0 where it is closed (off, up) and `travel` at its other end.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sim2real.primitives import Primitive

Array = NDArray[np.float64]
Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]

PLATE = 0.003
"""Thickness of walls, floors and lids, m."""
GRIP, GRIP_HEIGHT = 0.022, 0.028
"""Edge and height of a handle, m. It is square, with two faces across its way: a round one between two fingertips
jams where friction is high."""


@dataclass(frozen=True)
class Joint:
    """How the moving part of a mechanism moves, and what it is made of.

    `origin` (m) and `axis` (unit vector) are in the object's frame; a joint slides by m along the axis, or turns by rad
    about it, 0 … `travel`. `shapes` are the moving part's in the joint's frame: the object's, moved to `origin`, at
    value 0. `handle` (m, joint's frame) is where the hand acts, `width` m across, on what is `under` m high over the
    table. `friction` (N, N·m), `damping` (N·s/m, N·m·s), `stiffness` (N/m, N·m/rad) of a spring that pulls to 0 with
    `preload` (N, N·m) there, and `play` (m, rad), so far from 0 neither spring nor friction acts: nominal values.
    """

    form: Literal["slide", "turn"]
    axis: Vector
    origin: Vector
    travel: float
    shapes: tuple[Primitive, ...]
    handle: Vector
    width: float
    under: float
    friction: float
    damping: float
    stiffness: float = 0.0
    preload: float = 0.0
    play: float = 0.0

    @property
    def unit(self) -> str:
        """Of its value."""
        return "m" if self.form == "slide" else "rad"

    @property
    def pressed(self) -> bool:
        """Whether it is pressed from above; other handles are pushed along the table."""
        return self.axis[2] < -0.5

    def placed(self, value: float) -> tuple[Vector, Quaternion]:
        """Where the joint's frame is in the object's at this value, m or rad: origin and quaternion (x, y, z, w)."""
        if self.form == "slide":
            x, y, z = (o + value * a for o, a in zip(self.origin, self.axis))
            return (x, y, z), (0.0, 0.0, 0.0, 1.0)
        half = math.sin(value / 2)
        return self.origin, (*(half * a for a in self.axis), math.cos(value / 2))  # type: ignore[return-value]

    def handle_at(self, value: float) -> Array:
        """(3,) m, object's frame: where the handle is at this value."""
        if self.form == "slide":
            return np.add(np.add(self.origin, self.handle), value * np.array(self.axis))
        k, p = np.array(self.axis), np.array(self.handle)
        c, s = math.cos(value), math.sin(value)
        turned = p * c + np.cross(k, p) * s + k * (k @ p) * (1.0 - c)  # Rodrigues
        return np.asarray(turned + np.array(self.origin))

    def direction_at(self, value: float) -> tuple[Array, float]:
        """(3,) unit vector along which the handle moves as the value rises, object's frame; m of its way per unit."""
        if self.form == "slide":
            return np.array(self.axis), 1.0
        way = np.cross(self.axis, self.handle_at(value) - np.array(self.origin))
        length = float(np.linalg.norm(way))
        return way / length, length


def _grip(x: float, y: float, z: float, yaw: float = 0.0) -> Primitive:
    return Primitive("box", (GRIP, GRIP, GRIP_HEIGHT), (x, y, z + GRIP_HEIGHT / 2), yaw)


def drawer(size: tuple[float, ...]) -> tuple[tuple[Primitive, ...], Joint]:
    """A flat chest; its drawer has a thick front with the handle on top, and slides out along x."""
    length, width, height = size
    front, travel = 0.024, 0.6 * length
    back = -(length + front + travel) / 2
    middle, side = back + length / 2, (width - PLATE) / 2
    housing = (
        Primitive(
            "box", (PLATE, width - 2 * PLATE, height - PLATE), (back + PLATE / 2, 0, (height - PLATE) / 2)
        ),
        Primitive("box", (length, PLATE, height - PLATE), (middle, side, (height - PLATE) / 2)),
        Primitive("box", (length, PLATE, height - PLATE), (middle, -side, (height - PLATE) / 2)),
        Primitive("box", (length, width, PLATE), (middle, 0, height - PLATE / 2)),
    )
    floor = length - 2 * PLATE
    part = (
        Primitive("box", (front - 0.001, width, height - 0.002), (0, 0, height / 2 + 0.001)),
        Primitive("box", (floor, width - 4 * PLATE, PLATE), (-(front + floor) / 2, 0, 0.002 + PLATE / 2)),
        _grip(0, 0, height),
    )
    origin = (back + length + front / 2, 0.0, 0.0)
    return housing, Joint(
        "slide", (1, 0, 0), origin, travel, part, (0, 0, height), GRIP, height,
        friction=0.5, damping=2.0, play=0.001,
    )  # fmt: skip


def slider(size: tuple[float, ...]) -> tuple[tuple[Primitive, ...], Joint]:
    """A rail with a handle that slides along x."""
    length, width, height = size
    travel = length - 0.03
    housing = (Primitive("box", (length, width, height), (0, 0, height / 2)),)
    part = (_grip(0, 0, height + 5e-4),)
    return housing, Joint(
        "slide", (1, 0, 0), (-travel / 2, 0, 0), travel, part, (0, 0, height), GRIP, height,
        friction=0.5, damping=2.0, play=0.001,
    )  # fmt: skip


def lever(size: tuple[float, ...]) -> tuple[tuple[Primitive, ...], Joint]:
    """A bar that turns about a standing pivot, with the handle at its end; it swings 50° to either side of x."""
    radius, height = size
    bar, half = 0.008, math.radians(50)
    x, y = radius * math.cos(half), -radius * math.sin(half)
    part = (
        Primitive("box", (radius + 0.02, 0.014, bar), (x / 2, y / 2, height + bar / 2), -half),
        _grip(x, y, height + bar, -half),
    )
    housing = (Primitive("cylinder", (0.016, height - 5e-4), (-radius / 2, 0, height / 2)),)
    under = height + bar
    return housing, Joint(
        "turn", (0, 0, 1), (-radius / 2, 0, 0), 2 * half, part, (x, y, under), GRIP, under,
        friction=0.02, damping=0.003, play=0.02,
    )  # fmt: skip


def knob(size: tuple[float, ...]) -> tuple[tuple[Primitive, ...], Joint]:
    """A disc that turns by 120°, with the handle near its rim; it swings 60° to either side of x."""
    radius, height = size
    out, half, foot = 0.8 * radius, math.radians(60), 0.008
    x, y = out * math.cos(half), -out * math.sin(half)
    part = (
        Primitive("cylinder", (radius, height - foot), (0, 0, (height + foot) / 2)),
        _grip(x, y, height, -half),
    )
    housing = (Primitive("cylinder", (0.7 * radius, foot - 5e-4), (0, 0, foot / 2)),)
    return housing, Joint(
        "turn", (0, 0, 1), (0, 0, 0), 2 * half, part, (x, y, height), GRIP, height,
        friction=0.015, damping=0.002, play=0.02,
    )  # fmt: skip


def lid(size: tuple[float, ...]) -> tuple[tuple[Primitive, ...], Joint]:
    """A box whose lid is hinged at its back, with a crank beside it by which it is turned up and down."""
    length, width, height = size
    wall, tall, side = height - PLATE, 0.030, -0.02
    x, y = (length - PLATE) / 2, (width - PLATE) / 2
    housing = (
        Primitive("box", (length, width, PLATE), (0, side, PLATE / 2)),
        Primitive("box", (PLATE, width, wall), (x, side, PLATE / 2 + height / 2 - 5e-4)),
        Primitive("box", (PLATE, width, wall), (-x, side, PLATE / 2 + height / 2 - 5e-4)),
        Primitive("box", (length - 2 * PLATE, PLATE, wall), (0, side + y, PLATE / 2 + height / 2 - 5e-4)),
        Primitive("box", (length - 2 * PLATE, PLATE, wall), (0, side - y, PLATE / 2 + height / 2 - 5e-4)),
    )
    lean, reach = 0.018, width / 2 + 0.028
    part = (
        Primitive("box", (length, width, PLATE), (length / 2, 0, PLATE / 2 + 5e-4)),
        Primitive(
            "box", (lean + 0.008, reach - width / 2, 0.006), (lean / 2, (reach + width / 2) / 2, 0.003)
        ),
        Primitive("box", (0.010, 0.026, tall), (lean, reach, tall / 2)),
    )
    return housing, Joint(
        "turn", (0, -1, 0), (-length / 2, side, height), math.radians(70), part, (lean, reach, 0.015), 0.012,
        height, friction=0.02, damping=0.003, play=0.0,
    )  # fmt: skip


def button(size: tuple[float, ...]) -> tuple[tuple[Primitive, ...], Joint]:
    """A cap on a spring in a round foot."""
    radius, height = size
    # Where it stops it is flush with its foot, which bears the hand.
    travel = 0.006
    foot = height - travel
    housing = (Primitive("cylinder", (radius + 0.012, foot), (0, 0, foot / 2)),)
    part = (Primitive("cylinder", (radius, 0.016), (0, 0, height - 0.008)),)
    return housing, Joint(
        "slide", (0, 0, -1), (0, 0, 0), travel, part, (0, 0, height), 2 * radius, height,
        friction=0.05, damping=0.5, stiffness=200.0, preload=0.4, play=0.0003,
    )  # fmt: skip


MECHANISMS: Mapping[str, Callable[[tuple[float, ...]], tuple[tuple[Primitive, ...], Joint]]] = {
    "drawer": drawer,
    "slider": slider,
    "lever": lever,
    "knob": knob,
    "lid": lid,
    "button": button,
}
"""What each kind is made of for a size: the housing's shapes, standing on z = 0, and the joint."""
