"""The control laws of the scripted experts, compiled.

A law is a function of the present state alone: joint angles q, the command c, and what is known of goal and
cube. It says where the arm's joints should go next; `motion.step_into` takes the command there. Nothing is
remembered between calls: what phase an episode is in can be seen from the state, so the laws recover from any
state, also from those that a student policy drifts into, and a network can copy them. Where a decision needs
hysteresis it comes from the command (a gripper told to close goes on closing) or from the height of the tool.

`scene` (SCENE,): goal (3), cube (3), cos 4ψ, sin 4ψ of the cube's yaw, age of that knowledge in s, standard
deviations of its position (m) and yaw (rad). `grip` (GRIP,): see `grasping.py`, which has the laws of what grasps.
Lengths in m; z = 0 is the table. "Point" is the guided point of the geometry: the tool frame for reach, the
middle between the jaws for the others.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.experts.grasping import (
    CARRY_RADIUS,
    FLOOR,
    FORK,
    HELD,
    SIDE,
    UNDER,
    UNKNOWN,
    WIDTH,
    holding,
    lift_law,
    look_into,
    set_down_law,
)
from sim2real.experts.motion import clip, follow_into, ramp, sag_into, step_into, tilt_at
from sim2real.experts.pointing import forward, inverse, roll_for_heading

Array = NDArray[np.float64]

REACH, PUSH, PRESS, LIFT, SET_DOWN = range(5)
SCENE = 11

# Push.
TIP = 0.0075  # point to the face of the cube when they touch
BEHIND = 0.028  # where the push starts, behind the place where they touch
PUSH_HEIGHT = 0.015
PUSH_OVER = 0.030  # clears a cube by this
LEAVING = 0.050  # and goes up by so much more when it is done
ASIDE = 0.070  # and so much further in, while it is not seen
UNSTICK = 0.025
CARROT = 0.045  # how far ahead of the tool the push aims
HANGS = 0.004  # a hand at a handle may be so far below where it was told to be
PRESSING = 0.004  # told to be so far below where a button shall be: the arm gives way
PRESS_OVER = 0.030  # waits so far above a button
DONE, DONE_HIGH = 0.008, 0.017  # good enough a distance to the mark: while pushing, once the tool has left
LANE, LANE_HIGH = 0.014, 0.006  # sideways error: still pushing, fit to start


@njit(cache=True, nogil=True, error_model="numpy")
def reach_law(g: Array, q: Array, c: Array, scene: Array, lower: Array, upper: Array, target: Array) -> None:
    """Straight to the goal in joint space, the tilt given by the place, the roll at zero."""
    x, y, z = scene[0], scene[1], scene[2]
    inverse(g, x, y, z, tilt_at(g, x, y, z, 0.0), 0.0, lower, upper, target)


@njit(cache=True, nogil=True, error_model="numpy")
def push_law(
    g: Array, q: Array, c: Array, scene: Array, grip: Array, lower: Array, upper: Array, period: float,
    target: Array,
) -> None:  # fmt: skip
    """Go behind the cube, go down, push; go up again when the cube is there or has slipped aside.

    With `grip[UNDER]` it is a handle that stands on something so high.
    """
    if scene[9] > UNKNOWN:
        look_into(g, c, lower, upper, target)
        target[5] = c[5] + 7.5 * period * (grip[FORK] - c[5])
        return
    px, py, pz, _, _ = forward(g, q)
    cx, cy, cz, _, _ = forward(g, c)
    contact = 0.5 * grip[SIDE] + TIP
    push_height = PUSH_HEIGHT + grip[UNDER]
    behind, over = contact + BEHIND, grip[SIDE] + PUSH_OVER + grip[UNDER]
    dx, dy = scene[0] - scene[3], scene[1] - scene[4]
    distance = math.hypot(dx, dy)
    ux, uy = dx / max(distance, 1e-6), dy / max(distance, 1e-6)
    # The point as seen from the cube: along the push (negative is behind) and to its left.
    rx, ry = px - scene[3], py - scene[4]
    along, aside = rx * ux + ry * uy, -rx * uy + ry * ux
    high = ramp(pz, push_height + 0.008, push_height + 0.025)
    lane = LANE + (LANE_HIGH - LANE) * high
    low = push_height + 0.004 + 0.010 * ramp(along, -behind + 0.006, -behind + 0.016)
    # Told to be on the table and not getting there: what the joints say is a little off.
    low += 0.010 * ramp(cz, FLOOR + 0.002, FLOOR - 0.001)
    ready = pz < low and abs(aside) < lane
    overlap = along + contact
    if ready and 0.0 < overlap < 0.015 + 0.2 * scene[8]:
        # The tool cannot be where the cube is: the cube was pushed on since it was seen.
        along -= overlap
        distance -= overlap
    done = distance < DONE + (DONE_HIGH - DONE) * high
    pushing = ready and not done and -behind - 0.027 < along < -contact + 0.008
    # The fingers open across the push: two points of contact, between which a corner of the cube finds its place.
    # Of the two rolls, half a turn apart, the one that the wrist can do.
    most = max(min(-lower[4], upper[4]) - 0.5 * math.pi - 0.05, 0.0)
    near = clip(c[4], -most, most)
    if grip[UNDER] > 0.0:
        # The way of a handle may turn: the roll halfway, which the yaw tells, is well within the joint's limits.
        halfway = math.atan2(scene[7], scene[6]) + math.pi / 2
        near = roll_for_heading(g, px, py, halfway, math.pi, clip(c[4], -0.5, 0.5))
    roll = roll_for_heading(g, px, py, math.atan2(uy, ux) + math.pi / 2, math.pi, near)
    # Up from where the hand is: at a handle the command may be on its other side.
    up_x, up_y = (px, py) if grip[UNDER] > 0.0 else (cx, cy)
    if done:
        # Not on to where the command has got to: that is ahead, and the cube would come along. Once up, out of the
        # camera's way: what is done by what was believed is to be seen.
        radius, hidden = math.hypot(px - g[0], py - g[1]), ramp(scene[8], 0.6, 1.2)
        back = max(0.0, radius - CARRY_RADIUS + ASIDE * hidden) / max(radius, 1e-6)
        inward = ramp(pz, over - 0.010, over + 0.015) * back
        x, y = px - inward * (px - g[0]), py - inward * (py - g[1])
        z, roll = over + LEAVING + 0.5 * ASIDE * hidden, c[4]
    elif pushing:
        # Moving the tool by what the cube has left moves the cube onto the mark, once they touch.
        left = distance + max(0.0, -along - contact)
        ahead = min(left, CARROT)
        if grip[UNDER] > 0.0:
            # Nor be pushed against it.
            ahead *= ramp(pz, push_height - 1.5 * HANGS, push_height - 0.5 * HANGS)
        x = px + ahead * ux + aside * uy
        y = py + ahead * uy - aside * ux
        z = push_height
    else:
        bx, by = scene[3] - behind * ux, scene[4] - behind * uy
        off = math.hypot(px - bx, py - by)
        lift = ramp(off, 0.007, 0.030)
        # Low and not behind the cube: first up, then over.
        clear = max(
            ramp(pz, 0.030 + grip[UNDER], 0.045 + grip[UNDER]), ramp(along, -contact, -contact - 0.012)
        )
        x, y = up_x + clear * (bx - up_x), up_y + clear * (by - up_y)
        z = push_height + (over - push_height) * max(lift, ramp(abs(roll - q[4]), 0.15, 0.4))
    if grip[UNDER] > 0.0:
        # What it stands on may end below the hand: one that hangs lower than it was told must not be caught there.
        z += 2.0 * max(0.0, push_height - HANGS - pz)
    # The command runs away from a tool that rubs on the table: lift it a little.
    z += 2.0 * max(0.0, FLOOR - cz) + UNSTICK * ramp(math.hypot(cx - px, cy - py), 0.035, 0.060)
    inverse(g, x, y, z, tilt_at(g, x, y, z, roll), roll, lower, upper, target)
    target[5] = c[5] + 7.5 * period * (grip[FORK] - c[5])


@njit(cache=True, nogil=True, error_model="numpy")
def press_law(
    g: Array, q: Array, c: Array, scene: Array, grip: Array, lower: Array, upper: Array, period: float,
    target: Array,
) -> None:  # fmt: skip
    """Go above the button, which has its top in the cube's place, and down to where its goal is, and stay there."""
    px, py, pz, _, _ = forward(g, q)
    top, bottom = scene[5], scene[2] - PRESSING
    off = math.hypot(px - scene[3], py - scene[4])
    clear = max(ramp(pz, top + 0.010, top + 0.025), ramp(off, 0.020, 0.010))
    # From where the hand is: where it was told to be may be on the other side of what it has just pushed.
    x, y = px + clear * (scene[3] - px), py + clear * (scene[4] - py)
    z = bottom + (top + PRESS_OVER - bottom) * ramp(off, 0.006, 0.014)
    roll = clip(c[4], -1.6, 1.6)
    inverse(g, x, y, z, tilt_at(g, x, y, z, roll), roll, lower, upper, target)
    target[5] = c[5] + 7.5 * period * (grip[FORK] - c[5])


