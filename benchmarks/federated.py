"""Clients that keep their data: alone, federated and pooled, and what codecs and missing clients cost.

    python benchmarks/federated.py [--task reach] [--clients 8] [--rounds 12] [--episodes 20] [--evaluate 24]

Every row is one `federate simulate` in DIR, on the same clients and episodes; a stopped run goes on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from pipelines.api.federate import simulate_federation

ROWS: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "int8": {"codec": "int8"},
    "topk": {"codec": "topk"},
    "delta": {"codec": "delta"},
    "30 % late or dead": {"stragglers": 0.2, "dead": 0.1},
    "alike": {"alpha": float("inf")},
    "trimmed, two liars": {"strategy": "trimmed", "lying": 2},
    "fedavg, two liars": {"lying": 2},
    "personal head": {"personal": "head"},
}
"""What each row changes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="reach")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--evaluate", type=int, default=24)
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=tuple(ROWS))
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", default="runs/federated")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {}
    print("| | alone | federated | pooled | kB a client and round | fewer bytes | longest round / deadline |")
    print("|---|---|---|---|---|---|---|")
    for name in options.rows:
        folder = Path(options.out) / name.replace(" ", "-").replace("%", "percent").replace(",", "")
        row = simulate_federation(
            options.task,
            out=folder,
            clients=options.clients,
            rounds=options.rounds,
            episodes=options.episodes,
            evaluate=options.evaluate,
            workers=options.workers,
            **ROWS[name],
        ).result
        found[name] = row
        times = row["bytes_uncompressed"] / row["bytes_per_client_round"]
        longest = max(each["seconds"] / each["deadline_s"] for each in row["history"])
        cells = [_rate(each) for each in (row["alone"], row, row["pooled"])]
        cells += [f"{row['bytes_per_client_round'] / 1e3:.1f}", f"{times:.1f} ×", f"{longest:.2f}"]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    if options.json:
        print(json.dumps({name: dict(row) for name, row in found.items()}))


def _rate(row: Any) -> str:
    low, high = row["interval_95"]
    return f"{row['success_rate']:.1%} [{low:.0%}, {high:.0%}]"


if __name__ == "__main__":
    main()
