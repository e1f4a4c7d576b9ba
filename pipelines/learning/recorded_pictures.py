"""Recordings with pictures as demonstrations for a policy that sees: rows and pictures of a data set, brought together.

Which feature of the data set is which camera of the policy is an explicit mapping, and everything that is done to bring
the one into the form of the other is said (`Mapped.lines`): names, sizes, rates, units.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.episodes import Readings, open_readings
from pipelines.learning.demonstrations import Demonstrations
from sim2real.camera import CameraModel, load_cameras
from sim2real.episode import Episode
from sim2real.errors import UserError, nearest
from sim2real.lerobot import schema
from sim2real.lerobot.reader import LeRobotDataset
from sim2real.pictures import PictureInput, PictureTaker, places_of
from sim2real.policies.file import PolicyInfo
from sim2real.robot import Robot

Array = NDArray[np.float64]

CAMERAS = "cameras.toml"
"""Beside a data set, where its cameras stand; recordings of our own have it."""

JOINTS = ("joint_position", "joint_velocity", "joint_command")


@dataclass(frozen=True)
class Mapped:
    """What a data set became: `demonstrations`, one group of rows for each of its `numbers` (the episodes'), and in
    words what was made of what."""

    demonstrations: Demonstrations
    numbers: tuple[int, ...]
    lines: tuple[str, ...]
    summary: Mapping[str, Any]


def load_seen(
    root: str | Path,
    info: PolicyInfo,
    robot: Robot,
    *,
    mapping: Sequence[str] = (),
    calibration: str | Path | None = None,
    units: str = "auto",
    episodes: str | None = None,
    arm: str | None = None,
    fps: float | None = None,
    every_episode: bool = False,
    lead: float = 0.0,
) -> Mapped:
    """The demonstrations in a LeRobot data set with pictures for a policy that sees.

    mapping: `FEATURE=CAMERA`, the data set's name of a picture and the policy's. Without an entry a picture must have
    the policy's name for it. lead: policy periods by which chunks are taken later than they are due. Episodes that were
    judged a failure are left out, unless `every_episode`. Raises UserError for what is missing, with the names that
    there are.
    """
    data = LeRobotDataset.open(root, arm)
    data.require(schema.STATE, schema.ACTION)
    _refuse_goals(info, data)
    names = find_pictures(data, info.pictures, mapping)
    readings = open_readings(
        root, robot, calibration=calibration, units=units, episodes=episodes, arm=arm, fps=fps
    )
    chosen = [i for i, e in readings.episodes.items() if every_episode or e.success is not False]
    if not chosen:
        raise UserError(f"all episodes of {data.root} failed; use them all with --all-episodes")
    parts, sizes, remarks = [], {}, [*readings.remarks, *readings.lost()]
    for position in chosen:
        taken: dict[str, NDArray[np.uint8]] = {}
        places: dict[str, Array] = {}
        for wanted in info.pictures:
            feature = names[wanted.camera]
            why = data.without_pictures(position, _camera_of(feature))
            if why is not None:
                raise UserError(f"episode {readings.numbers[position]} of {data.root}: {why}")
            images = list(data.frames(position, _camera_of(feature)))
            if len(images) < len(readings.episodes[position]):
                raise UserError(
                    f"episode {readings.numbers[position]} of {data.root} has {len(readings.episodes[position])} rows "
                    f"and {len(images)} pictures of {feature}"
                )
            sizes[wanted.camera] = images[0].shape[1], images[0].shape[0]
            camera = _camera(data.root, wanted, *sizes[wanted.camera])
            places |= places_of([wanted], {wanted.camera: camera})
            taker = PictureTaker(wanted, camera)
            taken[wanted.entry] = np.stack([taker(image) for image in images])
        parts.append(_pairs(readings.episodes[position], taken, places, info, position, lead))
    parts = [part for part in parts if len(part)]
    if not parts:
        raise UserError(f"no frame of {data.root} has everything that the policy observes as a finite number")
    joined = Demonstrations.joined(parts)
    summary = {
        "data": str(data.root),
        "episodes": len(parts),
        "episodes_in_set": len(data),
        "pairs": len(joined),
        "units": readings.convert.found.units,
        "fps": readings.rate,
        "lead_periods": lead,
        "pictures": {wanted.camera: names[wanted.camera] for wanted in info.pictures},
        "remarks": remarks,
    }
    return Mapped(
        joined,
        tuple(int(number) for number in np.unique(joined.episodes)),
        tuple(_lines(info, readings, names, sizes)),
        summary,
    )


def find_pictures(
    data: LeRobotDataset, pictures: Sequence[PictureInput], mapping: Sequence[str]
) -> dict[str, str]:
    """The data set's feature for every camera of the policy. Raises UserError with what there is."""
    there = {camera: schema.IMAGES + camera for camera in data.cameras}
    found: dict[str, str] = {}
    for entry in mapping:
        feature, separator, camera = entry.partition("=")
        if not separator or not feature or not camera:
            raise UserError(f"a mapping is FEATURE=CAMERA, as {schema.IMAGES}wrist=wrist; got '{entry}'")
        if camera not in (seen := [picture.camera for picture in pictures]):
            raise UserError(
                f"the policy sees {', '.join(seen)}, no camera '{camera}'{nearest(camera, seen) or ''} "
                f"(mapping '{entry}')"
            )
        full = there.get(feature, feature)
        if full not in there.values():
            raise UserError(_no_such(data, feature, list(there.values())))
        found[camera] = full
    for picture in pictures:
        if picture.camera in found:
            continue
        if picture.camera not in there:
            raise UserError(
                f"{_no_such(data, schema.IMAGES + picture.camera, list(there.values()))} Say which of them is the "
                f"policy's camera '{picture.camera}' with --map FEATURE={picture.camera}"
            )
        found[picture.camera] = there[picture.camera]
    return found


def _no_such(data: LeRobotDataset, feature: str, there: Sequence[str]) -> str:
    has = f"its pictures are {', '.join(there)}." if there else "it has no pictures."
    return f"{data.root} has no pictures '{feature}': {has}"


def _camera_of(feature: str) -> str:
    return feature.removeprefix(schema.IMAGES)


def _refuse_goals(info: PolicyInfo, data: LeRobotDataset) -> None:
    known = {*JOINTS, *(picture.place for picture in info.pictures)}
    other = [feature.name for feature in info.features if feature.name not in known]
    if other:
        raise UserError(
            f"the policy observes {', '.join(other)} besides joints and pictures, and {data.root} does not say what "
            "they were; adapt a policy that only sees (of lift, for example)"
        )


def _camera(root: Path, wanted: PictureInput, width: int, height: int) -> CameraModel:
    """The camera that took pictures of this size. Raises UserError where it must be known how it stood, and is not."""
    file = root / CAMERAS
    known = load_cameras(file) if file.is_file() else {}
    if wanted.camera in known:
        return known[wanted.camera].resized(width, height)
    if wanted.view == "table":
        raise UserError(
            f"the policy sees the table from above through '{wanted.camera}', and nothing says where the camera of "
            f"{root} stood: put its table into {file}, or adapt a policy that sees the whole picture "
            f"(--picture {wanted.camera}=frame when it is pretrained)"
        )
    focal = float(max(width, height))
    centre = (width - 1) / 2, (height - 1) / 2
    return CameraModel(width, height, focal, focal, *centre, np.eye(4), name=wanted.camera)


def _lines(
    info: PolicyInfo, readings: Readings, names: Mapping[str, str], sizes: Mapping[str, tuple[int, int]]
) -> list[str]:
    made = f"{readings.convert.found.units} → rad ({readings.convert.source} calibration)"
    lines = [f"{schema.STATE}, {schema.ACTION}: {made}"]
    rate = f"{readings.rate:g} Hz"
    if abs(readings.rate / info.policy_rate - 1) > 0.01:
        rate += f" → {info.policy_rate} Hz (rows between, nearest picture)"
    lines.append(f"rows: {rate}")
    for wanted in info.pictures:
        width, height = sizes[wanted.camera]
        how = "seen from above" if wanted.view == "table" else "cut in the middle to"
        lines.append(
            f"{names[wanted.camera]} ({width} x {height}) → {wanted.camera}: {how} {wanted.width} x {wanted.height}"
        )
    return lines


def _pairs(
    episode: Episode,
    taken: Mapping[str, NDArray[np.uint8]],
    places: Mapping[str, Array],
    info: PolicyInfo,
    number: int,
    lead: float,
) -> Demonstrations:
    """One episode as demonstrations.

    Row t is read before the action of the same frame is sent: what was last sent at t is the action of t − 1, and the
    chunk that follows is action t, t + 1, …; beyond the episode's end the last action stays. The history of the first
    rows repeats the first, as a policy that begins does.
    """
    command = np.concatenate([episode.state[:1], episode.executed[:-1]])
    step = np.gradient(episode.state, axis=0) if len(episode) > 1 else 0 * episode.state
    columns = {
        "joint_position": episode.state,
        "joint_velocity": step * episode.fps,
        "joint_command": command,
    }
    columns |= {name: np.tile(place, (len(episode), 1)) for name, place in places.items()}
    rows = np.concatenate([columns[feature.name] for feature in info.features], axis=1)
    action, frame = episode.action, np.arange(len(episode))
    if abs(episode.fps / info.policy_rate - 1) > 0.01:
        at = np.arange(0.0, len(episode) - 1 + 1e-9, episode.fps / info.policy_rate)
        rows, action = _between(rows, at), _between(action, at)
        frame = np.rint(at).astype(int)
    past = np.maximum(np.arange(len(rows))[:, None] - np.arange(info.history), 0)
    observations = rows[past].reshape(len(rows), -1)
    due = np.minimum(np.arange(len(action))[:, None] + np.arange(info.horizon) + lead, len(action) - 1)
    chunks = _between(action, due)
    good = np.isfinite(observations).all(axis=1) & np.isfinite(chunks).all(axis=(1, 2))
    return Demonstrations(
        observations[good].astype(np.float32),
        chunks[good].astype(np.float32),
        np.full(int(good.sum()), number, dtype=np.int64),
        {name: images[frame][good] for name, images in taken.items()},
    )


def _between(values: Array, at: Array) -> Array:
    """Rows of `values` at fractional numbers, linearly."""
    below = np.floor(at).astype(int)
    weight = (at - below)[..., None]
    return np.asarray((1 - weight) * values[below] + weight * values[np.minimum(below + 1, len(values) - 1)])


def of_episodes(demonstrations: Demonstrations, numbers: Sequence[int]) -> Demonstrations:
    """Those pairs that are from these episodes."""
    return demonstrations.select(np.isin(demonstrations.episodes, list(numbers)))
