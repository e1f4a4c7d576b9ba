"""Demonstrations out of recordings: pairs of what a policy would have observed and what was done next.

Row t of a recording is read before the action of the same frame is sent. So `joint_command` at t is what was
sent at t − 1, and the chunk that should follow the observation at t is action t, t + 1, …; beyond the end of the
episode the last action stays.

A recorded action trails what was asked for when it was observed: the chunk comes late by the time inference takes
and is blended into the one before. A policy that learns the recording as it stands therefore becomes slower with
every round of recording and fine-tuning. So chunks are taken a little later in the recording, by the `lead` at
which they agree best with what the parent policy would have asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.episodes import Readings, open_readings
from pipelines.identification.recording_checks import frame_numbers
from pipelines.identification.uses import FROM_JOINTS, is_of_another_task, lacking
from pipelines.learning.demonstrations import Demonstrations
from sim2real.episode import Episode
from sim2real.errors import UserError, spans
from sim2real.lerobot import schema
from sim2real.lerobot.reader import LeRobotDataset
from sim2real.observation import Feature, is_spread
from sim2real.policies.file import PolicyInfo
from sim2real.robot import Robot

Array = NDArray[np.float64]

Predict = Callable[[NDArray[np.float32]], Array]
"""Observation vectors (B, D) to chunks (B, H, n), rad."""

LEADS = np.arange(0.0, 4.01, 0.25)
"""Leads that are tried, policy periods."""


def load_recorded(
    root: str | Path,
    info: PolicyInfo,
    robot: Robot,
    *,
    task: str | None = None,
    calibration: str | Path | None = None,
    units: str = "auto",
    episodes: str | None = None,
    arm: str | None = None,
    fps: float | None = None,
    names: Mapping[str, str] | None = None,
    every_episode: bool = False,
    failures: bool = False,
    lead: float | None = None,
    predict: Predict | None = None,
) -> tuple[Demonstrations, dict[str, Any]]:
    """The demonstrations in a LeRobot data set for a policy, and a summary of what was used.

    Read and checked as by `replay` and `identify` (`open_readings` says what `units`, `episodes`, `arm`, `fps` and
    `names` do): episodes that cannot be read are left out, each is taken at the rate that its time stamps tell, and is
    cut where frames are missing. Only episodes of `task`, where the data set knows it, and only those that were judged
    a success, unless `every_episode` or none was judged at all; with `failures` those that were judged one come along,
    by their numbers under "failed" in the summary. `lead` in policy periods; None estimates it by the chunks that
    `predict` gives, and means 0 without that. Raises UserError naming what the policy observes and the data set lacks,
    for episodes of another task than `task` (unless None), and when no usable episode is left.
    """
    data = LeRobotDataset.open(root, arm, names)
    require_features(data, info.features)
    if task is not None and is_of_another_task(data, task):
        raise UserError(
            f"{data.root} holds episodes of {', '.join(data.tasks)}, which would teach a policy of {task} another "
            f"task; give a recording of {task}, or the task of these with --task"
        )
    readings = open_readings(
        root, robot, calibration=calibration, units=units, episodes=episodes, arm=arm, fps=fps, names=names
    )
    judged, chosen, failed = _chosen(data, readings, task, every_episode=every_episode, failures=failures)
    observed = [feature.name for feature in info.features if feature.name not in FROM_JOINTS]
    blind = [i for i in chosen if not set(observed) <= set(readings.episodes[i].features)]
    pieces = {position: contiguous(readings, position) for position in chosen if position not in blind}
    if not pieces:
        why = "; ".join(readings.episodes[blind[0]].info["remarks"])
        raise UserError(
            f"no episode of {data.root} holds {', '.join(observed)}, which the policy observes: {why}"
        )

    # Of a policy that a person corrected only what the person did says anything new; what it does itself it can.
    corrected = any(_by_person(part).any() for parts in pieces.values() for part in parts)
    if corrected:
        # What a person wants is done at once; only a policy's chunks come late.
        lead = 0.0 if lead is None else lead

    def at(lead: float) -> list[tuple[Demonstrations, int]]:
        return [
            pairs(
                piece,
                info.features,
                info.horizon,
                info.policy_rate,
                position,
                lead,
                only=_by_person(piece) if corrected else None,
            )
            for position, parts in pieces.items()
            for piece in parts
        ]

    if lead is None:
        lead = (
            0.0 if predict is None else estimate_lead(lambda tried: [part for part, _ in at(tried)], predict)
        )
    made = at(lead)
    error = 0.0 if predict is None else chunk_error([part for part, _ in made if len(part)], predict)
    errors = {} if predict is None else _by_episode([part for part, _ in made if len(part)], predict)
    odd = [readings.numbers[position] for position in standing_out(errors)]
    parts, dropped = [part for part, _ in made if len(part)], sum(lost for _, lost in made)
    if not parts:
        raise UserError(f"no frame of {data.root} has everything that the policy observes as a finite number")
    joined = Demonstrations.joined(parts)
    usual = float(np.degrees(np.median(list(errors.values())))) if errors else 0.0
    cut = sum(len(parts) - 1 for parts in pieces.values())
    remarks = [
        *readings.remarks,
        *readings.lost(),
        *_remarks([readings.numbers[i] for i in blind], odd, usual, len(joined) if corrected else None, cut),
    ]
    return joined, {
        "data": str(data.root),
        "episodes": len(np.unique(joined.episodes)),
        "episodes_in_set": len(data),
        "judged": sum(verdict is not None for verdict in judged.values()),
        "pairs": len(joined),
        "dropped_frames": dropped,
        "lead_periods": lead,
        "corrections": corrected,
        "failed": [i for i in failed if i in pieces],
        "parent_error_deg": float(np.degrees(error)),
        "episode_error_deg": {str(readings.numbers[i]): float(np.degrees(e)) for i, e in errors.items()},
        "look_wrong": odd,
        "units": readings.convert.found.units,
        "fps": readings.rate,
        "remarks": remarks,
    }


def _chosen(
    data: LeRobotDataset, readings: Readings, task: str | None, *, every_episode: bool, failures: bool
) -> tuple[dict[int, bool | None], list[int], list[int]]:
    """How the episodes of the task were judged, by position; which are learned from, and which of those failed."""
    # Among several tasks those of this one; where none has its name, the names say nothing.
    named = task is not None and task in data.tasks
    judged = {
        position: episode.success
        for position, episode in readings.episodes.items()
        if not named or task in data.episodes[position].tasks
    }
    chosen = [i for i, verdict in judged.items() if every_episode or verdict is True]
    if not every_episode and all(verdict is None for verdict in judged.values()):
        chosen = list(judged)
    failed = [i for i, verdict in judged.items() if failures and verdict is False and not every_episode]
    if failures:
        chosen += failed
    if not chosen:
        which = f" of {task}" if named else ""
        unread = f" ({len(readings.broken)} more cannot be read)" if readings.broken else ""
        raise UserError(
            f"{data.root} has {len(judged)} episodes{which}{unread}, none of them successful; record some that are, or "
            "use all with --all-episodes"
        )
    return judged, chosen, failed


def _remarks(blind: list[int], odd: list[int], usual: float, corrected: int | None, cut: int) -> list[str]:
    """What is to be said: numbers of episodes that lack observations, of those that look wrong (`usual` degrees in the
    others), frames in which a person acted where one did, and how often episodes are cut."""
    said = []
    if blind:
        said.append(f"left out: episodes {spans(blind)}, whose observations lack")
    if odd:
        said.append(
            f"episodes {spans(odd)} look wrong: what was done in them is further from what the policy would do than in "
            f"the others ({usual:.1f}° there); look at them, and leave them out with --episodes if they are"
        )
    if corrected is not None:
        said.append(
            f"a person took over from the policy: only the {corrected} frames in which they acted are learned from"
        )
    if cut:
        said.append(f"frames are missing: episodes are cut in {cut} places")
    return said


def contiguous(readings: Readings, position: int) -> list[Episode]:
    """The episode at `position` in the pieces between which frames are missing, by its times."""
    episode = readings.episodes[position]
    if not readings.stamped:
        return [episode]
    missing = np.flatnonzero(np.diff(frame_numbers(episode.time, episode.fps)) > 1) + 1
    return [
        replace(
            episode,
            **{name: getattr(episode, name)[rows] for name in ("time", "state", "action", "executed")},
            features={name: values[rows] for name, values in episode.features.items()},
            info=episode.info
            | (
                {"intervention": episode.info["intervention"][rows]} if "intervention" in episode.info else {}
            ),
        )
        for rows in np.split(np.arange(len(episode)), missing)
    ]


def estimate_lead(at: Callable[[float], Sequence[Demonstrations]], predict: Predict) -> float:
    """The lead, in policy periods, at which recorded chunks (`at(lead)`) agree best with predicted ones."""

    def error(lead: float) -> float:
        return chunk_error([part for part in at(lead) if len(part)], predict)

    return min((float(lead) for lead in LEADS), key=error)


def chunk_error(parts: Sequence[Demonstrations], predict: Predict) -> float:
    """Mean absolute difference, rad, between recorded chunks and predicted ones; 0 for none."""
    differences = [np.abs(predict(part.observations) - part.chunks).mean(axis=(1, 2)) for part in parts]
    return float(np.concatenate(differences).mean()) if differences else 0.0


def _by_episode(parts: Sequence[Demonstrations], predict: Predict) -> dict[int, float]:
    """`chunk_error` of each episode, by its position."""
    found: dict[int, list[Demonstrations]] = {}
    for part in parts:
        found.setdefault(int(part.episodes[0]), []).append(part)
    return {position: chunk_error(pieces, predict) for position, pieces in found.items()}


def standing_out(errors: Mapping[int, float]) -> list[int]:
    """Episodes whose error is not like the others': beyond the median by six robust standard deviations and by half.

    The policy has learned from none of them, so all are held out. Fewer than five episodes tell nothing.
    """
    if len(errors) < 5:
        return []
    values = np.array(list(errors.values()))
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    bound = max(middle + 6 * spread, 1.5 * middle)
    return [position for position, value in errors.items() if value > bound]


def require_features(data: LeRobotDataset, features: Sequence[Feature]) -> None:
    """Raise UserError, with names and where they belong, unless the data set has what a policy observes."""
    data.require(schema.STATE, schema.ACTION)
    missing = lacking(data, features)
    if not missing:
        return
    environment = data.features.get(schema.ENVIRONMENT)
    names = () if environment is None or environment.names is None else environment.names
    wanted = [name for f in missing for name in schema.component_names(f.name, f.size)]
    have = (
        f"it has the components {', '.join(names)}"
        if names
        else "it has no such feature with named components"
    )
    raise UserError(
        f"the policy observes {', '.join(f.name for f in missing)}, which the data set {data.root} lacks: "
        f"{schema.ENVIRONMENT} would need the components {', '.join(wanted)}; {have}. "
        "`sim2real record` writes them, and --map THEIRS=OURS says where they are under other names. Without them this "
        "set still tells what the arm is (`sim2real identify`, then pretrain or finetune with its --space), and its "
        "pictures, if it has any, can teach a policy that observes pixels"
    )


def pairs(
    episode: Episode,
    features: Sequence[Feature],
    horizon: int,
    rate: float,
    number: int,
    lead: float = 0.0,
    *,
    only: NDArray[np.bool_] | None = None,
) -> tuple[Demonstrations, int]:
    """One episode as demonstrations with the episode number `number`, and how many frames had to be left out
    because something in them is not finite.

    Chunks are taken `lead` periods later than they are due. An episode at another rate than the policy's, Hz,
    is resampled linearly. `only` (T,) says which frames become pairs; chunks go on beyond them.
    """
    command = np.concatenate([episode.state[:1], episode.executed[:-1]])
    columns = {
        "joint_position": episode.state,
        "joint_velocity": np.gradient(episode.state, axis=0) * episode.fps
        if len(episode) > 1
        else 0 * episode.state,
        "joint_command": command,
        **episode.features,
    }
    for feature in features:
        if is_spread(feature.name):
            columns.setdefault(feature.name, np.zeros((len(episode), feature.size)))
    wanted = [np.asarray(columns[f.name], dtype=np.float64).reshape(len(episode), f.size) for f in features]
    observations, action = np.concatenate(wanted, axis=1), episode.action
    if abs(episode.fps / rate - 1) > 0.01:
        observations, action = (_resampled(values, episode.fps, rate) for values in (observations, action))
        if only is not None:
            only = _resampled(only[:, None].astype(float), episode.fps, rate)[:, 0] > 0.5
    rows = np.minimum(np.arange(len(action))[:, None] + np.arange(horizon) + lead, len(action) - 1)
    below = np.floor(rows).astype(int)
    weight = (rows - below)[..., None]
    chunks = (1 - weight) * action[below] + weight * action[np.minimum(below + 1, len(action) - 1)]
    wanted_rows = np.ones(len(action), np.bool_) if only is None else only
    good = np.isfinite(observations).all(axis=1) & np.isfinite(chunks).all(axis=(1, 2)) & wanted_rows
    return Demonstrations(
        observations[good].astype(np.float32),
        chunks[good].astype(np.float32),
        np.full(int(good.sum()), number, dtype=np.int64),
    ), int((wanted_rows & ~good).sum())


def _by_person(episode: Episode) -> NDArray[np.bool_]:
    """(T,) in which frames a person acted, who had taken over from a policy."""
    acted = episode.info.get("intervention")
    return np.zeros(len(episode), np.bool_) if acted is None else np.asarray(acted) == 1


def _resampled(values: Array, fps: float, rate: float) -> Array:
    old = np.arange(len(values)) / fps
    new = np.arange(int(old[-1] * rate + 1e-9) + 1) / rate
    return np.stack([np.interp(new, old, column) for column in values.T], axis=1)
