"""One policy for the suite `table`: figures by split, what its parts are worth, forgetting, and whether it obeys.

    python benchmarks/suite.py control [--policy FILE] [--trials 4]
        told another goal than the scene suggests, does it do what it was told? (default: the expert)
    python benchmarks/suite.py experts [--trials 4] [--noise 0]
        how often experts succeed on what sensors tell, as they demonstrate: what a policy can learn ends there
    python benchmarks/suite.py splits --policy FILE [--trials 5] [--splits seen L1 L2]
    python benchmarks/suite.py forgetting --policy FILE [--tasks tile_at_mark …] [--demonstrations 10]
        a task after another taught with rehearsal, and naively; success on it and on a sample of the old ones
    python benchmarks/suite.py ablations [--minutes 30] [--tasks PATTERN …] [--trials 5]
        the default against flat vectors, no DAgger, no balancing, a smaller network: one run each

All go on in the same --out. --minutes of an ablation are those of each run.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sim2real.statistics import wilson_interval

ROOT = Path(__file__).resolve().parents[1]

CONTROLS: tuple[tuple[str, str], ...] = (
    ("cube_in_bowl", "put the red cube behind the blue bowl"),
    ("can_in_tray", "lift the purple can"),
    ("cube_at_mark", "put the red cube to the left of the green mark"),
    ("big_cube_next_to_post", "lift the orange cube"),
    ("cube_on_base", "put the red cube to the right of the blue cube"),
    ("cube_on_base", "put the blue cube on the red cube"),
    ("tower_on_plate", "put the yellow tower in front of the green plate"),
    ("ball_in_bowl", "put the turquoise ball to the left of the bowl"),
    ("cube_and_can_in_tray", "put the purple can into the tray"),
    ("cube_at_mark_can_in_bowl", "put the can on the green mark and the red cube into the bowl"),
    ("cube_at_mark_can_in_bowl", "put the red cube into the blue bowl"),
    ("cube_left_post", "put the red cube to the right of the post"),
)
"""A scene that suggests one goal, and what is asked for instead."""

ABLATIONS: dict[str, list[str]] = {
    "default": [],
    "flat vectors": ["--network", "mlp"],
    "no DAgger": ["--rounds", "1"],
    "no balancing": ["--balance", "0"],
    "half the width": ["--width", "192"],
}
"""Flags of `pretrain --suite table` by what is left out."""
TAUGHT = ("tile_at_mark", "marble_in_bowl", "tin_next_to_post", "lift_mid_cube")
"""Tasks that the policy was not trained on, with things that it has never seen."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("control", "experts", "splits", "forgetting", "ablations"))
    parser.add_argument("--policy", default="expert")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--splits", nargs="+", default=["seen", "L1", "L2"])
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--demonstrations", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--evaluate", type=int, default=100)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="runs/suite")
    args = parser.parse_args()
    # Commands run in the project's folder.
    args.out = str(Path(args.out).absolute())
    if Path(args.policy).is_file():
        args.policy = str(Path(args.policy).absolute())
    print(json.dumps({"control": control, "experts": experts, "splits": splits, "forgetting": forgetting,
                      "ablations": ablations}[args.what](args), indent=2))  # fmt: skip


def control(args: argparse.Namespace) -> dict[str, Any]:
    """How often what was told was done, and how often what the scene suggests was."""
    from pipelines.sweeps.simulated import make_plan
    from sim2real.policies.load import load_policy
    from sim2real.robot import Robot
    from sim2real.simulation.rollout import rollout
    from sim2real.simulation.world import World
    from sim2real.tasks.registry import load_task
    from sim2real.tasks.suite.registry import load_suite
    from sim2real.tasks.suite.spec import TELLS

    robot = Robot.load("so101")
    rows: list[dict[str, Any]] = []
    did = did_other = 0
    for scene, instruction in CONTROLS:
        name = f"table/{scene}{TELLS}{instruction}"
        task = load_task(name, robot.n)
        plan = make_plan(task=name, policy=args.policy, draws=args.trials, seed=20_000 + args.seed)
        suggested = load_suite("table")[f"table/{scene}"].goal
        told = tempted = 0
        with World(robot, task) as world:
            policy = load_policy(args.policy, task, robot)
            for draw in plan.make_draws(plan.bind())[0]:
                told += bool(rollout(world, policy, draw, privileged=args.policy == "expert").success)
                tempted += suggested.holds(world.truth())
        did, did_other = did + told, did_other + tempted
        rows.append({"scene": scene, "told": instruction, "did": told, "did_the_other": tempted})
        print(
            f"{told}/{args.trials} as told, {tempted} as suggested: {scene}: {instruction}", file=sys.stderr
        )
    of = args.trials * len(rows)
    return {
        "policy": args.policy,
        "trials": of,
        "did_as_told": did / of,
        "wilson_95": list(wilson_interval(did, of)),
        "did_as_suggested": did_other / of,
        "scenes": rows,
    }


