"""What `calibrate-camera` does with cameras and arms: taking views of a board, and having the arm show a card."""

import csv
import json
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.commissioning.board import Board, Card
from hardware.commissioning.camera_lens import LensFit, fit_lens
from hardware.commissioning.camera_pose import FEWEST, ArmView, PoseFit, fit_points, fit_pose
from hardware.commissioning.lens_views import LensViews
from hardware.commissioning.planner_process import PlannerConfig, PlannerProcess
from hardware.runtime.sessions.survey import Survey
from pipelines.deployment.request import Options
from pipelines.deployment.run import run
from sim2real.camera import CameraModel, save_cameras
from sim2real.errors import Sim2RealError, UserError
from sim2real.files import write_bytes
from sim2real.robot import Robot

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

READY = 30.0
"""s until the first picture."""
HINT = 4.0
"""s between two hints."""


def take_lens(
    source: str, size: tuple[int, int], board: Board, count: int, patience: float, tell: Callable[[str], None]
) -> LensFit:
    """Watch a board being moved before a camera until `count` views are taken, or none came for `patience` s.

    `size` is what a device is asked for. Raises UserError when the views do not determine the lens, HardwareError
    when the camera gives no pictures.
    """
    import cv2

    from hardware.cameras.process import CameraProcess
    from hardware.cameras.worker import picture_size

    width, height = picture_size(source, *size)
    tell(f"{source} gives {width} x {height}")
    views = LensViews(board, width, height, count)
    blank = CameraModel(width, height, width, width, width / 2, height / 2, np.eye(4), source=source)
    camera = CameraProcess(blank)
    try:
        camera.wait_ready(READY)
        tell(views.hint())
        last, hinted, before = time.monotonic(), time.monotonic(), -np.inf
        while not views.enough and time.monotonic() - last < patience:
            found = camera.reader.latest()
            if found is None or found[0] <= before:
                time.sleep(0.01)
                continue
            before = found[0]
            outcome = views.offer(np.asarray(cv2.cvtColor(found[1], cv2.COLOR_RGB2GRAY)))
            now = time.monotonic()
            if outcome == "taken":
                last = hinted = now
                tell(f"view {len(views.views)} of {count} taken; {views.hint()}")
            elif now - hinted > HINT:
                hinted = now
                tell(f"{outcome}; {views.hint()}")
    finally:
        camera.close()
    return fit_lens(views.views, width, height)


def lens_table(fit: LensFit) -> dict[str, Any]:
    """A lens as in a cameras file."""
    return {
        "width": fit.width, "height": fit.height, "fx": fit.fx, "fy": fit.fy, "cx": fit.cx, "cy": fit.cy,
        "distortion": fit.distortion.tolist(),
    }  # fmt: skip


