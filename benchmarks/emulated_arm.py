"""Success on the emulated arm before and after fine-tuning on ten recorded episodes.

    python benchmarks/emulated_arm.py --policy runs/lift/policy.onnx [--episodes 20] [--recorded 10] [--out DIR]

The arm has its own parameters, far from the training nominal; bytes, time and camera are as on a real one. The
policy's task is the file's. Episodes before and after use the same arm and different object places.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.emulator.launch import start_emulator
from hardware.policy_file import load_policy_file


def command(*words: Any) -> str:
    """Standard output of one of our commands."""
    line = [sys.executable, "-m", "pipelines", *(str(word) for word in words)]
    return subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", required=True)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--recorded", type=int, default=10)
    parser.add_argument("--simulated", type=int, default=100)
    parser.add_argument("--out", default=None)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = Path(args.out or tempfile.mkdtemp(prefix="emulated-arm-"))
    task = load_policy_file(args.policy).info.task

    with start_emulator("so101", task=task, seed=11) as arm:
        flags = [
            *("--port", arm.port, "--calibration", arm.calibration, "--cameras", arm.cameras_file, "--yes"),
            *(flag for name, source in arm.sources.items() for flag in ("--camera", f"{name}={source}")),
            *("--before-episode", arm.before_episode, "--success", arm.success_command),
        ]
        run = ["--episodes", args.episodes, "--json"]
        before = json.loads(command("deploy", "--policy", args.policy, *flags, *run, "--out", out / "before"))
        recorded = ["--episodes", args.recorded, "--seed", 100, "--out", out / "recorded"]
        command("record", "--task", task, *flags, *recorded)
        command("identify", "--data", out / "recorded", "--out", out / "twin")
        tuning = ["--space", out / "twin" / "space.toml", "--simulated", args.simulated]
        command(
            "finetune", "--policy", args.policy, "--data", out / "recorded", *tuning, "--out", out / "tuned"
        )
        tuned = out / "tuned" / "policy.onnx"
        more = [*run, "--seed", 1000, "--out", out / "after"]
        after = json.loads(command("deploy", "--policy", tuned, *flags, *more))

    rows = {"task": task, "before": before, "after": after, "out": str(out)}
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    for name, result in (("before fine-tuning", before), ("after fine-tuning", after)):
        low, high = result["wilson_95"]
        print(
            f"{task}, {name}: {result['successes']} of {result['episodes']} "
            f"({result['success_rate']:.0%}, 95 % interval {low:.0%} to {high:.0%})"
        )
    print(f"run directories: {out}")


if __name__ == "__main__":
    main()
