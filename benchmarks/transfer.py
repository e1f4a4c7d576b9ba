"""Zero-shot figures of the transfer protocol: `reach`, `push` and `lift` on every reality, as a table.

    python benchmarks/transfer.py --out runs/transfer [--episodes 50] [--policy lift=FILE …] [--max-minutes M]

Policies that are not given are trained with the defaults of `sim2real pretrain` into OUT/TASK/policies. Goes on where
it was stopped. `--adapted` adds what identification and fine-tuning make of it.
"""

import argparse
import json
import time
from pathlib import Path

from pipelines import transfer

TASKS = ("reach", "push", "lift")
WANTED = {"reach": 0.99, "push": 0.90, "lift": 0.85}
"""Mean success that is aimed at, zero-shot."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--realities", default="all")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--policy", action="append", default=[], metavar="TASK=FILE")
    parser.add_argument("--adapted", action="store_true", help="identified, finetuned and oracle besides")
    parser.add_argument("--max-minutes", type=float, default=None, help="of each training")
    parser.add_argument("--workers", type=int, default=None)
    args = parser.parse_args()
    given = dict(text.split("=", 1) for text in args.policy)
    methods = ("default", *(("identified", "finetuned", "oracle") if args.adapted else ()))
    found = {}
    for task in args.tasks.split(","):
        begin = time.monotonic()
        found[task] = transfer(
            task,
            out=Path(args.out) / task,
            realities=args.realities,
            methods=methods,
            episodes=args.episodes,
            policies={"default": given[task]} if task in given else {},
            max_minutes=args.max_minutes,
            workers=args.workers,
        )
        print(f"{task}: {time.monotonic() - begin:.0f} s\n{found[task]}\n", flush=True)
    realities = next(iter(found.values())).realities
    print("| reality | " + " | ".join(f"{t}, {m}" for t in found for m in methods) + " |")
    print("|---|" + "---|" * (len(found) * len(methods)))
    for reality in realities:
        print(
            f"| `{reality}` | "
            + " | ".join(_cell(found[t], reality, m) for t in found for m in methods)
            + " |"
        )
    means = [found[t].success[m] for t in found for m in methods]
    print("| mean | " + " | ".join("–" if mean is None else f"{mean:.1%}" for mean in means) + " |")
    print(json.dumps({t: {"zero_shot": found[t].success["default"], "wanted": WANTED.get(t)} for t in found}))


def _cell(found: object, reality: str, method: str) -> str:
    one = found.result["realities"][reality].get(method)  # type: ignore[attr-defined]
    if one is None or one["success_rate"] is None:
        return "–"
    low, high = one["wilson_95"]
    return f"{one['successes']} of {one['episodes']} ({low:.0%}–{high:.0%})"


if __name__ == "__main__":
    main()
