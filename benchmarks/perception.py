"""How well the camera finds the cube and the mark, how well it knows that, and what is believed over time.

    python benchmarks/perception.py [--pictures N] [--episodes N] [--seed S] [--json]

Single pictures: drawn ones come from a painter of their own (shaded polygons, projected with distortion), rendered
ones from the simulator with its arm in the way. Position errors are in the table's plane. "cube" counts pictures with
a detection; where nothing should be reported, that is the error. "95 %" is how many errors in x, y and yaw lie inside
the ellipse that should hold 95 % of them.

Sequences: every fifth of a second a picture (320 x 240, JPEG) of a hand that grasps a cube and lifts it, through the
detector and the tracker, with the arm's joints known and without. Rendered here, and, where SIM2REAL_REAL_DATA names
the folder of published data, `foreign_camera` there. Of cubes that lie on the table: how many are believed within
2 mm and 8°, how many beliefs lie inside their ellipse, and how many are off by more than 4 mm or 15° without saying so
(by more than their 95 % ellipse's radius).
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np

from hardware.cameras.detector import Detector
from sim2real.camera import CameraModel, load_cameras
from sim2real.robot import Robot
from sim2real.tasks.registry import load_task
from sim2real.tracking import Hand, PerceptTracker
from tests.hardware.drawing import Picture

OBJECTS = load_task("push").objects
CHI2_95, CHI2_95_2 = 7.815, 5.991
"""Squared Mahalanobis distances within which 95 % of errors in three and in two numbers lie."""


@dataclass(frozen=True)
class Sample:
    """One picture with what is in it: cube (x, y), yaw, mark; None if absent."""

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
            cube = np.array(picture.cube[:2])
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
    position, yaw, mark, seconds, inside = [], [], [], [], []
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
            error = np.array([*(cube.position[:2] - sample.cube), turned])
            inside.append(float(error @ np.linalg.solve(cube.covariance, error) < CHI2_95))
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
        "inside_ellipse": float(np.mean(inside)) if inside else None,
        "mark_mm": spread(mark),
        "ms": float(np.median(seconds) * 1000),
    }


@dataclass(frozen=True)
class Moment:
    """One picture of a sequence: its camera and time, s, the arm's joints (n,) rad, and the cube's true place (3,) m
    and rotation (3, 3). `begins`: a new sequence begins with it."""

    begins: bool
    camera: CameraModel
    time: float
    image: np.ndarray
    joints: np.ndarray
    place: np.ndarray
    rotation: np.ndarray

    @property
    def lies(self) -> bool:
        """Whether the cube lies flat on the table."""
        return bool(self.place[2] < 0.0135 and np.abs(self.rotation[2]).max() > 0.999)

    @property
    def yaw(self) -> float:
        axis = int(np.argmin(np.abs(self.rotation[2])))
        return math.atan2(self.rotation[1, axis], self.rotation[0, axis])


EVERY = 6
"""Policy periods between the pictures of a sequence."""
QUALITY = 80
LIFTING = 4.0
"""s of a sequence: until the cube is up."""


def lifting(episodes: int, seed: int) -> Iterator[Moment]:
    """The simulated arm lifts cubes, seen from somewhere in front or at a side, with light and colours drawn."""
    from sim2real.parameters import Draw
    from sim2real.simulation.world import World

    robot, task, rng = Robot.load("so101"), load_task("lift"), np.random.default_rng(seed)
    for i in range(episodes):
        side, up = rng.uniform(-1.3, 1.3), rng.uniform(0.6, 1.2)
        away = np.array([math.cos(up) * math.cos(side), math.cos(up) * math.sin(side), math.sin(up)])
        eye = np.array([0.22, 0.0, 0.0]) + rng.uniform(0.4, 0.55) * away
        camera = CameraModel.looking_at(eye, (0.22, 0, 0.02), width=320, height=240, fov=math.radians(58))
        with World(robot, task, cameras={"front": camera}) as world:
            values = {
                p.name: rng.uniform(p.low, p.high)
                for p in world.parameters.values()
                if p.randomized and p.name.split(".")[0] in ("task", "light", "colour", "texture")
            }
            world.reset(Draw(i, seed + i, values))
            expert = task.expert(robot)
            expert.reset(i)
            for k in range(int(LIFTING * robot.policy_rate)):
                if k % EVERY == 0:
                    picture = np.ascontiguousarray(world.render()[..., ::-1])
                    _, packed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
                    cube = world.truth().objects["cube"]
                    image = cv2.imdecode(packed, cv2.IMREAD_COLOR)
                    yield Moment(
                        k == 0,
                        world.camera(),
                        world.time,
                        image,
                        world.position,
                        cube.position,
                        cube.rotation,
                    )
                action = expert.act(world.observe(privileged=True))[0]
                world.advance(action, robot.physics_rate // robot.policy_rate)


def foreign(folder: Path) -> Iterator[Moment]:
    """Pictures by another renderer. The number in a file's name counts policy periods."""
    for path in sorted(folder.glob("truth_*.json")):
        before = ""
        for row in json.loads(path.read_text()):
            stem = Path(row["file"]).stem
            episode, number = stem.rsplit("_", 1)
            (camera,) = load_cameras(folder / row["camera"]).values()
            w, x, y, z = row["quat"]
            rotation = np.array(
                [
                    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
                ]
            )
            image = cv2.imread(str(folder / row["file"]))
            place, joints = np.array(row["cube"]), np.array(row["q"])
            yield Moment(episode != before, camera, int(number) / 30, image, joints, place, rotation)
            before = episode


