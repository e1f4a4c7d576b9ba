"""The laws of what grasps a cube: lift it, set it down on a mark or on another cube. Compiled, without memory.

All take the arm's joints q (n,) and command c (n,), the `scene` of `laws.py`, and `grip` (GRIP,), which is what the
gripper's angles mean for this cube (`base.hand_for`). The guided point is the middle between the jaws of the open
hand. Its fixed finger does not move in the hand, so a cube between closed jaws is ROOM away from that point.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.experts.motion import clip, ramp, tilt_at
from sim2real.experts.pointing import forward, inverse, roll_for_heading

Array = NDArray[np.float64]

CLOSED, OPEN, HELD, WIDTH, FORK, SIDE, GRASP, UNDER = range(8)
GRIP = 8
"""Gripper angles, rad: closed, open, the least that means something is held, at the cube's width, for pushing. Then,
m: the cube's side, the height of the point that grasps it, how high what it is put upon is."""

ANGLE_ERROR = 0.12  # rad of the jaw beyond which its angle votes with all its weight
CAME_ALONG, STAYED = 0.6, 1.2  # how much it counts that the cube is believed to be up with the hand, or not
FLOOR = 0.0135  # commands are kept above this, where the gate would hold them
ABOVE = 0.065  # added to the height of the grasp before the descent
CARRY_HEIGHT = 0.105
CARRY_RADIUS = 0.20
REOPEN = 0.020  # the gripper opens only this far above the cube
ROOM = 0.0235  # between the cube and either finger when the open gripper goes down around it
CLOSING_SPEED = 0.9  # rad/s
RELEASE_SPEED, OPENING_SPEED = 0.5, 2.0  # rad/s, of a hand that lets go, and once the jaw has come off

# Setting down.
OVER = 0.035  # carried so far above where it is let go
DROP = 0.006  # let go this far above what it is put upon
AT_PLACE = 0.010  # near enough to let go
OFF_IT = 0.20, 0.35  # rad wider than the cube, the jaw has begun to come off it, and has
LETTING_GO = 0.016  # of an open hand around what it has just let go
DONE = 0.017  # a cube that lies this near to the mark is left there
STACKED = 0.013  # one that is seen on top of the other, to its middle
SEEMS_STACKED = (
    0.085  # a camera that knows only the table sees what is up on the other cube as far away as this
)
LEAVE_HEIGHT = 0.11

# Looking.
UNKNOWN = 0.05  # a standard deviation of where it is beyond which nothing is known of it, m
LOOK_RADIUS, LOOK_HEIGHT = 0.14, 0.16  # the hand waits there, out of the camera's way


@njit(cache=True, nogil=True, error_model="numpy")
def told_shut(c: Array, grip: Array, height: float) -> float:
    """Whether the gripper is told to be shut, 0…1, by a hand at this height, m.

    Down at the cube only once it has been for a while, since the grip comes after the command.
    """
    up = 0.04 * ramp(height, grip[GRASP] + 0.006, grip[GRASP] + 0.016)
    return 1.0 - ramp(c[5] - grip[CLOSED], 0.01 + up, 0.03 + 2.0 * up)


