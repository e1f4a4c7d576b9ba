"""Cubes: which pose a spot of a picture is that of, and how well that is known.

The fit itself is in `silhouette.py`. Here: where it begins, what its points mean, what is not believed, and the
covariance. That one comes from the cost along the angle, since a half-hidden outline often allows several angles.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from hardware.cameras.arm_mask import ArmOutlines
from hardware.cameras.silhouette import (
    BARE,
    EDGE,
    HIDING,
    angle_profile,
    cube_outline,
    curvature,
    fit_cube,
)
from hardware.cameras.spots import Mask, Spot, dilated
from sim2real.camera import CameraModel
from sim2real.tracking import Sighting

Array = NDArray[np.float64]
Kinds = NDArray[np.int8]

MIN_VISIBLE = 0.4
"""A cube must be seen by at least this fraction of its outline's area."""
MIN_VISIBLE_BEHIND = 0.25
"""… where the rest is behind the arm."""
MIN_FITTING = 0.5
"""At least this fraction of a spot's outline must lie on the object's; the rest is what hides it."""
MIN_FITTING_TILTED = 0.3
"""Smallest such fraction for a spot that nothing seems to hide: a cube tilted in the gripper fits an upright one
badly."""
MAX_LIFT = 0.12
"""Heights above the table, m, up to which a cube is recognized; what looks larger is something else."""
REACH = 0.6
"""Objects further than this from the base are none of the arm's business, m."""
INSET = 0.4
"""Boundary pixels' centres lie this far inside the edge on average, px."""

BLUR = 0.5
"""By how many px an edge is uncertain, each by itself and all together."""
ALIKE = 3.0
"""px along the edge over which its errors are alike."""
FLOOR = 0.3
"""px by which a pose is uncertain, however well its outline fits: lens, threshold, shading."""
PROFILE = np.deg2rad(np.arange(-45.0, 45.0, 3.75))
FINE = np.deg2rad([-3.0, -2.25, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.25, 3.0])
"""Angles about the best one at which the cost is looked at: all, and close to it."""
LIKELY = 0.05
"""Angles less likely than this are no solutions of their own,"""
APART = math.radians(12.0)
"""… nor are those that lie closer to a likelier one than this, rad."""
SEEN, SEEN_WHOLE, UNEXPLAINED = 0.88, 0.82, 0.2
"""Doubtful is as well of what less than this fraction of its area is seen or behind the arm (the second: of a spot that
looks whole, whose edge blur moves inward); as fully when as much again as the third is missing."""
WHOLE = 0.92
"""Of a spot that looks alike when it is turned by 180°, to this degree, nothing seems to be hidden."""
UNLIKELY = 0.02
"""Of lying and lifted, what is less likely than this is left out."""
FITTING, DOUBTFUL = 0.92, 0.7
"""From the first down, the fraction of edges that fit casts doubt on the pose; at the second it is in full doubt."""
BEFORE = {"unknown": 4.0, "near": 1.0, "far": 8.0}
"""By how much a cube's lying is likelier beforehand than its being lifted, as a logarithm: where the hand is unknown,
at the cube, and elsewhere."""
GRASP = 0.04
"""A hand further than this from a cube does not hold it, m."""
HELD = 0.015
"""Standard deviation of a held cube's height about that of the tool, m."""
MISFIT = 0.5
"""Mean cost, px², from which on an outline that is seen as a whole is not that of an upright cube."""
TILTED = (0.0015, 0.3)
"""Standard deviations of a tilted cube's place, m, and angle, rad."""


@dataclass(frozen=True)
class Surroundings:
    """What the arm's pose says about a spot's window: where it is and may be in front of it (masks), and its tool (3,)
    m in the base frame."""

    certain: Mask
    possible: Mask
    tool: Array


