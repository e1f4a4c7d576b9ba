"""Where a cube or a disc of known size must lie for its outline in a picture to be what it is. Compiled.

The outline is given as points of three kinds. An `EDGE` is where the object's colour ends; when something unknown
hides the object, it lies *inside* the true outline, so edges inside count less the further in they are, while edges
outside, which nothing can explain, count fully. At a `HIDING` edge something known begins that is in front of the
object: the outline may run anywhere beyond. `BARE` points are known to show neither the object nor what hides it: the
outline must not contain them. The fit is Gauss–Newton with such weights (iteratively reweighted least squares), from
several starts, because the outline of a cube looks similar under several angles.

How well the pose is known follows from the cost along the angle (`angle_profile`): at each angle the best place, its
cost and its curvature, so that a flat cost, and several minima, are seen as what they are.

A cube stands upright. Its pose is (x, y, yaw, s): (x, y) is where the camera sees its centre on the plane half
a cube above the table, and s says how far along that ray it really is: 1 on the table, less when it was
lifted towards the camera. So a lifted cube has the (x, y) that a detector which knows only the table reports.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit

Array = NDArray[np.float64]
Kinds = NDArray[np.int8]

EDGE, HIDING, BARE = 0, 1, 2

_HUBER = 2.0
"""Distances outside beyond this many pixels count linearly."""


@njit(cache=True, nogil=True)
def cube_outline(pose: Array, size: float, camera: Array, focal: float, outline: Array) -> int:
    """The convex outline of a cube in an ideal (undistorted, centred) picture.

    `pose` is (x, y, yaw, s), `size` the side in m, `camera` (4, 4) `camera_to_base`. Writes the corners, in
    pixels at `focal` pixels, into `outline` (8, 2) in order and returns how many there are; 0 when the cube
    is not in front of the camera.
    """
    half = size / 2
    ox, oy, oz = camera[0, 3], camera[1, 3], camera[2, 3]
    cx = ox + pose[3] * (pose[0] - ox)
    cy = oy + pose[3] * (pose[1] - oy)
    cz = oz + pose[3] * (half - oz)
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    points = np.empty((8, 2))
    for k in range(8):
        a = half if k & 1 else -half
        b = half if k & 2 else -half
        x = cx + a * cos - b * sin - ox
        y = cy + a * sin + b * cos - oy
        z = cz + (half if k & 4 else -half) - oz
        depth = camera[0, 2] * x + camera[1, 2] * y + camera[2, 2] * z
        if depth < 1e-3:
            return 0
        points[k, 0] = focal * (camera[0, 0] * x + camera[1, 0] * y + camera[2, 0] * z) / depth
        points[k, 1] = focal * (camera[0, 1] * x + camera[1, 1] * y + camera[2, 1] * z) / depth
    # Gift wrapping: eight points, at most six of them on the outline.
    first = 0
    for k in range(1, 8):
        if points[k, 0] < points[first, 0]:
            first = k
    current, count = first, 0
    while True:
        outline[count] = points[current]
        count += 1
        following = 0 if current != 0 else 1
        for k in range(8):
            if k == current:
                continue
            cross = (points[following, 0] - points[current, 0]) * (points[k, 1] - points[current, 1]) - (
                points[following, 1] - points[current, 1]
            ) * (points[k, 0] - points[current, 0])
            if cross < 0.0:
                following = k
        current = following
        if current == first or count == 8:
            return count


@njit(cache=True, nogil=True)
def _distances(points: Array, outline: Array, count: int, result: Array) -> None:
    """Distance of each point from the convex outline: positive outside, negative inside."""
    edges = np.empty((count, 5))
    used = 0
    for k in range(count):
        ax, ay = outline[k]
        bx, by = outline[(k + 1) % count]
        length = math.sqrt((bx - ax) ** 2 + (by - ay) ** 2)
        if length >= 1e-12:
            edges[used, 0], edges[used, 1], edges[used, 4] = ax, ay, length
            edges[used, 2], edges[used, 3] = (bx - ax) / length, (by - ay) / length
            used += 1
    for i in range(len(points)):
        x, y = points[i, 0], points[i, 1]
        inside = -1e30
        for k in range(used):
            # Corners run so that the inside is on the left of each edge.
            inside = max(inside, (x - edges[k, 0]) * edges[k, 3] - (y - edges[k, 1]) * edges[k, 2])
        if inside > 0.0:
            nearest = 1e30
            for k in range(used):
                px, py = x - edges[k, 0], y - edges[k, 1]
                along = min(max(px * edges[k, 2] + py * edges[k, 3], 0.0), edges[k, 4])
                dx, dy = px - along * edges[k, 2], py - along * edges[k, 3]
                nearest = min(nearest, dx * dx + dy * dy)
            inside = math.sqrt(nearest)
        result[i] = inside


@njit(cache=True, nogil=True)
def _loss(distance: float, scale: float, kind: int = EDGE) -> tuple[float, float]:
    """(cost, weight) of a point at `distance` outside the outline; `scale` is how far inside an edge counts."""
    if kind == BARE:
        distance = -distance
    if distance >= 0.0:
        if distance <= _HUBER:
            return distance * distance, 1.0
        return _HUBER * (2.0 * distance - _HUBER), _HUBER / distance
    if kind != EDGE:
        return 0.0, 0.0
    square = distance * distance / (scale * scale)
    return distance * distance / (1.0 + square), 1.0 / (1.0 + square) ** 2


@njit(cache=True, nogil=True)
def _residuals(
    pose: Array, points: Array, size: float, camera: Array, focal: float, inset: float, result: Array
) -> bool:
    outline = np.empty((8, 2))
    count = cube_outline(pose, size, camera, focal, outline)
    if count < 3:
        return False
    _distances(points, outline, count, result)
    result += inset
    return True


@njit(cache=True, nogil=True)
def _cost(distances: Array, kinds: Kinds, scale: float) -> float:
    """Mean over the points on the outline, px²."""
    total, count = 0.0, 0
    for i in range(len(distances)):
        total += _loss(distances[i], scale, kinds[i])[0]
        count += kinds[i] != BARE
    return total / max(count, 1)


@njit(cache=True, nogil=True)
def _descend(
    pose: Array,
    free: int,
    points: Array,
    kinds: Kinds,
    size: float,
    camera: Array,
    focal: float,
    inset: float,
    scale: float,
    steps: int,
) -> float:
    """Improve `pose` in place over its first `free` numbers; returns the cost (mean, px²)."""
    n = len(points)
    now, moved = np.empty(n), np.empty(n)
    jacobian = np.empty((n, free))
    delta = np.array([1e-5, 1e-5, 1e-4, 1e-4])
    if not _residuals(pose, points, size, camera, focal, inset, now):
        return 1e30
    cost, damping = _cost(now, kinds, scale), 1e-3
    trial = pose.copy()
    for _ in range(steps):
        for j in range(free):
            trial[:] = pose
            trial[j] += delta[j]
            if not _residuals(trial, points, size, camera, focal, inset, moved):
                return 1e30
            jacobian[:, j] = (moved - now) / delta[j]
        normal, gradient = np.zeros((free, free)), np.zeros(free)
        for i in range(n):
            weight = _loss(now[i], scale, kinds[i])[1]
            for a in range(free):
                gradient[a] += weight * jacobian[i, a] * now[i]
                for b in range(free):
                    normal[a, b] += weight * jacobian[i, a] * jacobian[i, b]
        improved = False
        for _ in range(4):
            system = normal.copy()
            for a in range(free):
                system[a, a] += damping * normal[a, a] + 1e-9
            step = np.linalg.solve(system, gradient)
            trial[:] = pose
            trial[:free] -= step
            if free == 4:
                trial[3] = min(max(trial[3], 0.3), 1.02)
            if _residuals(trial, points, size, camera, focal, inset, moved):
                candidate = _cost(moved, kinds, scale)
                if candidate < cost:
                    improved = cost - candidate > 1e-6 * cost
                    pose[:], now[:], cost = trial, moved, candidate
                    damping = max(damping / 5, 1e-6)
                    break
            damping *= 8
        if not improved:
            break
    return cost


@njit(cache=True, nogil=True)
def fit_cube(
    points: Array,
    kinds: Kinds,
    starts: Array,
    lifted: bool,
    size: float,
    camera: Array,
    focal: float,
    inset: float,
    tolerance: float,
) -> tuple[Array, float, float]:
    """The pose whose outline fits `points` (N, 2) of `kinds` (N,), the mean cost in px², and how many fit it.

    Points and `focal` are in pixels of an ideal picture with its origin in the optical axis. `starts` (K, 4)
    are the poses to begin from; the best are followed to the end. `lifted` leaves the distance free. `inset`
    is how far edges lie inside the true outline on average, px; edges further inside than a few times
    `tolerance`, px, are taken for those of what hides the cube. The last number returned is the fraction of
    edges within two tolerances of the outline, and of hiding ones inside it. The cost is 1e30 when no start was
    possible.
    """
    free = 4 if lifted else 3
    poses, costs = starts.copy(), np.empty(len(starts))
    distances = np.empty(len(points))
    for k in range(len(starts)):
        # First from afar, then judged by what counts in the end.
        costs[k] = _descend(poses[k], free, points, kinds, size, camera, focal, inset, 3 * tolerance, 3)
        if costs[k] < 1e29:
            _residuals(poses[k], points, size, camera, focal, inset, distances)
            costs[k] = _cost(distances, kinds, tolerance)
    order = np.argsort(costs)
    for k in order[:2]:
        if costs[k] < 1e29:
            costs[k] = _descend(poses[k], free, points, kinds, size, camera, focal, inset, tolerance, 12)
    best = int(np.argmin(costs))
    if costs[best] > 1e29:
        return poses[best], costs[best], 0.0
    _residuals(poses[best], points, size, camera, focal, inset, distances)
    fitting = outline = 0
    for i in range(len(points)):
        if kinds[i] != BARE:
            outline += 1
            fitting += distances[i] < 2 * tolerance and (kinds[i] == HIDING or distances[i] > -2 * tolerance)
    return poses[best], costs[best], fitting / max(outline, 1)


@njit(cache=True, nogil=True)
def angle_profile(
    best: Array,
    points: Array,
    kinds: Kinds,
    angles: Array,
    size: float,
    camera: Array,
    focal: float,
    inset: float,
    tolerance: float,
    blur: float,
    alike: float,
) -> tuple[Array, Array, Array]:
    """The best places at all `angles` (K,) rad in ascending order: poses (K, 4), costs (K,), covariances (K, 2, 2).

    The covariances are of x and y, m², from the cost's curvature, for edges that are uncertain by `blur` px each and
    half as much again all together, of which `alike` in a row count as one.
    """
    count = len(angles)
    poses, costs, spreads = np.empty((count, 4)), np.full(count, 1e30), np.zeros((count, 2, 2))
    nearest = int(np.argmin(np.abs(angles - best[2])))
    for way in (1, -1):
        start = best.copy()
        k = nearest if way == 1 else nearest - 1
        while 0 <= k < count:
            start[2] = angles[k]
            costs[k] = _descend(start, 2, points, kinds, size, camera, focal, inset, tolerance, 6)
            poses[k] = start
            k += way
    for k in range(count):
        if costs[k] < 1e29:
            spreads[k] = curvature(
                poses[k], 2, points, kinds, size, camera, focal, inset, tolerance, blur, alike
            )
    return poses, costs, spreads


@njit(cache=True, nogil=True)
def curvature(
    pose: Array,
    free: int,
    points: Array,
    kinds: Kinds,
    size: float,
    camera: Array,
    focal: float,
    inset: float,
    tolerance: float,
    blur: float,
    alike: float,
) -> Array:
    """(free, free) covariance of a pose's first `free` numbers by the cost's curvature there; see `angle_profile`."""
    n = len(points)
    now, moved = np.empty(n), np.empty(n)
    jacobian = np.ones((n, free + 1))  # the last: all edges lie too far in, or out
    delta = np.array([1e-5, 1e-5, 1e-4, 1e-4])
    normal = np.zeros((free + 1, free + 1))
    if _residuals(pose, points, size, camera, focal, inset, now):
        for j in range(free):
            trial = pose.copy()
            trial[j] += delta[j]
            _residuals(trial, points, size, camera, focal, inset, moved)
            jacobian[:, j] = (moved - now) / delta[j]
        for i in range(n):
            # What counts on one side only, and just does not, would count a little further on.
            aside = 1.0 if kinds[i] == HIDING else -1.0 if kinds[i] == BARE else 0.0
            weight = _loss(now[i] + aside, tolerance, kinds[i])[1] / (alike * blur * blur)
            for a in range(free + 1):
                for b in range(free + 1):
                    normal[a, b] += weight * jacobian[i, a] * jacobian[i, b]
    # What is known beforehand: a place within the object itself, any angle, a distance.
    for a in range(free):
        normal[a, a] += (0.5 * size) ** -2 if a < 2 else 1.0 if a == 2 else 10.0**2
    normal[free, free] += 0.5 / (blur * blur)
    return np.ascontiguousarray(np.linalg.inv(normal)[:free, :free])


@njit(cache=True, nogil=True)
def fit_disc(
    points: Array, starts: Array, radius: float, inset: float, tolerance: float
) -> tuple[Array, float, float]:
    """The centre of a disc of known `radius` whose rim runs through `points` (N, 2), all in m on its plane.

    Arguments and results as in `fit_cube`, in m: centre (2,), mean cost in units of `tolerance`², and the
    fraction of points on the rim.
    """
    best, lowest = starts[0].copy(), 1e30
    for k in range(len(starts)):
        centre = starts[k].copy()
        cost = 1e30
        for _ in range(25):
            xx = xy = yy = gx = gy = total = 0.0
            for i in range(len(points)):
                dx, dy = points[i, 0] - centre[0], points[i, 1] - centre[1]
                distance = math.sqrt(dx * dx + dy * dy) + 1e-12
                residual = (distance - radius + inset) / tolerance
                square, weight = _loss(residual, 1.0, EDGE)
                total += square
                dx, dy = -dx / distance / tolerance, -dy / distance / tolerance
                xx += weight * dx * dx
                xy += weight * dx * dy
                yy += weight * dy * dy
                gx += weight * dx * residual
                gy += weight * dy * residual
            total /= len(points)
            if total > cost - 1e-7:
                break
            cost = total
            if cost < lowest:
                lowest = cost
                best[:] = centre
            xx, yy = xx * 1.001 + 1e-9, yy * 1.001 + 1e-9
            determinant = xx * yy - xy * xy
            centre[0] -= (yy * gx - xy * gy) / determinant
            centre[1] -= (xx * gy - xy * gx) / determinant
    near = 0
    for i in range(len(points)):
        distance = math.sqrt((points[i, 0] - best[0]) ** 2 + (points[i, 1] - best[1]) ** 2)
        near += abs(distance - radius + inset) < 2 * tolerance
    return best, lowest, near / len(points)
