"""How well the camera finds the cube and the mark: errors by condition, on drawn and on rendered pictures.

    python benchmarks/perception.py [--pictures N] [--seed S] [--json]

Drawn pictures come from a painter of their own (shaded polygons, projected with distortion), rendered ones from
the simulator with its arm in the way. Position errors are in the table's plane. "reported" counts pictures with a
detection; where nothing should be reported, that is the error.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np

from hardware.cameras.detector import Detector
from sim2real.camera import CameraModel
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task
from tests.hardware.drawing import Picture

OBJECTS = load_task("push").objects


@dataclass(frozen=True)
class Sample:
    """One picture with what is in it: cube (x, y) as a detector on the table sees it, yaw, mark; None if absent."""

    camera: CameraModel
    image: np.ndarray
    cube: np.ndarray | None
    yaw: float
    mark: np.ndarray | None


def scene(rng: np.random.Generator, camera: CameraModel) -> Picture:
    """Cube and mark where tasks put them, under a random light."""
    while True:
        radius, angle = rng.uniform(0.17, 0.27, 2), rng.uniform(-0.7, 0.7, 2)
        x, y = 0.04 + radius * np.cos(angle), radius * np.sin(angle)
        if math.hypot(x[0] - x[1], y[0] - y[1]) > 0.07:
            break
    return Picture(
        camera,
        cube=(float(x[0]), float(y[0]), 0.0125),
        yaw=rng.uniform(0, math.pi / 2),
        mark=(float(x[1]), float(y[1])),
        light=(rng.uniform(-1, 1), rng.uniform(-1, 1), 0.9),
        ambient=rng.uniform(0.35, 0.7),
        seed=int(rng.integers(1 << 30)),
    )


def anywhere(rng: np.random.Generator, width: int = 640, height: int = 480) -> CameraModel:
    """A camera some 0.5 m away from the workspace, on any side, with a real lens."""
    side, up = rng.uniform(-2.2, 2.2), rng.uniform(0.45, 1.4)
    eye = np.array([0.22, 0, 0]) + 0.55 * np.array(
        [math.cos(up) * math.cos(side), math.cos(up) * math.sin(side), math.sin(up)]
    )
    camera = CameraModel.looking_at(eye, (0.22, 0, 0), width=width, height=height, fov=math.radians(48))
    k1 = rng.uniform(-0.25, 0.1)
    return replace(camera, distortion=np.array([k1, -0.2 * k1, rng.normal(0, 1e-3), rng.normal(0, 1e-3), 0]))


def nominal(rng: np.random.Generator) -> CameraModel:
    return Robot.load("so101").cameras["front"]


def plain(rng: np.random.Generator) -> Picture:
    return scene(rng, nominal(rng))


def other_cameras(rng: np.random.Generator) -> Picture:
    return scene(rng, anywhere(rng))


def small_pictures(rng: np.random.Generator) -> Picture:
    return scene(rng, anywhere(rng, 320, 240))


def large_pictures(rng: np.random.Generator) -> Picture:
    return scene(rng, anywhere(rng, 1280, 960))


def lighting(rng: np.random.Generator) -> Picture:
    warm = rng.uniform(0.8, 1.2)
    gain = rng.uniform(0.4, 1.5) * np.array([warm, 1.0, 1 / warm])
    table = rng.uniform(0.3, 1.0) * np.array([210, 165 + rng.uniform(0, 40), 120 + rng.uniform(0, 80)])
    return replace(plain(rng), gain=tuple(gain), table=tuple(table), noise=5.0, blur=rng.uniform(0, 1.3))


ARMS = [(235, 235, 230), (240, 120, 30), (40, 80, 200), (40, 40, 45), (230, 190, 40)]


def arms_beside(rng: np.random.Generator) -> Picture:
    """Large parts of an arm of some colour (white, orange, blue, black, yellow) around and behind the cube."""
    picture = plain(rng)
    colour = ARMS[int(rng.integers(len(ARMS)))]
    x, y, _ = picture.cube
    away = np.array([x, y]) - picture.camera.position[:2]
    away /= np.linalg.norm(away)
    blocks = [
        ((0.03, 0.0, 0.04), (0.05, 0.05, 0.04), colour),
        ((x + 0.06 * away[0], y + 0.06 * away[1], 0.05), (0.02, 0.02, 0.05), colour),
    ]
    return replace(picture, blocks=blocks)


def clutter(rng: np.random.Generator) -> Picture:
    """Red and green things of the wrong size, and other colours."""
    picture = plain(rng)
    blocks = []
    for half, colour in [
        ((0.05, 0.03, 0.03), (190, 25, 30)),
        ((0.006, 0.006, 0.006), (200, 30, 30)),
        ((0.01, 0.01, 0.01), (40, 150, 60)),
        ((0.015, 0.015, 0.015), (230, 120, 30)),
        ((0.08, 0.004, 0.004), (200, 30, 40)),
    ]:
        for _ in range(100):
            place = np.array([rng.uniform(0.1, 0.4), rng.uniform(-0.28, 0.28)])
            others = [picture.cube[:2], picture.mark, *(b[0][:2] for b in blocks)]
            if min(np.linalg.norm(place - np.array(o)) for o in others) > 0.09:
                blocks.append(((*place, half[2]), half, colour))
                break
    return replace(picture, blocks=blocks)


def partly_hidden(rng: np.random.Generator) -> Picture:
    """A finger across the cube that hides about a quarter of it."""
    return _finger(plain(rng), rng, 0.3)


def half_hidden(rng: np.random.Generator) -> Picture:
    """One side of the cube hidden, up to 45 %."""
    return _finger(plain(rng), rng, 1.0)


def _finger(picture: Picture, rng: np.random.Generator, width: float) -> Picture:
    camera = picture.camera
    centre = camera.project(picture.cube)
    pixels = camera.fx * 0.025 / np.linalg.norm(np.array(picture.cube) - camera.position)
    turn = rng.uniform(-0.6, 0.6)
    along = np.array([math.sin(turn), -math.cos(turn)])
    across = np.array([along[1], -along[0]]) * (1 if rng.random() < 0.5 else -1)
    if width < 0.5:
        shift = across * rng.uniform(-0.7, 0.7) * pixels
    else:
        shift = across * (0.5 * width + rng.uniform(0.05, 0.4)) * pixels * 1.2
    colour = ARMS[int(rng.integers(len(ARMS)))]
    a, b = centre + shift + 0.9 * pixels * along * -1, centre + shift + 4 * pixels * along
    return replace(picture, bars=[(tuple(a), tuple(b), width * pixels * 1.2, colour)])


def lifted(rng: np.random.Generator) -> Picture:
    picture = plain(rng)
    return replace(picture, cube=(*picture.cube[:2], 0.0125 + rng.uniform(0.02, 0.08)), shadow=False)


def absent(rng: np.random.Generator) -> Picture:
    """No cube, no mark, but red and orange things of other sizes."""
    picture = clutter(rng)
    return replace(picture, cube=None, mark=None)


def drawn(make: Callable[[np.random.Generator], Picture], count: int, seed: int) -> Iterator[Sample]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        picture = make(rng)
        cube = None
        if picture.cube is not None:
            cube = picture.camera.seen_on_plane(picture.cube, 0.0125)[:2]
        mark = None if picture.mark is None else np.array(picture.mark)
        yield Sample(picture.camera, picture.draw(), cube, picture.yaw, mark)


def rendered(everything: bool, count: int, seed: int) -> Iterator[Sample]:
    """The simulator's pictures; with `everything`, its default randomization of camera, light and colours."""
    from sim2real.parameters import Draw
    from sim2real.simulation.world import World

    world = World("so101", load_task("push"))
    rng = np.random.default_rng(seed)
    families = ("task", "camera", "light", "colour", "texture") if everything else ("task",)
    for i in range(count):
        values = {
            p.name: rng.uniform(p.low, p.high)
            for p in world.parameters.values()
            if p.randomized and p.name.split(".")[0] in families
        }
        world.reset(Draw(i, i, values))
        truth, camera = world.truth(), world.camera()
        image = np.ascontiguousarray(world.render()[..., ::-1])
        yield Sample(
            camera,
            image,
            truth.objects["cube"].position[:2],
            world.scene.poses["cube"].yaw,
            truth.objects["mark"].position[:2],
        )
    world.close()