@dataclass(frozen=True)
class Edges:
    """The points that a cube is fitted to, px of an ideal picture, and what they mean (`silhouette.py`)."""

    points: Array
    kinds: Kinds
    tolerance: float
    alike: float
    inset: float = INSET

    @property
    def outline(self) -> int:
        """How many of them lie on the outline."""
        return int((self.kinds != BARE).sum())

    def likelihood(self, cost: float, noise: float) -> float:
        """Logarithm of how likely a mean cost, px², is where edges are uncertain by `noise` px, but for a constant."""
        return -cost * self.outline / (2 * self.alike * noise**2)


@dataclass(frozen=True)
class _Found:
    """A cube fitted to a spot: its pose (see `silhouette.py`), the mean cost in px², how much of it is seen and how
    much is seen or behind the arm, how much of the spot lies outside it, and how much of the outline fits."""

    pose: Array
    cost: float
    visible: float
    explained: float
    outside: float
    fitting: float

    @property
    def confidence(self) -> float:
        return self.visible * self.fitting * (1.0 - self.outside)

    @property
    def doubt(self) -> float:
        """0…1: how doubtful the pose is for the edges that do not fit."""
        return min(max((FITTING - self.fitting) / (FITTING - DOUBTFUL), 0.0), 1.0)

    def missing(self, seen: float) -> float:
        """0…1: how doubtful it is for being hidden by unknown things, from `seen` of its area down."""
        return min(max((seen - self.explained) / UNEXPLAINED, 0.0), 1.0)

    @property
    def noise(self) -> float:
        """By how much edges are uncertain, px: by as much at least as they do not fit."""
        return math.sqrt(max(BLUR**2, self.cost))


