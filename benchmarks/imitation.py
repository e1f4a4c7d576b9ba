"""The imitated detector against the real one, on the same scenes: errors by how much of the cube is seen.

    python benchmarks/imitation.py --rows rows.npy --episodes 40    # look at rendered pictures, add to the rows
    python benchmarks/imitation.py --rows rows.npy --fit            # write sim2real/simulation/detector_errors.json
    python benchmarks/imitation.py --rows rows.npy [--json]         # compare: quantiles, real and imitated

The expert lifts a cube in default draws, with everything that changes pictures drawn as well: cameras anywhere (240 to
400 rows), light, colours, noise, compression. At every third policy step near the cube, and a few others, the
picture is rendered and given to the detector of real cameras with the sensed joint angles. The camera stands where
it is described; errors of calibration are parameters of their own.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

Array = np.ndarray
COLUMNS = (
    "episode", "time", "visible", "shift_x", "shift_y", "height", "near", "pixel", "side", "found", "error_x",
    "error_y", "error_z", "error_yaw", "said_visible", "spread", "spread_yaw", "lifted",
)  # fmt: skip
EDGES = (0.15, 0.4, 0.55, 0.7, 0.85, 0.999, 1.0)
LEVELS = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.97, 1.0)
HEIGHTS = (-1.0, 0.006, 0.012, 0.025, 0.05)
LYING = 0.003
SEED = 77
OUT = Path(__file__).resolve().parents[1] / "sim2real" / "simulation" / "detector_errors.json"


def collect(path: Path, episodes: int) -> None:
    """Add the rows of so many more episodes to the file."""
    import cv2

    from hardware.cameras.detector import Detector
    from randomization.space import Space
    from sim2real.parameters import Draw
    from sim2real.simulation.rollout import rollout
    from sim2real.simulation.sensing import object_yaw
    from sim2real.simulation.visibility import Visibility
    from sim2real.simulation.world import World
    from sim2real.tasks.registry import load_task

    cv2.setNumThreads(1)
    old = np.load(path) if path.exists() else np.zeros((0, len(COLUMNS)))
    first = int(old[:, 0].max()) + 1 if len(old) else 0
    world = World("so101", load_task("lift"))
    names = ("x", "y", "z", "pitch", "yaw", "roll", "drift", "drift_turn", "distortion")
    exact = {f"camera.{name}": 0.0 for name in names} | {"camera.focal": 1.0, "world.table_height": 0.0}
    expert = world.task.expert(world.robot)
    for draw in Space().bind(world.parameters).draws(first + episodes, seed=SEED)[first:]:
        rows_of_picture = 240 + (draw.values["camera.resolution"] - 240) / 3
        values = {**draw.values, **exact, "camera.resolution": rows_of_picture}
        world.reset(Draw(draw.index, draw.seed, values))
        camera = world.cameras.described("front")
        detector = Detector(camera, world.task.objects, world.robot)
        seeing = Visibility(world.bodies, camera)
        rows: list[list[float]] = []

        def look(
            step: int,
            *_: object,
            camera=camera,
            detector=detector,
            seeing=seeing,
            rows=rows,
            number=draw.index,
        ) -> None:
            truth = world.truth()
            cube = truth.objects["cube"]
            near = float(np.linalg.norm(truth.tool_position - cube.position))
            if step % 3 or (near > 0.09 and step % 9):
                return
            picture = np.ascontiguousarray(world.render()[..., ::-1])
            seen = detector.detect(picture, world.time, world.sensed_position).objects.get("cube")
            visible, shift = seeing.look(cube)
            pixel = float(np.linalg.norm(cube.position - camera.position)) / math.sqrt(camera.fx * camera.fy)
            rest = world.objects[0].rest
            row = [
                number,
                world.time,
                visible,
                *shift,
                cube.position[2] - rest,
                near,
                pixel,
                cube.spec.measures[0],
            ]
            if seen is None:
                rows.append([*row, 0.0, *[math.nan] * 8])
                return
            high = seen.lifted > 0.5
            error = seen.position - (cube.position if high else camera.seen_on_plane(cube.position, rest))
            yaw = math.remainder(seen.yaw - object_yaw(cube), math.pi / 2)
            c = seen.covariance
            spreads = math.sqrt((c[0, 0] + c[1, 1]) / 2), math.sqrt(c[2, 2])
            rows.append([*row, 1.0, *error, yaw, seen.visible, *spreads, seen.lifted])

        rollout(world, expert, Draw(draw.index, draw.seed, values), privileged=True, linger=0.7, on_step=look)
        old = np.concatenate([old, np.array(rows).reshape(-1, len(COLUMNS))])
        np.save(path, old)
        print(f"episode {draw.index}: {len(rows)} pictures", file=sys.stderr)


def named(rows: Array) -> dict[str, Array]:
    return {name: rows[:, k] for k, name in enumerate(COLUMNS)}


def fit(rows: Array) -> dict[str, Any]:
    """The fields of `imitation.Errors`."""
    from scipy.stats import spearmanr

    r = named(rows)
    lying = (r["height"] < LYING) & ~(r["lifted"] > 0.5)
    seen = r["found"] > 0.5
    error = np.hypot(r["error_x"], r["error_y"])
    away = np.hypot(r["shift_x"], r["shift_y"])
    table: dict[str, Any] = {name: [] for name in ("found", "visible", "spread_place", "spread_angle")}
    table |= {name: [] for name in ("place", "angle", "knows_place", "knows_angle", "toward")}
    for low, high in zip(EDGES, (*EDGES[1:-1], 1.1)):
        inside = (r["visible"] >= low) & (r["visible"] < high)
        here = inside & lying & seen
        unit = r["pixel"] if high > 1.0 else r["side"]

        def quantiles(values: Array) -> list[float]:
            return [round(float(v), 5) for v in np.quantile(values, LEVELS)]

        table["found"].append(round(float(seen[inside & (r["height"] < LYING)].mean()), 3))
        table["visible"].append(round(float(np.median(r["said_visible"][here])), 3))
        table["spread_place"].append(quantiles((r["spread"] / unit)[here]))
        table["spread_angle"].append(quantiles(r["spread_yaw"][here]))
        turned = np.abs(r["error_yaw"])
        table["place"].append(quantiles((error / (np.sqrt(1e-3 * unit) if high > 1.0 else unit))[here]))
        table["angle"].append(quantiles(turned[here]))
        table["knows_place"].append(round(float(spearmanr(error[here], r["spread"][here])[0]), 3))
        table["knows_angle"].append(round(float(spearmanr(turned[here], r["spread_yaw"][here])[0]), 3))
        along = (r["error_x"] * r["shift_x"] + r["error_y"] * r["shift_y"]) / np.maximum(error * away, 1e-12)
        # Of a direction that is so much the shift's and else any, this is the mean cosine, nearly.
        table["toward"].append(0.0 if high > 1.0 else round(float(np.clip(along[here].mean(), 0.0, 1.0)), 3))
    held = (r["near"] < 0.04) & seen
    high = r["lifted"] > 0.5
    table["heights"] = list(HEIGHTS)
    table["lifted"] = []
    for low, top in zip(HEIGHTS, (*HEIGHTS[1:], 1.0)):
        here = held & (r["height"] >= low) & (r["height"] < top)
        table["lifted"].append(round(float(high[here].mean()) if here.any() else 0.0, 3))
    raised = held & high & (r["height"] > HEIGHTS[2])
    table["height_error"] = [round(float(f(r["error_z"][raised])), 5) for f in (np.median, np.std)]
    # What is said of the height is in the place's spread, along the ray.
    table["height_spread"] = round(float(np.median(r["spread"][raised])), 5)
    table["correlation"] = correlation(r, lying & seen)
    table["edges"], table["levels"] = list(EDGES), list(LEVELS)
    return table


def correlation(r: dict[str, Array], rows: Array) -> float:
    """s over which the places' errors are alike, from pictures that follow each other."""
    pairs = []
    for k in np.flatnonzero(rows[:-1] & rows[1:]):
        if r["episode"][k] == r["episode"][k + 1] and 0.05 < r["time"][k + 1] - r["time"][k] < 0.15:
            pairs.append(
                [(r[name][i] / r["spread"][i]) for i in (k, k + 1) for name in ("error_x", "error_y")]
            )
    values = np.clip(np.array(pairs), -3, 3)
    alike = float(np.corrcoef(values[:, :2].ravel(), values[:, 2:].ravel())[0, 1])
    return round(-0.1 / math.log(min(max(alike, 0.05), 0.95)), 3)


