"""What a few recorded episodes bring on arms that the policy was not trained for, and which part earns it.

    python benchmarks/adaptation.py --policy runs/lift/policy.onnx --out runs/adaptation \\
        [--realities gripper-zero,joint-zeros] [--methods default,head] [--recorded 10] [--episodes 60] [--json]

A reality is an arm with parameters at the edge of or outside the training ranges, in PyBullet, as its sensors tell.
For each of them the policy is measured, episodes are recorded with it, each method fine-tunes it on these, and what
came of it is measured on the same draws. Every step is kept in --out: the same command goes on where it was stopped.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.learning.comparing import change_text, paired
from pipelines.learning.finetune import finetune
from pipelines.learning.finetune_settings import FinetuneSettings
from pipelines.sweeps.evaluate import evaluate
from pipelines.sweeps.plan import SweepPlan
from pipelines.sweeps.simulated import make_plan, worker_count
from sim2real.calibration import Calibration
from sim2real.files import read_json, write_json
from sim2real.lerobot.recording import write_episodes
from sim2real.policies.file import load_policy_file
from sim2real.policies.load import load_policy
from sim2real.robot import Robot
from sim2real.simulation.rollout import rollout
from sim2real.simulation.world import World
from sim2real.tasks.registry import load_task

JOINTS = Robot.load("so101").joint_names


def of_all(field: str, value: float) -> dict[str, float]:
    """One servo field of every joint."""
    return {f"servo.{joint}.{field}": value for joint in JOINTS}


GRIPPER_ZERO = {"servo.gripper.offset": -0.14}
LATE = {"command.delay": 0.06, "command.jitter": 0.01, "policy.latency": 0.04}
WEAK = {**of_all("voltage", 7.4), "servo.sag": 0.4}
ZEROS = {
    "servo.shoulder_pan.offset": 0.06,
    "servo.shoulder_lift.offset": 0.1,
    "servo.elbow_flex.offset": -0.08,
    "servo.wrist_flex.offset": 0.08,
}

REALITIES: Mapping[str, Mapping[str, float]] = {
    "gripper-zero": GRIPPER_ZERO,
    "joint-zeros": ZEROS,
    "late": LATE,
    "weak": WEAK,
    "backlash": of_all("backlash", 0.035),
    "all": {**LATE, **WEAK, **of_all("backlash", 0.02), **GRIPPER_ZERO},
}

METHODS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "head": {"train": "head"},
    "all": {"train": "all"},
    "recorded actions": {"labels": "recorded"},
    "failures left out": {"failures": "leave-out"},
    "not identified": {"space": "default"},
    "no rehearsal": {"rehearsal": 0.0},
    "cloning alone": {"labels": "recorded", "simulated": 0, "train": "head"},
}
"""Fine-tunings by name; the last is what copying the recording gives."""

SENSING = {
    "detector.noise": [0.0004, 0.0015],
    "detector.yaw_noise": [0.01, 0.04],
    "detector.latency": [0.05, 0.09],
    "sensor.noise": [0.0005, 0.002],
}
"""What varies from episode to episode on one arm, besides where things lie."""

RECORDED_SEED, MEASURED_SEED = 4242, 777


def plan_of(policy: str, reality: str, draws: int, seed: int) -> SweepPlan:
    """Episodes of a policy on the arm of a reality, as its sensors tell."""
    space = {"base": "task", "parameters": SENSING}
    return make_plan(
        task=None,
        policy=policy,
        draws=draws,
        seed=seed,
        space=space,
        twin=REALITIES[reality],
        privileged=False,
    )


def record(policy: str, reality: str, episodes: int, out: Path) -> None:
    """Episodes of the policy on this arm as `sim2real record` would leave them."""
    robot = Robot.load("so101")
    task = load_task(load_policy_file(policy).info.task, robot.n)
    driver = load_policy(policy, task, robot)
    plan = plan_of(policy, reality, episodes, RECORDED_SEED)
    made = []
    with World(robot, task, nominal=dict(REALITIES[reality])) as world:
        for draw in plan.make_draws(plan.bind())[0]:
            episode = rollout(world, driver, draw, linger=1.0)
            seen = {k: v for k, v in episode.features.items() if k == "goal" or k.startswith("object.")}
            episode.features = seen
            made.append(episode)
    write_episodes(out, robot, Calibration.nominal(robot), made)


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `path` holds, or what `make` gives, kept there."""
    if not path.exists():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
    return dict(read_json(path))


def measured(policy: str, reality: str, episodes: int, workers: int) -> dict[str, Any]:
    return evaluate(plan_of(policy, reality, episodes, MEASURED_SEED), workers=workers)


def tune(settings: FinetuneSettings, out: Path, reality: str, episodes: int, workers: int) -> dict[str, Any]:
    """What a fine-tuning says of itself, and its success on the arm."""
    began = time.monotonic()
    result = finetune(settings, out, workers=workers, say=lambda line: print(line, file=sys.stderr))
    seconds = round(time.monotonic() - began)
    told = {key: result.get(key) for key in ("held_out_deg", "mix", "forgetting", "identified", "teacher")}
    after = measured(str(out / "policy.onnx"), reality, episodes, workers)
    return {"after": after, "seconds": seconds, **told}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--realities", default=",".join(REALITIES))
    parser.add_argument("--methods", default="default")
    parser.add_argument("--recorded", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--simulated", type=int, default=100)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    workers = worker_count(args.workers)
    rows = []
    for reality in args.realities.split(","):
        folder = args.out / reality
        zero_shot = partial(measured, args.policy, reality, args.episodes, workers)
        before = kept(folder / "zero-shot.json", zero_shot)
        data = folder / f"recorded-{args.recorded}"
        if not data.exists():
            part = data.with_name(f".{data.name}")
            record(args.policy, reality, args.recorded, part)
            part.rename(data)
        for method in args.methods.split(","):
            tuned = folder / f"{method.replace(' ', '-')}-{args.recorded}"

            settings = FinetuneSettings(
                policy=args.policy, data=str(data), **{"simulated": args.simulated, **METHODS[method]}
            )
            run = partial(tune, settings, tuned, reality, args.episodes, workers)
            result = kept(tuned.with_suffix(".json"), run)
            compared = paired(before, result["after"])
            rows.append({"reality": reality, "method": method, **result, "compared": compared})
            if not args.json:
                lost = result["forgetting"]
                default = f"; default space {change_text(lost)}" if lost else ""
                print(
                    f"{reality}, {method}: {change_text(compared)} in {result['seconds']} s{default}",
                    flush=True,
                )
    if args.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