class CubeFinder:
    """Fits cubes to the spots of one camera's pictures."""

    def __init__(self, camera: CameraModel) -> None:
        self.camera = camera
        self._pose = np.ascontiguousarray(camera.camera_to_base)
        self._focal = math.sqrt(camera.fx * camera.fy)

    def warm_up(self) -> None:
        """Load what is compiled."""
        centre = self.camera.on_plane([(self.camera.width - 1) / 2, (self.camera.height - 1) / 2])
        pose = np.array([centre[0], centre[1], 0.3, 1.0])
        outline = self._ideal(self._outline(pose, 0.025))
        edges = Edges(outline, np.zeros(len(outline), np.int8), 1.0, 1.0)
        for lifted in (False, True):
            self._fit(edges, pose[None], lifted, 0.025)
        self._profile(edges, pose, PROFILE, BLUR, 0.025)
        self._height(_Found(pose, 0.0, 1.0, 1.0, 0.0, 1.0), edges, 0.025)

    def find(self, spot: Spot, side: float, arm: ArmOutlines | None) -> Sighting | None:
        """The cube of `side` m that the spot is, None when it is none. `arm`: where that is, if it is known."""
        centre = self.camera.on_plane(spot.centre, side / 2)
        if not np.isfinite(centre).all() or math.hypot(centre[0], centre[1]) > REACH:
            return None
        around = self._around(spot, centre, side, arm)
        seen = spot.area / self._area(np.array([centre[0], centre[1], 0.0, 1.0]), side)
        if not 0.7 * (MIN_VISIBLE if around is None else MIN_VISIBLE_BEHIND) < seen < 3.0:
            return None
        pixel = float(np.linalg.norm(centre - self.camera.position)) / self._focal
        edges = self._edges(spot, around, side / pixel)
        starts = _starts(centre, side, seen)
        best = self._judge(spot, around, side, *self._fit(edges, starts, False, side))
        lifted, raised = 0.0, best
        unknown = best.doubt if around is None else 0.0
        held = around is not None and around.tool[2] > side and self._at_hand(best, around, side)
        if best.outside > 0.04 or unknown > 0.0 or held:
            # More of the colour than a cube on the table can have, or something at it that may have raised it.
            raised = self._raised(spot, around, edges, starts, seen, side)
            lifted = self._lifted(best, raised, edges, around, unknown, side)
        high = lifted > 0.5
        likelier, other = (raised, best) if high else (best, raised)
        if not self._believable(likelier, spot.symmetry > WHOLE, around is not None, side):
            return None
        found = self._solutions(likelier, spot, edges, high, around, pixel, side)
        if min(lifted, 1.0 - lifted) > UNLIKELY:
            alternative = self._solutions(other, spot, edges, not high, around, pixel, side)
            found = _either(found, alternative, min(lifted, 1.0 - lifted))
        return replace(found, lifted=lifted)

    def _around(self, spot: Spot, centre: Array, side: float, arm: ArmOutlines | None) -> Surroundings | None:
        if arm is None:
            return None
        furthest = float(np.linalg.norm(centre - self.camera.position)) + side
        masks = arm.hidden((spot.x, spot.y), spot.mask.shape, furthest)
        return Surroundings(*masks, arm.tool)

    # The fit

    def _edges(self, spot: Spot, around: Surroundings | None, pixels: float) -> Edges:
        """What the spot's outline, and what lies around it, mean; the cube measures `pixels` px there."""
        points, kinds = spot.contour, np.full(len(spot.contour), EDGE, np.int8)
        size = np.array([self.camera.width, self.camera.height])
        kinds[((points < 1) | (points > size - 2)).any(axis=1)] = HIDING
        if around is not None:
            columns, rows = (points - (spot.x, spot.y)).astype(int).T
            near = dilated(around.possible, 1)
            kinds[near[rows, columns] > 0] = HIDING
            bare = spot.around(2, max(3, round(0.35 * pixels)), near, len(points))
            points = np.concatenate([points, bare])
            kinds = np.concatenate([kinds, np.full(len(bare), BARE, np.int8)])
        return Edges(self._ideal(points), kinds, max(0.8, 0.035 * pixels), max(ALIKE / spot.spacing, 1.0))

    def _fit(self, edges: Edges, starts: Array, lifted: bool, side: float) -> tuple[Array, float, float]:
        return fit_cube(
            edges.points,
            edges.kinds,
            starts,
            lifted,
            side,
            self._pose,
            self._focal,
            edges.inset,
            edges.tolerance,
        )

    def _judge(
        self, spot: Spot, around: Surroundings | None, side: float, pose: Array, cost: float, fitting: float
    ) -> _Found:
        """How well the spot is explained by a cube in this pose."""
        if cost > 1e29:
            return _Found(pose, cost, 0.0, 0.0, 1.0, 0.0)
        outline = self._outline(pose, side)
        drawn = np.zeros_like(spot.mask)
        cv2.fillConvexPoly(drawn, np.rint((outline - (spot.x, spot.y)) * 16).astype(np.int32), 1, shift=4)
        # Its pixels outside the window count as unseen.
        whole = max(float(cv2.contourArea(outline.astype(np.float32))), float(drawn.sum()), 1.0)
        inside = float((drawn & spot.mask).sum())
        behind = 0.0 if around is None else float((drawn & around.certain & (1 - spot.mask)).sum())
        return _Found(
            pose,
            cost,
            min(inside / whole, 1.0),
            min((inside + behind) / whole, 1.0),
            1.0 - inside / spot.area,
            fitting,
        )

    def _believable(self, found: _Found, whole: bool, arm_known: bool, side: float) -> bool:
        least = MIN_VISIBLE_BEHIND if arm_known and found.explained > found.visible + 0.1 else MIN_VISIBLE
        height = (1.0 - found.pose[3]) * (self.camera.position[2] - side / 2)
        return (
            found.visible >= least
            and found.outside <= 0.2
            and found.fitting >= (MIN_FITTING_TILTED if whole else MIN_FITTING)
            and height <= MAX_LIFT
            and math.hypot(found.pose[0], found.pose[1]) <= REACH
        )

    def _shrunk(self, found: _Found, edges: Edges, side: float) -> tuple[_Found, Edges]:
        """Blur, or a dark face before a bright table, has moved the edge inward all round: by how much, the missing
        area tells. At the corners a wrong guess of it costs degrees."""
        outline = self._outline(found.pose, side).astype(np.float32)
        inset = (1.0 - found.visible) * cv2.contourArea(outline) / cv2.arcLength(outline, True)
        moved = replace(edges, inset=inset)
        starts = found.pose + np.outer([0.0, 0.25, -0.25], [0.0, 0.0, 1.0, 0.0])
        pose, cost, _ = self._fit(moved, starts, False, side)
        return (replace(found, pose=pose, cost=cost), moved) if cost < 1e29 else (found, edges)

    # Lifted cubes

    def _raised(
        self, spot: Spot, around: Surroundings | None, edges: Edges, starts: Array, seen: float, side: float
    ) -> _Found:
        starts = starts.copy()
        starts[:, 3] = 1.0 / math.sqrt(max(seen, 1.15))
        if around is not None and (height := float(around.tool[2])) > side:
            held = 1.0 - (height - side / 2) / (self.camera.position[2] - side / 2)
            if 0.3 < held < 1.0:
                starts = np.concatenate([starts, starts])
                starts[: len(starts) // 2, 3] = held
        return self._judge(spot, around, side, *self._fit(edges, starts, True, side))

    def _lifted(
        self,
        lying: _Found,
        raised: _Found,
        edges: Edges,
        around: Surroundings | None,
        unknown: float,
        side: float,
    ) -> float:
        """How likely it is that the cube is lifted, 0…1. `unknown`, 0…1: how much unknown things hide it."""
        if raised.cost > 1e29 or raised.pose[3] > 0.99:
            return 0.0
        gain = edges.likelihood(raised.cost - lying.cost, raised.noise)
        before = BEFORE["unknown"] + unknown * (BEFORE["near"] - BEFORE["unknown"])
        if around is not None:
            before = BEFORE["far"]
            if self._at_hand(raised, around, side):
                height, sigma = self._height(raised, edges, side)
                gap = float(around.tool[2]) - side / 2 - height
                before = BEFORE["near"] + 0.5 * gap**2 / (sigma**2 + HELD**2)
        return 1.0 / (1.0 + math.exp(min(max(before - gain, -50.0), 50.0)))

    def _at_hand(self, found: _Found, around: Surroundings, side: float) -> bool:
        """Whether the ray on which a cube is seen passes by the tool closely enough for the hand to hold it."""
        eye = self.camera.position
        ray = np.array([*found.pose[:2], side / 2]) - eye
        along = (around.tool - eye) @ ray / (ray @ ray)
        return float(np.linalg.norm(eye + along * ray - around.tool)) < GRASP

    # How well it is known

    def _solutions(
        self,
        best: _Found,
        spot: Spot,
        edges: Edges,
        high: bool,
        around: Surroundings | None,
        pixel: float,
        side: float,
    ) -> Sighting:
        """The best pose, lying or lifted, with a covariance that covers all likely ones, and these, where there are
        several."""
        whole = spot.symmetry > WHOLE
        if whole and not high and best.visible < 0.94 and best.outside < 0.03:
            best, edges = self._shrunk(best, edges, side)
        if (
            whole
            and best.explained > 0.7
            and best.outside + 1.0 - best.explained > 0.1
            and best.cost > MISFIT
        ):
            # All of a cube that is tilted in the gripper. However a cube is turned, its silhouette is symmetric
            # about its centre, which an upright model that does not fit can only miss.
            best.pose[:2] = self.camera.on_plane(spot.centre, side / 2)[:2]
            return self._sighting(
                best, np.diag([TILTED[0] ** 2] * 2 + [TILTED[1] ** 2]), high, edges, around, side
            )
        turn = math.pi / 2
        yaw = math.remainder(best.pose[2], turn)
        pose = best.pose.copy()
        pose[2] = yaw
        angles = np.sort(np.concatenate([yaw + FINE, yaw + _apart(PROFILE)]))
        poses, costs, spreads = self._profile(edges, pose, angles, best.noise, side)
        weights = np.exp(edges.likelihood(1.0, best.noise) * np.clip(costs - costs.min(), 0.0, 1e3))
        # Each angle stands for the way to its neighbours.
        around_it = np.concatenate([[angles[-1] - turn], angles, [angles[0] + turn]])
        weights *= 0.5 * (around_it[2:] - around_it[:-2])
        weights /= weights.sum()
        valley = _valleys(costs)
        floor = np.diag([(FLOOR * pixel) ** 2] * 2 + [(2 * FLOOR * pixel / side) ** 2])
        # What hides the cube here is not known, or it is tilted: the edges that do not fit may be the ones that count.
        doubt = max(best.doubt, best.missing(SEEN_WHOLE if whole else SEEN))
        floor += doubt**2 * np.diag([(0.25 * side) ** 2] * 2 + [TILTED[1] ** 2])
        if high:
            floor[2, 2] += TILTED[1] ** 2
        masses = {int(label): float(weights[valley == label].sum()) for label in np.unique(valley)}
        at = int(np.argmin(np.abs(angles - yaw)))
        everything = _moments(pose, poses, angles, spreads, weights) + floor
        main = self._sighting(best, everything, high, edges, around, side)
        likely = sorted(
            (mass, label) for label, mass in masses.items() if mass > LIKELY and label != valley[at]
        )
        alternatives: list[Sighting] = []
        for mass, label in [(masses.get(int(valley[at]), 0.0), int(valley[at])), *likely[::-1]][:3]:
            own = np.where(valley == label, weights, 0.0)
            k = int(np.argmin(np.where(valley == label, costs, np.inf)))
            if own.sum() <= 0.0 or any(
                abs(math.remainder(angles[k] - a.yaw, turn)) < APART for a in alternatives
            ):
                continue
            spread = _moments(poses[k], poses, angles, spreads, own / own.sum()) + floor
            one = self._sighting(replace(best, pose=poses[k]), spread, high, edges, around, side)
            alternatives.append(replace(one, confidence=mass * best.confidence))
        return replace(main, alternatives=tuple(alternatives)) if len(alternatives) > 1 else main

    def _profile(
        self, edges: Edges, pose: Array, angles: Array, noise: float, side: float
    ) -> tuple[Array, Array, Array]:
        return angle_profile(
            pose, edges.points, edges.kinds, angles, side, self._pose, self._focal, edges.inset, edges.tolerance,
            noise, edges.alike,
        )  # fmt: skip

    def _height(self, found: _Found, edges: Edges, side: float) -> tuple[float, float]:
        """How far a cube is above the table by its size, m, and the standard deviation of that."""
        spread = curvature(
            found.pose, 4, edges.points, edges.kinds, side, self._pose, self._focal, edges.inset, edges.tolerance,
            found.noise, edges.alike,
        )  # fmt: skip
        down = float(self.camera.position[2]) - side / 2
        return (1.0 - float(found.pose[3])) * down, math.sqrt(float(spread[3, 3])) * down

    def _sighting(
        self,
        found: _Found,
        spread: Array,
        high: bool,
        edges: Edges,
        around: Surroundings | None,
        side: float,
    ) -> Sighting:
        """What is reported. A lifted cube is on its ray, as far along as its size says, and the hand."""
        x, y, yaw, _ = found.pose
        table = np.array([x, y, side / 2])
        yaw = math.remainder(yaw, math.pi / 2)
        if not high:
            return Sighting(table, yaw, found.visible, found.confidence, spread)
        eye, down = self.camera.position, self.camera.position[2] - side / 2
        height, sigma = self._height(found, edges, side)
        if around is not None:
            gap = float(around.tool[2]) - side / 2 - height
            gain = sigma**2 / (sigma**2 + HELD**2)
            height, sigma = height + gain * gap, math.sqrt(1.0 - gain) * sigma
        s = 1.0 - height / down
        scale = np.diag([s, s, 1.0])
        covariance = scale @ spread @ scale
        ray = (table - eye)[:2] / down
        covariance[:2, :2] += sigma**2 * np.outer(ray, ray)
        place = eye + s * (table - eye)
        return Sighting(place, yaw, found.visible, found.confidence, covariance, (), 1.0, sigma)

    # Outlines

    def _outline(self, pose: Array, side: float) -> Array:
        """(m, 2) corners of the cube's outline, px of the real picture."""
        corners = np.empty((8, 2))
        count = cube_outline(pose, side, self._pose, self._focal, corners)
        rays = np.concatenate([corners[:count] / self._focal, np.ones((count, 1))], axis=1)
        return self.camera.project(self.camera.position + rays @ self.camera.rotation.T)

    def _area(self, pose: Array, side: float) -> float:
        outline = self._outline(pose, side)
        return max(float(cv2.contourArea(outline.astype(np.float32))), 1.0) if len(outline) > 2 else 1.0

    def _ideal(self, pixels: Array) -> Array:
        """Pixels of the real picture → those of an ideal one with its origin in the optical axis."""
        local = self.camera.pixel_rays(pixels) @ self.camera.rotation
        return np.ascontiguousarray(self._focal * local[:, :2] / local[:, 2:])


def _either(one: Sighting, other: Sighting, chance: float) -> Sighting:
    """The likelier of two sightings, with a covariance that covers the other, whose `chance` is 0…1, as well."""
    apart = np.array([*(other.position - one.position)[:2], math.remainder(other.yaw - one.yaw, math.pi / 2)])
    covariance = (1.0 - chance) * one.covariance + chance * (other.covariance + np.outer(apart, apart))
    first = (replace(one, alternatives=()),) if not one.alternatives else one.alternatives[:2]
    return replace(one, covariance=covariance, alternatives=(*first, replace(other, alternatives=())))


def _apart(angles: Array) -> Array:
    """Those that are not within the fine ones."""
    return angles[np.abs(angles) > FINE[-1] + 1e-9]


def _starts(centre: Array, size: float, seen: float) -> Array:
    """(K, 4) poses to begin the fit from: all angles, and places around when part of the cube is hidden."""
    yaws = np.deg2rad([0.0, 15.0, 30.0, 45.0, 60.0, 75.0])
    offsets = np.zeros((1, 2))
    if seen < 0.85:
        offsets = np.concatenate([offsets, 0.3 * size * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])])
        yaws = yaws[::2]
    return np.array([[centre[0] + dx, centre[1] + dy, yaw, 1.0] for dx, dy in offsets for yaw in yaws])


def _valleys(costs: Array) -> NDArray[np.int64]:
    """Which minimum each place of a circle of costs runs down to: the minimum's place."""
    n = len(costs)
    down = np.arange(n)
    before, after = np.roll(costs, 1), np.roll(costs, -1)
    down = np.where((before < costs) & (before <= after), np.arange(n) - 1, down)
    down = np.where((after < costs) & (after < before), np.arange(n) + 1, down) % n
    for _ in range(7):
        down = down[down]
    return down


def _moments(pose: Array, poses: Array, angles: Array, spreads: Array, weights: Array) -> Array:
    """(3, 3) mean square of what lies at `weights` about a pose: x, y, yaw."""
    turned = angles - pose[2]
    turned = turned - math.pi / 2 * np.rint(turned / (math.pi / 2))
    apart = np.concatenate([poses[:, :2] - pose[:2], turned[:, None]], axis=1)
    total = np.einsum("k,ki,kj->ij", weights, apart, apart)
    total[:2, :2] += np.einsum("k,kij->ij", weights, spreads)
    return np.asarray(total)