@njit(cache=True, nogil=True, error_model="numpy")
def chunk_into(
    kind: int, g: Array, position: Array, command: Array, scene: Array, grip: Array, lower: Array, upper: Array,
    speed: Array, stiffness: Array, chain: Array, inertials: Array, gravity: Array, rest: Array, rotations: Array,
    origins: Array, work: Array, mass: Array, bias: Array, gripper: int, period: float, lead_time: float,
    out: Array,
) -> None:  # fmt: skip
    """Fill `out` (H, n) with the commands of the next H periods: the law, rolled forward on a predicted arm."""
    n = len(command)
    q, c, target, sag, lead = position.copy(), command.copy(), np.empty(n), np.empty(n), np.empty(n)
    known = scene.copy()
    sag_into(chain, inertials, gravity, rest, stiffness, q, rotations, origins, work, mass, bias, sag)
    for j in range(n):
        # At most this much of the command's lead is sag, the rest is motion under way.
        lead[j] = clip(c[j] - q[j], sag[j] - 0.04, sag[j] + 0.04)
    if gripper >= 0:
        lead[gripper] = 0.0
        sag[gripper] = 0.0
    for i in range(len(out)):
        for j in range(n):
            target[j] = c[j]
        # The command that is seen trails the trajectory that it belongs to.
        dt = period + lead_time if i == 0 else period
        if kind == REACH:
            reach_law(g, q, c, known, lower, upper, target)
        elif kind == PUSH:
            push_law(g, q, c, known, grip, lower, upper, dt, target)
        elif kind == PRESS:
            press_law(g, q, c, known, grip, lower, upper, dt, target)
        elif kind == LIFT:
            lift_law(g, q, c, known, grip, lower, upper, dt, target)
        else:
            set_down_law(g, q, c, sag, known, grip, lower, upper, dt, target)
        step_into(target, c, q, sag, lower, upper, speed, gripper, dt)
        before_x, before_y, before_z, _, _ = forward(g, q)
        jaw = q[gripper] if gripper >= 0 else 0.0
        stopped = kind >= LIFT and holding(g, q, c, known, grip) > 0.5
        follow_into(q, c, lead, period)
        if stopped:
            # What is held stops the jaw, wherever that reads with a zero that is off, and comes along.
            q[gripper] = max(q[gripper], jaw)
            x, y, z, _, _ = forward(g, q)
            known[3], known[4], known[5] = (
                known[3] + x - before_x,
                known[4] + y - before_y,
                known[5] + z - before_z,
            )
        elif kind >= LIFT and q[gripper] < jaw and jaw >= grip[HELD]:
            # The jaw closes on the cube, and stops there.
            q[gripper] = max(q[gripper], min(jaw, grip[WIDTH]))
        if kind == PUSH:
            x, y, z, _, _ = forward(g, q)
            dx, dy = known[3] - x, known[4] - y
            if z < 0.03 + grip[UNDER] and math.hypot(dx, dy) < 0.5 * grip[SIDE] + TIP:
                # The cube keeps its distance: it is pushed ahead.
                known[3], known[4] = known[3] + x - before_x, known[4] + y - before_y
        for j in range(n):
            out[i, j] = c[j]