def load_lens(path: str | Path, name: str) -> CameraModel:
    """A camera with the lens of a file and no place of its own. Raises UserError."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"cannot read the lens file {path}: {error}") from None
    try:
        return CameraModel.from_table({**table, "camera_to_base": np.eye(4).tolist()}, name)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def write_lens(fit: LensFit, path: Path) -> None:
    """Whole or not at all."""
    import tomli_w

    note = f"# {fit.rms:.3f} px rms over {len(fit.view_rms)} views that cover {fit.coverage:.0%} of the picture\n"
    _write(path, (note + tomli_w.dumps(lens_table(fit))).encode())


def show_card(
    options: Options, camera: CameraModel, card: Card, count: int, guess: bool
) -> tuple[dict[str, Any], int, PlannerProcess | None]:
    """Have the arm show its card to `camera` in `count` poses. Returns the run's result, its exit status, and the
    planner with the views (its process has ended). Raises as `run` does."""
    planner: PlannerProcess | None = None

    def make(rig: Any, loop: Any, plan: Any, arm: Any) -> Survey:
        nonlocal planner
        config = PlannerConfig(
            options.robot, arm.calibration.limits, camera, card, count, guess, options.seed
        )
        planner = PlannerProcess(config)
        rig.stack.callback(planner.close)
        rig.observer.started("planner", planner.pid)
        return Survey(loop, plan, guide=planner, camera=rig.reader(camera.name))

    with tempfile.TemporaryDirectory(prefix="sim2real-camera-") as scratch:
        file = Path(scratch) / "cameras.toml"
        save_cameras({camera.name: camera}, file)
        result, status = run(replace(options, cameras=str(file), show_to=camera.name), session=make)
    return result, status, planner


def pose_of(robot: Robot, camera: CameraModel, planner: PlannerProcess, card: Card) -> PoseFit:
    """Where the camera stands. Raises UserError when the views do not tell."""
    if len(planner.views) < FEWEST:
        raise UserError(
            f"the card was seen in {len(planner.views)} of {planner.poses} poses, at least {FEWEST} views are needed: "
            "is its tab between the jaws and its printed side free, does the camera see the workspace, and is it light "
            "enough? A smaller camera picture needs a larger card (--marker)"
        )
    return fit_pose(robot, camera, planner.views, card)


def pose_from_file(robot: Robot, camera: CameraModel, path: str | Path) -> PoseFit:
    """From a CSV file with a header: u,v and either x,y,z (m, base frame) or one column per joint (rad), in which case
    the pixels are those of one point of the tool, such as its tip. Raises UserError."""
    rows = _csv(path, ("u", "v"))
    pixels = np.stack([rows["u"], rows["v"]], axis=1)
    if {"x", "y", "z"} <= rows.keys():
        return fit_points(camera, np.stack([rows[axis] for axis in "xyz"], axis=1), pixels)
    missing = [name for name in robot.joint_names if name not in rows]
    if missing:
        raise UserError(
            f"{path} needs the columns u, v and x, y, z (m), or u, v and every joint (rad); it lacks "
            f"{', '.join(missing)}"
        )
    joints = np.stack([rows[name] for name in robot.joint_names], axis=1)
    return fit_pose(robot, camera, [ArmView(q, uv[None]) for q, uv in zip(joints, pixels)], None)


def _csv(path: str | Path, needed: tuple[str, ...]) -> Mapping[str, Array]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    names = [name.strip() for name in lines[0]] if lines else []
    missing = [name for name in needed if name not in names]
    if missing:
        raise UserError(f"{path} needs a header with {', '.join(needed)}; it lacks {', '.join(missing)}")
    values = []
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        try:
            row = [float(value) for value in line]
        except ValueError:
            row = []
        if len(row) != len(names) or not np.isfinite(row).all():
            raise UserError(
                f"{path}, line {number}: {len(names)} finite numbers are expected, got {','.join(line)}"
            )
        values.append(row)
    table = np.array(values, dtype=np.float64).reshape(-1, len(names))
    return dict(zip(names, table.T))


def described(fit: PoseFit) -> dict[str, Any]:
    """A fit as plain values."""
    return {
        "camera_to_base": fit.camera.camera_to_base.tolist(),
        "position_deviation_mm": 1000 * fit.position_deviation,
        "rotation_deviation_deg": fit.rotation_deviation,
        "residual_px": fit.pixels,
        "residual_mm": 1000 * fit.metres,
        "views": len(fit.view_pixels),
        "left_out": list(fit.dropped),
        "marker_mm": None if np.isnan(fit.size) else 1000 * fit.size,
        "marker_to_tool": fit.held.tolist(),
        "zeros_deg": np.degrees(fit.zeros).tolist(),
        "half_play_deg": np.degrees(fit.play).tolist(),
    }


def keep(out: Path, robot: Robot, fit: PoseFit, planner: PlannerProcess) -> Path:
    """Write the views, the fit and the overlay picture into the run's folder. Returns the picture's path."""
    import cv2

    from hardware.drawing.overlay import overlay

    assert planner.shown is not None
    views = [
        {
            "joints": view.joints.tolist(), "pixels": view.pixels.tolist(),
            "approach": None if view.approach is None else view.approach.tolist(),
        }
        for view in planner.views
    ]  # fmt: skip
    _write(out / "views.json", (json.dumps(views) + "\n").encode())
    _write(out / "camera.json", (json.dumps(described(fit), indent=2) + "\n").encode())
    look = planner.shown
    drawn = overlay(look.picture, robot, fit.camera, look.joints + fit.zeros)
    done, data = cv2.imencode(".png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    if not done:
        raise Sim2RealError("the overlay picture could not be encoded")
    _write(out / "overlay.png", data.tobytes())
    return out / "overlay.png"


def _write(path: Path, data: bytes) -> None:
    try:
        write_bytes(path, data)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
