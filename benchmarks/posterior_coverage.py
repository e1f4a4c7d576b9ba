"""Does the posterior of an identified arm cover the truth as often as it says?

Each repetition draws an arm from the prior (every unknown of the whole arm at once), records short episodes of
ordinary motion with it (whole ticks, as encoders give), identifies the arm, and counts in how many unknowns the truth
lies within the central intervals. Nothing of the truth is told to the fit but the model's form.

    python benchmarks/posterior_coverage.py [--repetitions 50] [--frames 150] [--episodes 2] [--json]
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.identification.identify import ArmModelFit, Identified, identify_arm
from pipelines.identification.logs import ArmLog
from randomization.identification import Unknown, decode, prior_covariance
from sim2real.model.batched import ArmRecording
from sim2real.robot import Robot

Array = NDArray[np.float64]
LEVELS = (0.5, 0.9)
TICK = 2 * np.pi / 4096
DETERMINED = 0.5
"""Posterior below this share of the prior's width: the data said something."""


def truth_of(unknowns: Sequence[Unknown], rng: np.random.Generator) -> Array:
    """(k,) values from the prior, what is alike in it included, brought within the bounds."""
    centre = np.array([u.encode(u.start if u.mean is None else u.mean) for u in unknowns])
    z = rng.multivariate_normal(centre, prior_covariance(unknowns))
    return np.clip(decode(unknowns, z[None])[0], [u.low for u in unknowns], [u.high for u in unknowns])


def motion(robot: Robot, frames: int, rng: np.random.Generator, fps: float = 30.0) -> Array:
    """(T, n) rad: smooth commands around home that rest now and then, as people's do."""
    t = np.arange(frames)[:, None] / fps
    wave = sum(
        rng.uniform(0.1, 0.35, robot.n)
        * np.sin(rng.uniform(0.7, 4, robot.n) * t + rng.uniform(0, 2 * np.pi, robot.n))
        for _ in range(3)
    )
    return np.clip(
        robot.home + (wave - wave[0]) * np.clip(2 * np.sin(0.9 * t), -1, 1), robot.lower, robot.upper
    )


def record(model: ArmModelFit, truth: Array, commands: Sequence[Array], fps: float = 30.0) -> ArmLog:
    """What the arm with these values does on the commands, as whole ticks."""
    robot = model.robot
    starts = np.concatenate([[0], np.cumsum([len(c) for c in commands])])
    command = np.concatenate(commands)
    # It comes to rest at the first command before an episode begins.
    state = np.concatenate([np.repeat(c[:1], len(c), axis=0) for c in commands])

    def log(state: Array) -> ArmLog:
        return ArmLog(
            ArmRecording(command, state, starts, fps), robot.lower, robot.upper, np.ones(state.shape, dtype=bool),
            "degrees", "simulated", tuple(range(len(commands))), (),
        )  # fmt: skip

    shown = model.simulate(log(state), truth[None])[0]
    late = np.concatenate([[first[0], *part[:-1]] for first, part in zip(
        np.split(state, starts[1:-1]), np.split(shown, starts[1:-1]))])  # fmt: skip
    return log(np.round(late / TICK) * TICK)


def repetition(robot: Robot, seed: int, frames: int, episodes: int) -> tuple[Identified, Array]:
    """One arm drawn, recorded and identified: what was found, and the truth (k,) of its unknowns."""
    rng = np.random.default_rng(seed)
    model = ArmModelFit.build(robot)
    truth = truth_of(model.unknowns, rng)
    log = record(model, truth, [motion(robot, frames, rng) for _ in range(episodes)])
    return identify_arm(log, robot, "simulated"), truth


def scores(found: Identified, truth: Array, robot: Robot) -> tuple[list[str], Array, Array]:
    """Names, standard scores of the truth in the posterior (k,), posterior over prior (k,); only shared unknowns."""
    known = {u.name: v for u, v in zip(ArmModelFit.build(robot).unknowns, truth)}
    fit = found.fit
    rows = [i for i, name in enumerate(fit.names) if name in known]
    names = [fit.names[i] for i in rows]
    z = np.array([fit.unknowns[i].encode(known[fit.names[i]]) for i in rows])
    return names, (z - fit.z[rows]) / fit.deviation[rows], fit.prior_share[rows]


def summarize(names: list[list[str]], score: list[Array], share: list[Array]) -> dict[str, Any]:
    from scipy.stats import norm

    s, p = np.concatenate(score), np.concatenate(share)
    kinds = np.array([name.rsplit(".", 1)[-1] for part in names for name in part])
    result: dict[str, Any] = {"repetitions": len(score), "unknowns": len(s)}

    def covered(rows: Any) -> dict[str, float]:
        entry = {
            f"{level:.0%}": float(np.mean(np.abs(s[rows]) <= norm.ppf(0.5 + level / 2))) for level in LEVELS
        }
        return entry | {"determined": float(np.mean(p[rows] < DETERMINED)), "spread": float(
            np.median(np.abs(s[rows])) / 0.6745)}  # fmt: skip

    result["all"] = covered(np.ones(len(s), bool))
    result["determined"] = covered(p < DETERMINED)
    result["well determined"] = covered(p < 0.1) if (p < 0.1).any() else None
    result["by kind"] = {kind: covered(kinds == kind) for kind in sorted(set(kinds))}
    per = [float(np.mean(np.abs(part) <= norm.ppf(0.95))) for part in score]
    result["90% by repetition, least to most"] = [min(per), max(per)]
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="seed of the first repetition")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    robot = Robot.load("so101")
    names, score, share = [], [], []
    began = time.perf_counter()
    for seed in range(args.first, args.first + args.repetitions):
        found, truth = repetition(robot, seed, args.frames, args.episodes)
        n, s, p = scores(found, truth, robot)
        names.append(n), score.append(s), share.append(p)
        if not args.json:
            print(
                f"{seed}: {found.after[robot.arm].mean():.3f}°, {np.mean(np.abs(s) <= 1.645):.0%} of all unknowns "
                f"within their 90 % interval, {np.mean(np.abs(s[p < DETERMINED]) <= 1.645):.0%} of those determined",
                flush=True,
            )
    result = summarize(names, score, share) | {"seconds": round(time.perf_counter() - began, 1)}
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