def experts(args: argparse.Namespace) -> dict[str, Any]:
    """Success of the experts as they demonstrate, by family."""
    from pipelines.learning.collect import collect
    from pipelines.learning.suite import SuiteSettings
    from sim2real.tasks.suite.registry import load_suite

    known = load_suite("table")
    settings = SuiteSettings(task="table", noise=args.noise)
    # Its first round has so many episodes of each task, and at least two.
    each = settings.rounds * len(settings.chosen())
    course = replace(settings, episodes=each * max(args.trials, 2)).course()
    draws = course.round_draws(0, [])
    _, made = collect(course.recipe(0.0, None), draws, workers=args.workers)
    families: dict[str, list[int]] = {}
    for name, (won, of) in made["per_task"].items():
        count = families.setdefault(known[name].family, [0, 0])
        count[0], count[1] = count[0] + won, count[1] + of
    for family, (won, of) in families.items():
        print(f"{family:8} {won:4} of {of}")
    won, of = (sum(count[k] for count in families.values()) for k in (0, 1))
    low, high = wilson_interval(won, of)
    print(f"{'all':8} {won:4} of {of}: {won / of:.1%} (95 %: {low:.0%} to {high:.0%})")
    return {"families": families, "successes": won, "episodes": of, "noise": args.noise}


def splits(args: argparse.Namespace) -> dict[str, Any]:
    """Success by split and family."""
    found = {}
    for split in args.splits:
        answer = measured(args.policy, Path(args.out) / f"benchmark-{split}", args, ["--split", split])
        found[split] = {
            key: answer[key]
            for key in ("tasks", "trials", "success_rate", "interval_95", "per_family", "failures")
        }
    return found


def forgetting(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Tasks taught one after another, with rehearsal and without it."""
    rows = []
    for how, flags in (("with rehearsal", []), ("naively", ["--rehearsal", "0"])):
        policy = args.policy
        for task in args.tasks or TAUGHT:
            out = Path(args.out) / f"taught-{how.split()[-1]}" / task.replace("/", "_")
            run(
                "finetune", "--policy", policy, "--tasks", task, "--demonstrations", args.demonstrations,
                "--evaluate", args.evaluate, "--seed", args.seed, "--workers", args.workers, "--out", out, *flags,
            )  # fmt: skip
            metrics = json.loads((out / "metrics.json").read_text())
            rows.append({"how": how, "task": task, "backward_transfer": metrics["forgetting"]["difference"]} | {
                name: {
                    "before": metrics[key]["before"]["success_rate"],
                    "after": metrics[key]["after"]["success_rate"],
                    "interval_95": metrics[key]["interval_95"],
                }
                for name, key in (("new", "simulation"), ("old", "forgetting"))
            })  # fmt: skip
            policy = str(out / "policy.onnx")
    return rows


def ablations(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What every part is worth: one run without it, as long as the others."""
    rows, tasks = [], ["--tasks", *args.tasks] if args.tasks else []
    for name, flags in ABLATIONS.items():
        out = Path(args.out) / name.replace(" ", "-")
        run(
            "pretrain", "--suite", "table", *tasks, "--minutes", args.minutes, "--evaluate", 0, "--seed", args.seed,
            "--workers", args.workers, "--out", out, *flags,
        )  # fmt: skip
        policy = str(out / "policy.onnx")
        trained = json.loads((out / "metrics.json").read_text())
        chosen = [flag for task in _names(policy) for flag in ("--task", task)]
        answer = measured(policy, out / "benchmark", args, chosen)
        rows.append(
            {"ablation": name, "minutes": args.minutes}
            | {key: answer[key] for key in ("tasks", "trials", "success_rate", "interval_95")}
            | {"episodes": sum(row["episodes"] for row in trained["rounds"]), "steps": trained["curve"][-1]["step"]}
        )  # fmt: skip
        print(rows[-1], file=sys.stderr)
    return rows


def _names(policy: str) -> Sequence[str]:
    from sim2real.policies.file import load_policy_file

    return list(load_policy_file(policy).info.provenance["tasks"])


def measured(policy: str, out: Path, args: argparse.Namespace, flags: Sequence[str]) -> dict[str, Any]:
    """What `sim2real benchmark --json` says."""
    suite = [] if "--task" in flags else ["--suite", "table"]
    text = run(
        "benchmark", "--policy", policy, *suite, *flags, "--trials", args.trials, "--seed", 30_000 + args.seed,
        "--workers", args.workers, "--json", "--out", out,
    )  # fmt: skip
    return dict(json.loads(text))


def run(*words: object) -> str:
    """A command of sim2real; what it prints."""
    command = [sys.executable, "-m", "pipelines", *map(str, words)]
    return subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