def imitated(rows: Array, times: int = 20) -> Array:
    """(times · rows, 5): visible, found, error of place m and of yaw rad, reported spread, by the imitation."""
    from sim2real.simulation.imitation import Imitation, View, measured_errors

    r, rng, found = named(rows), np.random.default_rng(0), []
    errors = measured_errors()
    for _ in range(times):
        for k in range(len(rows)):
            view = View(
                np.zeros(3), 0.0, r["visible"][k], (r["shift_x"][k], r["shift_y"][k]), r["height"][k], False,
                r["pixel"][k], r["side"][k],
            )  # fmt: skip
            seen = Imitation(errors, rng).sight(view, 0.0, None)
            if seen is None:
                found.append([r["visible"][k], 0.0, math.nan, math.nan])
            else:
                found.append([r["visible"][k], 1.0, float(np.hypot(*seen.position[:2])), abs(seen.yaw)])
    return np.array(found)


def compare(rows: Array) -> list[dict[str, Any]]:
    """By visibility: how often found, and medians and 90th percentiles of both errors, real and imitated."""
    r = named(rows)
    lying = (r["height"] < LYING) & ~(r["lifted"] > 0.5)
    rows = rows[lying]
    r = named(rows)
    copy = imitated(rows)
    error = np.hypot(r["error_x"], r["error_y"])
    answer = []
    for low, high in zip(EDGES, (*EDGES[1:-1], 1.1)):
        mine, theirs = (
            (copy[:, 0] >= low) & (copy[:, 0] < high),
            (r["visible"] >= low) & (r["visible"] < high),
        )
        row: dict[str, Any] = {"visible": [low, min(high, 1.0)], "pictures": int(theirs.sum())}
        row["found"] = [float(r["found"][theirs].mean()), float(copy[mine, 1].mean())]
        for name, real, other, unit in (
            ("place_mm", error[theirs], copy[mine, 2], 1e3),
            ("yaw_deg", np.abs(r["error_yaw"][theirs]), copy[mine, 3], math.degrees(1)),
        ):
            row[name] = {
                f"q{round(100 * q)}": [round(unit * float(np.nanquantile(v, q)), 2) for v in (real, other)]
                for q in (0.5, 0.9)
            }
        answer.append(row)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=Path, required=True, metavar="FILE", help="what has been looked at, .npy"
    )
    parser.add_argument("--episodes", type=int, default=0, metavar="N", help="look at so many more")
    parser.add_argument("--fit", action="store_true", help=f"write {OUT.name}")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.episodes:
        collect(args.rows, args.episodes)
    rows = np.load(args.rows)
    if args.fit:
        pictures, episodes = len(rows), len(set(rows[:, 0]))
        about = f"python benchmarks/imitation.py --fit: {pictures} rendered pictures of {episodes} episodes"
        OUT.write_text(json.dumps({"source": about, "errors": fit(rows)}, indent=1) + "\n")
    answer = compare(rows)
    if args.json:
        print(json.dumps(answer))
        return
    for row in answer:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