@njit(cache=True, nogil=True, error_model="numpy")
def holding(g: Array, q: Array, c: Array, scene: Array, grip: Array) -> float:
    """Whether the gripper holds the cube, 0…1.

    Four signs vote, and none decides alone. The jaw's angle against what the cube's width allows: a gripper's zero may
    be off by ten degrees, by which an empty hand looks full, or a full one empty. Its lag behind the command: what has
    got there is stopped by nothing, what has not may be stopped by the cube or, where its zero is off, by its own stop.
    The picture, where it can tell: a cube that is seen beside the closed hand, down at the table, is not in it. And
    what is believed once the hand is up (`moving_track.py`): that the cube came along, or that it stayed below. One
    that is seen further away may be in the hand, seen on the table behind.
    """
    px, py, pz, _, heading = forward(g, q)
    shut = told_shut(c, grip, pz)
    if shut == 0.0:
        return 0.0
    angle = clip((q[5] - grip[HELD]) / ANGLE_ERROR, -1.0, 1.0)
    lag = 1.5 * ramp(q[5] - c[5], 0.015, 0.05) - 1.0
    reach = ROOM * (1.0 - freedom(q[5], grip))
    off = math.hypot(scene[3] - px + reach * math.cos(heading), scene[4] - py + reach * math.sin(heading))
    up = ramp(pz, grip[GRASP] + 0.030, grip[GRASP] + 0.050)
    known = ramp(scene[8], 0.6, 0.3) * ramp(scene[9], 0.015, 0.005)
    beside = (1.0 - up) * (0.3 - 1.3 * ramp(off, 0.025, 0.040))
    below = pz - scene[5]
    along = (
        ramp(pz, grip[GRASP] + 0.010, grip[GRASP] + 0.022)
        * ramp(below, 0.040, 0.028)
        * ramp(off, 0.040, 0.025)
    )
    stayed = ramp(scene[8], 0.6, 0.3) * ramp(below, 0.038, 0.053) * ramp(off, 0.060, 0.040)
    return shut * ramp(angle + lag + known * beside + CAME_ALONG * along - STAYED * stayed, -0.1, 0.1)


