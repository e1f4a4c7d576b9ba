"""Success on the emulated arm before and after fine-tuning on ten recorded episodes.

    python benchmarks/emulated_arm.py --policy runs/lift/policy.onnx [--episodes 20] [--recorded 10] [--out DIR]

The arm has its own parameters, far from the training nominal; bytes, time and camera are as on a real one. The
policy's task is the file's. Before and after use the same arm, object places and goals, so that the comparison
is paired; the recorded episodes have other ones.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.emulator.launch import EmulatorHandle, start_emulator
from sim2real.policies.file import load_policy_file

ARM_SEED, RECORDED_SEED = 11, 100


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

    before = run_policy(args.policy, task, args.episodes, out / "before")
    with start_emulator("so101", task=task, seed=RECORDED_SEED) as arm:
        recorded = ["--episodes", args.recorded, "--seed", RECORDED_SEED, "--out", out / "recorded"]
        command("record", "--task", task, *flags_of(arm), *recorded)
    command("identify", "--data", out / "recorded", "--out", out / "twin")
    tuning = ["--space", out / "twin" / "space.toml", "--simulated", args.simulated, "--out", out / "tuned"]
    command("finetune", "--policy", args.policy, "--data", out / "recorded", *tuning)
    after = run_policy(out / "tuned" / "policy.onnx", task, args.episodes, out / "after")

    only_before, only_after, p = paired(out / "before", out / "after")
    rows = {"task": task, "before": before, "after": after, "p": p, "out": str(out)}
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    for name, result in (("before fine-tuning", before), ("after fine-tuning", after)):
        low, high = result["wilson_95"]
        print(
            f"{task}, {name}: {result['successes']} of {result['episodes']} "
            f"({result['success_rate']:.0%}, 95 % interval {low:.0%} to {high:.0%})"
        )
    print(f"succeeded only before {only_before}, only after {only_after}; McNemar's exact test p = {p:.3g}")
    print(f"run directories: {out}")


def flags_of(arm: EmulatorHandle) -> list[str]:
    """What `deploy` and `record` must be told about an arm."""
    cameras = [flag for name, source in arm.sources.items() for flag in ("--camera", f"{name}={source}")]
    files = ["--port", arm.port, "--calibration", arm.calibration, "--cameras", arm.cameras_file]
    return [
        *files,
        *cameras,
        "--before-episode",
        arm.before_episode,
        "--success",
        arm.success_command,
        "--yes",
    ]


def run_policy(policy: Any, task: str, episodes: int, out: Path) -> dict[str, Any]:
    """Episodes 0, 1, … of one arm: the same places and goals whichever policy runs."""
    with start_emulator("so101", task=task, seed=ARM_SEED) as arm:
        words = ["--episodes", episodes, "--seed", ARM_SEED, "--json", "--out", out]
        return dict(json.loads(command("deploy", "--policy", policy, *flags_of(arm), *words)))


def paired(before: Path, after: Path) -> tuple[int, int, float]:
    """Episodes that only one of the policies solved, and McNemar's exact two-sided p, from run directories."""
    import pyarrow.parquet as pq
    from scipy.stats import binomtest

    columns = [pq.read_table(run / "episodes.parquet")["success"].to_pylist() for run in (before, after)]
    pairs = list(zip(*columns, strict=False))
    only_before = sum(bool(a) and not b for a, b in pairs)
    only_after = sum(bool(b) and not a for a, b in pairs)
    differing = only_before + only_after
    return only_before, only_after, float(binomtest(only_after, differing).pvalue) if differing else 1.0


if __name__ == "__main__":
    main()