def followed(moments: Iterator[Moment], joints_known: bool) -> dict[str, object]:
    """Sequences through detector and tracker: what is believed of the cube, and what single pictures say."""
    robot = Robot.load("so101")
    believed, single, raised, seconds = [], [], [], []
    pictures = 0
    for moment in moments:
        if moment.begins:
            detector = Detector(moment.camera, OBJECTS, robot if joints_known else None)
            detector.warm_up()
            tracker = PerceptTracker(OBJECTS)
        pictures += 1
        hand = Hand.of(robot, moment.joints) if joints_known else None
        joints = moment.joints if joints_known else None
        if hand is not None:
            tracker.follow(moment.time, hand)
        start = time.thread_time()
        percept = detector.detect(moment.image, moment.time, joints)
        seconds.append(time.thread_time() - start)
        tracker.add(percept, hand)
        entries = tracker.entries(moment.time)
        cosine, sine = entries["object.cube.yaw"]
        place = entries["object.cube.position"]
        place_spread, yaw_spread = entries["object.cube.spread"]
        off = float(np.hypot(*(place - moment.place)[:2]))
        turned = abs(math.remainder(math.atan2(sine, cosine) / 4 - moment.yaw, math.pi / 2))
        if not tracker.tracks["cube"].seen:
            continue
        if not moment.lies:
            fresh = entries["object.cube.age"][0] < 0.1
            behind = fresh and moment.place[2] > 0.04 and place[2] < 0.02 and off > 0.02
            raised.append((off, abs(place[2] - moment.place[2]), behind))
            continue
        inside = (off / place_spread) ** 2 / 2 < CHI2_95_2 / 2 and turned < 1.96 * yaw_spread
        unsaid = (off > 0.004 and off > 2.45 * place_spread) or (
            turned > math.radians(15) and turned > 1.96 * yaw_spread
        )
        believed.append((off, turned, inside, unsaid))
        if (cube := percept.objects.get("cube")) is not None:
            turn = math.remainder(cube.yaw - moment.yaw, math.pi / 2)
            error = np.array([*(cube.position - moment.place)[:2], turn])
            single.append((cube.visible, error @ np.linalg.solve(cube.covariance, error) < CHI2_95))
    off, turned, inside, unsaid = np.array(believed, dtype=np.float64).T
    visible, covered = np.array(single, dtype=np.float64).T
    high = np.array(raised, dtype=np.float64)
    return {
        "pictures": pictures,
        "lying": len(off),
        "within_2mm_8deg": float(((off <= 0.002) & (np.degrees(turned) <= 8)).mean()),
        "believed_inside": float(inside.mean()),
        "unsaid": int(unsaid.sum()),
        "ellipse": float(covered.mean()),
        "ellipse_hidden": float(covered[visible < 0.8].mean()) if (visible < 0.8).any() else None,
        "lifted_off_mm": float(np.median(high[:, 0]) * 1000) if len(high) else None,
        "lifted_height_off_mm": float(np.median(high[:, 1]) * 1000) if len(high) else None,
        "lifted_behind": int(high[:, 2].sum()) if len(high) else 0,
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
    parser.add_argument("--episodes", type=int, default=10, help="rendered sequences")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    results = {make.__name__: measure(drawn(make, args.pictures, args.seed)) for make in DRAWN}
    results["rendered"] = measure(rendered(False, args.pictures, args.seed))
    results["rendered, all drawn"] = measure(rendered(True, args.pictures, args.seed))
    sequences = {}
    folder = Path(os.environ.get("SIM2REAL_REAL_DATA", "")) / "foreign_camera"
    there = "SIM2REAL_REAL_DATA" in os.environ and folder.is_dir()
    for known in (True, False):
        end = "joints known" if known else "joints unknown"
        sequences[f"rendered, {end}"] = followed(lifting(args.episodes, args.seed), known)
        if there:
            sequences[f"foreign_camera, {end}"] = followed(foreign(folder), known)
    if args.json:
        print(json.dumps({"pictures": results, "sequences": sequences}, indent=2))
        return
    print(
        f"{'median / 95 % / max':22}{'cube':>6}{'position mm':>22}{'yaw deg':>22}{'95 %':>6}{'mark':>6}{'mark mm':>20}"
        f"{'ms':>6}"
    )
    for name, row in results.items():
        cells = [
            " / ".join(f"{value:.2f}" for value in row[key]) if row[key] else "-"
            for key in ("position_mm", "yaw_deg", "mark_mm")
        ]
        print(
            f"{name:22}{row['cube_reported']:>6.0%}{cells[0]:>22}{cells[1]:>22}"
            f"{_percent(row['inside_ellipse']):>6}{row['mark_reported']:>6.0%}{cells[2]:>20}{row['ms']:>6.1f}"
        )
    print(
        f"\n{'after tracking':32}{'lying':>6}{'2mm,8°':>8}{'inside':>8}{'unsaid':>8}{'pictures: inside':>18}"
        f"{'hidden':>8}{'lifted: mm':>12}{'height mm':>11}{'behind':>8}{'ms':>6}"
    )
    for name, row in sequences.items():
        high = [
            f"{row[key]:.1f}" if row[key] is not None else "-"
            for key in ("lifted_off_mm", "lifted_height_off_mm")
        ]
        print(
            f"{name:32}{row['lying']:>6}{row['within_2mm_8deg']:>8.1%}{row['believed_inside']:>8.1%}{row['unsaid']:>8}"
            f"{row['ellipse']:>18.1%}{_percent(row['ellipse_hidden']):>8}{high[0]:>12}{high[1]:>11}"
            f"{row['lifted_behind']:>8}{row['ms']:>6.1f}"
        )
    if not there:
        print("foreign_camera is left out: SIM2REAL_REAL_DATA does not name a folder that holds it")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


if __name__ == "__main__":
    main()
