"""What is understood of what people say: paraphrases of tasks of the suite `table`, and what must be refused.

    python benchmarks/language.py [--wrong] [--all] [--json]

`paraphrases.txt` holds sentences by hand; those marked "no" were never looked at when the grammar was made, and the
figures are of them (--all: of the others beside). --wrong lists what was not understood, or as something else.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim2real.errors import UserError
from sim2real.predicates import Predicate
from sim2real.statistics import wilson_interval
from sim2real.tasks.suite.language import understand
from sim2real.tasks.suite.registry import load_suite

FILE = Path(__file__).with_name("paraphrases.txt")


@dataclass(frozen=True)
class Sentence:
    """One line: whether the grammar's author looked at it, its task, whether it must be refused."""

    seen: bool
    task: str
    possible: bool
    text: str


def sentences() -> list[Sentence]:
    found = []
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            seen, task, text = line.split("\t")
            found.append(
                Sentence(seen == "yes", f"table/{task.removeprefix('-')}", not task.startswith("-"), text)
            )
    return found


def outcome(sentence: Sentence) -> tuple[str, str]:
    """("right", "refused" or "wrong", what was understood or why not)."""
    spec = load_suite("table")[sentence.task]
    try:
        goal, constraints = understand(sentence.text, spec.scene)
    except UserError as error:
        return ("refused" if sentence.possible else "right"), str(error)
    same = sentence.possible and parts(goal) == parts(spec.goal) and constraints == spec.constraints
    return ("right" if same else "wrong"), str(goal)


def parts(goal: Predicate) -> frozenset[Predicate]:
    return frozenset(goal.parts())


def figures(chosen: Iterable[Sentence]) -> dict[str, Any]:
    found = [outcome(sentence)[0] for sentence in chosen]
    right = found.count("right")
    return {
        "sentences": len(found),
        "right": right,
        "refused": found.count("refused"),
        "wrong": found.count("wrong"),
        "wilson_95": list(wilson_interval(right, len(found))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wrong", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = {}
    for seen in (False, True) if args.all else (False,):
        lines = [line for line in sentences() if line.seen is seen]
        result["looked at" if seen else "never looked at"] = {
            "possible": figures(line for line in lines if line.possible),
            "to be refused": figures(line for line in lines if not line.possible),
        }
        for line in lines:
            how, why = outcome(line)
            if args.wrong and how != "right":
                print(f"{how:8} {line.task:40} {line.text}\n         {why}")
    if args.json:
        print(json.dumps(result, indent=2))
        return
    for which, kinds in result.items():
        for kind, row in kinds.items():
            low, high = row["wilson_95"]
            print(
                f"{which}, {kind}: {row['right']} of {row['sentences']} right "
                f"({row['right'] / row['sentences']:.0%}; 95 %: {low:.0%} … {high:.0%}), "
                f"{row['refused']} refused, {row['wrong']} taken for something else"
            )


if __name__ == "__main__":
    main()