def measure(samples: Iterator[Sample]) -> dict[str, object]:
    """Errors over samples: mm and degrees, medians and 95th percentiles; processor time, ms."""
    position, yaw, mark, seconds = [], [], [], []
    count = cubes = marks = 0
    for sample in samples:
        detector = Detector(sample.camera, OBJECTS)
        detector.detect(sample.image)
        start = time.thread_time()
        percept = detector.detect(sample.image)
        seconds.append(time.thread_time() - start)
        count += 1
        cube, found = percept.objects.get("cube"), percept.objects.get("mark")
        cubes += cube is not None
        marks += found is not None
        if cube is not None and sample.cube is not None:
            position.append(float(np.hypot(*(cube.position[:2] - sample.cube))) * 1000)
            turned = (cube.yaw - sample.yaw + math.pi / 4) % (math.pi / 2) - math.pi / 4
            yaw.append(abs(math.degrees(turned)))
        if found is not None and sample.mark is not None:
            mark.append(float(np.hypot(*(found.position[:2] - sample.mark))) * 1000)

    def spread(values: list[float]) -> list[float] | None:
        return [float(np.median(values)), float(np.quantile(values, 0.95)), max(values)] if values else None

    return {
        "pictures": count,
        "cube_reported": cubes / count,
        "mark_reported": marks / count,
        "position_mm": spread(position),
        "yaw_deg": spread(yaw),
        "mark_mm": spread(mark),
        "ms": float(np.median(seconds) * 1000),
    }


DRAWN = [
    plain,
    other_cameras,
    small_pictures,
    large_pictures,
    lighting,
    arms_beside,
    clutter,
    partly_hidden,
    half_hidden,
    lifted,
    absent,
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=60, help="pictures per condition")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    results = {make.__name__: measure(drawn(make, args.pictures, args.seed)) for make in DRAWN}
    results["rendered"] = measure(rendered(False, args.pictures, args.seed))
    results["rendered, all drawn"] = measure(rendered(True, args.pictures, args.seed))
    if args.json:
        print(json.dumps(results, indent=2))
        return
    print(
        f"{'median / 95 % / max':22}{'cube':>6}{'position mm':>22}{'yaw deg':>22}{'mark':>6}{'mark mm':>20}{'ms':>6}"
    )
    for name, row in results.items():
        cells = [
            " / ".join(f"{value:.2f}" for value in row[key]) if row[key] else "-"
            for key in ("position_mm", "yaw_deg", "mark_mm")
        ]
        print(
            f"{name:22}{row['cube_reported']:>6.0%}{cells[0]:>22}{cells[1]:>22}"
            f"{row['mark_reported']:>6.0%}{cells[2]:>20}{row['ms']:>6.1f}"
        )


if __name__ == "__main__":
    main()
