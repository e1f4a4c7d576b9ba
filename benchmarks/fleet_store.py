"""What a fleet's store bears on this machine: episodes kept a second, bytes an episode, and how long it takes to look.

python benchmarks/fleet_store.py [--robots 1000] [--episodes 100000]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from hardware.fleet.messages import Message
from pipelines.fleet.conductor import begin, progress_of
from pipelines.fleet.dashboard import metrics, pages
from pipelines.fleet.registry.records import Reported
from pipelines.fleet.registry.registry import Registry
from pipelines.fleet.rollout.plan import Rules
from tests.pipelines.small_policy import small_policy

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--robots", type=int, default=1000)
parser.add_argument("--episodes", type=int, default=100_000)
parser.add_argument("--batch", type=int, default=500, help="messages of one transaction (%(default)s)")
args = parser.parse_args()


def timed(what: str, many: int, start: float, unit: str) -> None:
    took = time.perf_counter() - start
    print(
        f"{what}: {took:.2f} s" + (f" ({many / took:,.0f} {unit} a second)" if many > 1 else ""), flush=True
    )


rng = np.random.default_rng(0)
with tempfile.TemporaryDirectory() as folder, Registry.open(f"{folder}/store", create=True) as registry:
    names = [f"r{i:05d}" for i in range(args.robots)]
    for i, name in enumerate(names):
        registry.enroll(
            name, by="b", site=f"site {i % 5}", strata={"firmware": f"1.{i % 3}", "camera": f"c{i % 2}"}
        )
    old, new = (
        registry.publish(
            small_policy(Path(folder) / f"{i}" / "policy.onnx", seed=i), by="b", alias=alias
        ).digest
        for i, alias in enumerate(("stable", "candidate"))
    )
    begin(registry, registry.policy(new), "1,10%,50%,100%", Rules(), by="b")
    with_candidate = {robot.name for robot in registry.robots() if robot.assigned}
    known = {robot.name: robot for robot in registry.robots()}
    size = (Path(folder) / "store" / "fleet.db").stat().st_size
    start = time.perf_counter()
    for first in range(0, args.episodes, args.batch):
        batches = []
        for number in range(first, min(first + args.batch, args.episodes)):
            name = names[number % len(names)]
            body = {
                "policy": new if name in with_candidate else old,
                "task": "reach",
                "success": bool(rng.random() < 0.85),
                "judge": "task",
                "seconds": 12.5,
                "details": {
                    "episode": number % 5,
                    "run": "run-000123",
                    "clipped": 31,
                    "goal": [0.2, 0.05, 0.1],
                },
            }
            batches.append((name, "0123456789abcdef", [Message(number + 1, "episode", 1.7e9, body)]))
        registry.ingest(batches, known)
    timed(f"{args.episodes:,} episodes kept, {args.batch} a transaction", args.episodes, start, "episodes")
    grown = (Path(folder) / "store" / "fleet.db").stat().st_size - size
    print(f"{grown / args.episodes:.0f} bytes an episode in the database")
    registry.seen({name: (time.time(), Reported("running", old)) for name in names})
    start = time.perf_counter()
    progress = progress_of(registry, registry.rollouts()[0])
    timed(
        f"where the rollout stands ({progress.episodes} episodes with the candidate)",
        args.episodes,
        start,
        "episodes",
    )
    start = time.perf_counter()
    pages.overview(registry)
    timed(f"the dashboard's first page, {args.robots:,} robots", 1, start, "")
    start = time.perf_counter()
    metrics.exposition(metrics.collector(registry))
    timed("/metrics", 1, start, "")
