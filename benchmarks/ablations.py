"""Which parts of learning earn their place: a policy trained with a part and without it, measured on the same draws.

    python benchmarks/ablations.py [latency history practice] [--task lift] [--minutes 3] [--draws 200] [--out DIR]

latency   told what is committed while it thinks (`--latency 0.3`), against the defaults and against latencies drawn
          without telling; success at inference latencies of 0, 100, 200 and 300 ms
history   the last six observations (`--history 6`) against one, over a space with wide delay and friction
practice  PPO after cloning (`--algorithm cloning+ppo`) against cloning for as long

Every training gets `--minutes`; a second start goes on where the first was stopped. The table has success with its
95 % interval; results.json in DIR has everything.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

LATENCIES = (0.0, 0.1, 0.2, 0.3)
DRAWN = {"policy.latency": [0.0, 0.3]}
WIDE: dict[str, Any] = {
    "command.delay": [0.0, 0.12],
    "servo.*.coulomb": {"distribution": "loguniform", "low": 0.3, "high": 4.0, "mode": "scale"},
    "servo.*.viscous": {"distribution": "loguniform", "low": 0.3, "high": 3.0, "mode": "scale"},
    "object.*.friction": [0.3, 1.2],
}

Variants = dict[str, tuple[list[str], dict[str, Any]]]
"""Flags of `pretrain`, and the space to train in, by name."""
ABLATIONS: dict[str, tuple[Variants, dict[str, dict[str, Any]]]] = {
    "latency": (
        {"default": ([], {}), "drawn": ([], DRAWN), "told": (["--latency", "0.3"], {})},
        {f"{1000 * late:.0f} ms": {"policy.latency": late} for late in LATENCIES},
    ),
    "history": (
        {"one moment": ([], WIDE), "history": (["--history", "6"], WIDE)},
        {"wide": WIDE, "default": {}},
    ),
    "practice": (
        {"cloning": ([], {}), "cloning+ppo": (["--algorithm", "cloning+ppo"], {})},
        {"default": {}},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ablations", nargs="*", metavar="A", help=f"{', '.join(ABLATIONS)} (all of them)")
    parser.add_argument("--task", default="lift")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", default="runs/ablations")
    args = parser.parse_args()
    unknown = set(args.ablations) - set(ABLATIONS)
    if unknown:
        parser.error(f"there is no ablation {', '.join(sorted(unknown))}; known are {', '.join(ABLATIONS)}")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name in args.ablations or ABLATIONS:
        variants, conditions = ABLATIONS[name]
        for variant, (flags, space) in variants.items():
            where = out / f"{args.task}-{name}-{variant.replace(' ', '-')}"
            train(where, space, flags, args)
            for condition, measured in conditions.items():
                key = f"{args.task}/{name}/{variant}/{condition}/{args.draws}"
                if key not in results:
                    results[key] = measure(where, measured, args)
                    path.write_text(json.dumps(results, indent=2))
                low, high = results[key]["wilson_95"]
                print(
                    f"{args.task:6} {name:9} {variant:12} {condition:8} {results[key]['success_rate']:6.1%} "
                    f"[{low:.1%}, {high:.1%}]",
                    flush=True,
                )


def train(where: Path, space: dict[str, Any], flags: list[str], args: argparse.Namespace) -> None:
    """Nothing where it has been done."""
    command(
        "pretrain", "--task", args.task, "--minutes", args.minutes, "--seed", args.seed, "--evaluate", 0, "--out",
        where, *written(where, "train", space), *flags, *workers(args),
    )  # fmt: skip


def measure(where: Path, space: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """What `evaluate` says, on draws that no variant was trained on."""
    answer: dict[str, Any] = json.loads(
        command(
            "evaluate", "--policy", where / "policy.onnx", "--task", args.task, "--draws", args.draws, "--seed",
            20_000 + args.seed, "--json", *written(where, "measure", space), *workers(args),
        )
    )  # fmt: skip
    return answer


def written(where: Path, what: str, space: dict[str, Any]) -> list[Any]:
    """The flag for a space, in a file beside the run."""
    if not space:
        return []
    path = where.with_name(f"{where.name}-{what}.toml")
    lines = [f'"{name}" = {_toml(value)}' for name, value in space.items()]
    path.write_text("[parameters]\n" + "\n".join(lines) + "\n")
    return ["--space", path]


def workers(args: argparse.Namespace) -> list[Any]:
    return [] if args.workers is None else ["--workers", args.workers]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {json.dumps(part)}" for key, part in value.items()) + "}"
    return json.dumps(value)


def command(*words: Any) -> str:
    """Run a command of the package and return its standard output; its progress goes to the terminal."""
    arguments = [sys.executable, "-m", "pipelines", *map(str, words)]
    return subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout


if __name__ == "__main__":
    main()