@njit(cache=True, nogil=True, error_model="numpy")
def freedom(gripper: float, grip: Array) -> float:
    """How far the gripper is open: 0 at the cube's width, 1 where it goes down around it."""
    return clip((gripper - grip[WIDTH]) / (grip[OPEN] - grip[WIDTH]), 0.0, 1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def lift_law(
    g: Array, q: Array, c: Array, scene: Array, grip: Array, lower: Array, upper: Array, period: float,
    target: Array,
) -> None:  # fmt: skip
    """Go above the cube, go down around it, close, and carry up what is between the jaws."""
    _, _, pz, _, _ = forward(g, q)
    if holding(g, q, c, scene, grip) < 0.5:
        grasp_into(g, q, c, scene, grip, lower, upper, period, target)
        return
    # What a camera says of a cube between the jaws is not to be trusted; where the arm is, is.
    cx, cy, _, _, _ = forward(g, c)
    radius = math.hypot(cx - g[0], cy - g[1])
    inward = ramp(pz, grip[GRASP] + 0.02, grip[GRASP] + 0.05) * max(0.0, radius - CARRY_RADIUS) / radius
    x, y, z = cx - inward * (cx - g[0]), cy - inward * (cy - g[1]), CARRY_HEIGHT
    inverse(g, x, y, z, tilt_at(g, x, y, z, c[4]), c[4], lower, upper, target)
    target[0], target[4], target[5] = c[0], c[4], grip[CLOSED]


@njit(cache=True, nogil=True, error_model="numpy")
def set_down_law(
    g: Array, q: Array, c: Array, sag: Array, scene: Array, grip: Array, lower: Array, upper: Array,
    period: float, target: Array,
) -> None:  # fmt: skip
    """Grasp the cube, carry it over the goal, put it down, let go, and leave it there."""
    px, py, pz, _, heading = forward(g, q)
    cx, cy, cz, _, _ = forward(g, c)
    ch, sh = math.cos(heading), math.sin(heading)
    # Where the hand has, or would have, the cube.
    reach = ROOM * (1.0 - freedom(q[5], grip))
    hx, hy = reach * ch, reach * sh
    held = holding(g, q, c, scene, grip) > 0.5
    if held:
        # Where it is seen to have it, if that is known well: the jaws close on what is round, or askew, beside it.
        known = ramp(scene[9], 0.006, 0.003)
        ex, ey = px - hx - scene[3], py - hy - scene[4]
        known *= ramp(math.hypot(ex, ey), 0.030, 0.020) * ramp(abs(pz - scene[5]), 0.025, 0.015)
        hx, hy = hx + known * ex, hy + known * ey
    off = math.hypot(scene[0] - px + hx, scene[1] - py + hy)
    lowest = grip[GRASP] + grip[UNDER] + (DROP if grip[UNDER] > 0.0 else 0.002)
    roll, shut = c[4], told_shut(c, grip, pz)
    letting_go = shut < 0.5 and off < LETTING_GO and pz < lowest + OVER
    if held:
        high = lowest + OVER
        # First up, then over, then down: what is put upon another cube must not push it.
        clear = max(ramp(pz, high - 0.020, high - 0.008), ramp(off, 0.020, AT_PLACE))
        x, y = cx + clear * (scene[0] + hx - cx), cy + clear * (scene[1] + hy - cy)
        z = lowest + OVER * ramp(off, 0.5 * AT_PLACE, 1.5 * AT_PLACE)
        # Told to be lower and not getting there: it stands on something.
        low = lowest + 0.006 + 0.006 * ramp(pz - cz, 0.006, 0.012)
        gripper = grip[CLOSED]
        if off < AT_PLACE and pz < low:
            gripper = c[5] + period * RELEASE_SPEED
    elif letting_go:
        # Both fingers leave the cube: the hand moves by half of what the jaw does.
        off_it = ramp(c[5], grip[WIDTH] + OFF_IT[0], grip[WIDTH] + OFF_IT[1])
        shift = ROOM * (1.0 - off_it * freedom(c[5], grip))
        x, y = px - (reach - shift) * ch, py - (reach - shift) * sh
        z = lowest + 2.0 * OVER * ramp(q[5], grip[OPEN] - 0.25, grip[OPEN] - 0.10)
        speed = RELEASE_SPEED + (OPENING_SPEED - RELEASE_SPEED) * off_it
        gripper = min(c[5] + period * speed, grip[OPEN])
    elif shut < 0.5 and lies_there(scene, grip):
        radius = math.hypot(cx - g[0], cy - g[1])
        inward = ramp(pz, lowest + OVER, lowest + 2.0 * OVER) * max(0.0, radius - CARRY_RADIUS) / radius
        x, y, z = cx - inward * (cx - g[0]), cy - inward * (cy - g[1]), LEAVE_HEIGHT + grip[UNDER]
        gripper = c[5] + period * (grip[OPEN] - c[5])
    else:
        grasp_into(g, q, c, scene, grip, lower, upper, period, target)
        return
    z += 2.0 * max(0.0, FLOOR - cz)
    inverse(g, x, y, z, tilt_at(g, x, y, z, roll), roll, lower, upper, target)
    target[4], target[5] = roll, gripper


@njit(cache=True, nogil=True, error_model="numpy")
def lets_go(g: Array, q: Array, c: Array, place: Array, grip: Array) -> bool:
    """Whether the hand is at the place (3,) and has begun to open: what it had belongs there, wherever it is seen."""
    px, py, pz, _, heading = forward(g, q)
    reach = ROOM * (1.0 - freedom(q[5], grip))
    off = math.hypot(place[0] - px + reach * math.cos(heading), place[1] - py + reach * math.sin(heading))
    low = pz < grip[GRASP] + grip[UNDER] + DROP + OVER
    return low and off < LETTING_GO and told_shut(c, grip, pz) < 0.5 and c[5] < grip[WIDTH] + OFF_IT[1]


@njit(cache=True, nogil=True, error_model="numpy")
def lies_there(scene: Array, grip: Array) -> bool:
    """Whether the cube is where it shall be, as it is seen."""
    off = math.hypot(scene[0] - scene[3], scene[1] - scene[4])
    if grip[UNDER] == 0.0:
        return off < DONE
    if scene[5] > 0.5 * (grip[SIDE] + grip[UNDER]):
        return off < STACKED  # it is known to be up
    return off < SEEMS_STACKED


@njit(cache=True, nogil=True, error_model="numpy")
def look_into(g: Array, c: Array, lower: Array, upper: Array, target: Array) -> None:
    """Up and in: the hand may be what hides the cube."""
    cx, cy, cz, _, _ = forward(g, c)
    radius = max(math.hypot(cx - g[0], cy - g[1]), 1e-6)
    inward = ramp(cz, 0.06, 0.09) * (1.0 - min(LOOK_RADIUS / radius, 1.0))
    x, y = cx - inward * (cx - g[0]), cy - inward * (cy - g[1])
    roll = clip(c[4], -1.6, 1.6)
    inverse(g, x, y, LOOK_HEIGHT, tilt_at(g, x, y, LOOK_HEIGHT, roll), roll, lower, upper, target)


@njit(cache=True, nogil=True, error_model="numpy")
def grasp_into(
    g: Array, q: Array, c: Array, scene: Array, grip: Array, lower: Array, upper: Array, period: float,
    target: Array,
) -> None:  # fmt: skip
    """Go above the cube, go down around it, and close: for a hand that holds nothing."""
    if scene[9] > UNKNOWN:
        look_into(g, c, lower, upper, target)
        target[5] = c[5] + 9.0 * period * (grip[OPEN] - c[5])
        return
    px, py, pz, _, heading = forward(g, q)
    told, shut = c[5] - grip[CLOSED], told_shut(c, grip, pz)
    yaw = 0.25 * math.atan2(scene[7], scene[6])
    roll = roll_for_heading(g, scene[3], scene[4], yaw, 0.5 * math.pi, clip(c[4], -0.8, 0.8))
    rx, ry = scene[3] - px, scene[4] - py
    # The cube as seen from the point: along the direction in which the jaws open, and across.
    ch, sh = math.cos(heading), math.sin(heading)
    along, across = rx * ch + ry * sh, -rx * sh + ry * ch
    turn = abs(roll - q[4])
    # Coming down around the cube the fingers hide some of it, and what is seen of the rest is turned or moved: the
    # grasp is finished where it was begun. The fingers have room for that, and align the cube as they close.
    begun = ramp(pz, grip[SIDE] + 0.030, grip[SIDE] + 0.015) * ramp(abs(across), 0.018, 0.013)
    turn *= 1.0 - begun
    roll = c[4] + (1.0 - begun * ramp(abs(roll - q[4]), 0.12, 0.25)) * (roll - c[4])
    # The middle between the fingers moves towards the fixed one as they close.
    free = freedom(q[5], grip)
    off_middle = along + ROOM * (1.0 - free)
    closing = ramp(told, grip[OPEN] - grip[CLOSED] - 0.05, grip[OPEN] - grip[CLOSED] - 0.15)
    off = math.hypot(across, 0.7 * along)  # there is more room between the jaws than beside them
    # Told to be on the table and not getting there: what the joints say is a little off.
    _, _, cz, _, _ = forward(g, c)
    low = grip[GRASP] + 0.006 + 0.006 * closing + 0.008 * ramp(cz, FLOOR + 0.002, FLOOR - 0.001)
    within = abs(across) < 0.014 and abs(off_middle) < ROOM * free + 0.012
    x, y, z = scene[3], scene[4], grip[GRASP]
    if (
        shut < 0.5
        and pz < low
        and ((closing > 0.5 and within) or (off < 0.007 + 0.004 * begun and turn < 0.12))
    ):
        # Both fingers come towards the cube: the hand moves by half of what the jaw does.
        shift = ROOM * (1.0 - freedom(c[5], grip))
        x, y = x + shift * ch, y + shift * sh
        # In the end ever more slowly: by the time the gripper is told to be shut, its angle tells what it holds.
        gripper = c[5] - period * min(CLOSING_SPEED, 5.0 * (c[5] - grip[CLOSED] + 0.02))
    else:
        still_shut = ramp(q[5], grip[OPEN] - 0.10, grip[OPEN] - 0.25)
        z += ABOVE * max(ramp(off - 0.006 * begun, 0.005, 0.014), still_shut, ramp(turn, 0.10, 0.30))
        high = ramp(pz, grip[SIDE] + REOPEN - 0.01, grip[SIDE] + REOPEN)
        gripper = c[5] + 9.0 * period * high * (grip[OPEN] - c[5])
    z += 2.0 * max(0.0, FLOOR - cz)
    inverse(g, x, y, z, tilt_at(g, x, y, z, roll), roll, lower, upper, target)
    target[5] = gripper
