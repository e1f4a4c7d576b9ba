"""SIGKILL and SIGSTOP of control, inference, camera and recorder at random moments, judged on the arm's physics.

Each trial starts real processes; with --state the work goes on where it was interrupted. How long the arm takes to
hold is judged on a real clock: a machine that is busy with other things makes it look worse, and so may --lanes.
Wanted: goals stand still within 100 ms after control is gone, never exceed the gate's limits, and every trial
ends settled: lowered to rest, torque off.

    python benchmarks/kill.py [--times 200] [--roles control,camera] [--minutes M] [--lanes N] [--state FILE] [--json]
"""

import argparse
import json
import math
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.reliability.kill_trials import ROLES, SIGNALS, Bench, Trial


def main() -> int:
    parser = argparse.ArgumentParser(description="kill what drives an arm")
    parser.add_argument("--times", type=int, default=200, help="trials of each role and signal")
    parser.add_argument("--roles", default=",".join(ROLES))
    parser.add_argument("--state", help="file that keeps what is done, to go on from")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no trial after so long")
    parser.add_argument("--lanes", type=int, default=1, help="so many at a time, each on an arm of its own")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.times < 1 or options.lanes < 1:
        parser.error(f"--times and --lanes must be positive, got {options.times} and {options.lanes}")
    roles = options.roles.split(",")
    if set(roles) - set(ROLES):
        parser.error(f"--roles are out of {', '.join(ROLES)}, got {options.roles}")
    state = None if options.state is None else Path(options.state)
    done: dict[str, list[dict[str, Any]]] = defaultdict(list)
    if state is not None and not state.parent.is_dir():
        parser.error(f"--state {state}: there is no folder {state.parent}")
    if state is not None and state.exists():
        try:
            done.update(json.loads(state.read_text()))
        except ValueError:
            parser.error(f"--state {state} is not a file of this script: choose another")
    # One of each in turn, so that an interrupted run says something about all of them.
    wanted = ((k, role, how) for k in range(options.times) for role in roles for how in SIGNALS)
    todo = deque((k, role, how) for k, role, how in wanted if len(done[f"{how} {role}"]) <= k)
    lock = threading.Lock()
    end = time.monotonic() + 60 * options.minutes

    def keep(k: int, role: str, how: str, trial: Trial) -> None:
        with lock:
            done[f"{how} {role}"].append(trial.as_dict())
            print(f"{how} {role} {k}: {trial.ended} {trial.problems or 'ok'}", file=sys.stderr)
            if state is not None:
                partial = state.with_suffix(".part")
                partial.write_text(json.dumps(done))
                partial.replace(state)

    def lane() -> None:
        with tempfile.TemporaryDirectory(prefix="sim2real-kill-") as folder, Bench(Path(folder)) as bench:
            while time.monotonic() < end:
                try:
                    k, role, how = todo.popleft()
                except IndexError:
                    return
                keep(k, role, how, bench.trial([(role, how)], seed=k))

    begun, before = time.monotonic(), sum(map(len, done.values()))
    lanes = [threading.Thread(target=lane) for _ in range(options.lanes)]
    for thread in lanes:
        thread.start()
    try:
        for thread in lanes:
            thread.join()
    except KeyboardInterrupt:
        todo.clear()
        print("interrupted: the trials that have begun are finished first", file=sys.stderr)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for thread in lanes:
            thread.join()
    took, made = time.monotonic() - begun, sum(map(len, done.values())) - before
    if made:
        print(f"{made} trials in {took:.0f} s, {took / made:.1f} s each", file=sys.stderr)
    if options.json:
        print(json.dumps(done))
    else:
        for name, trials in done.items():
            held = np.array([trial["held"] for trial in trials if trial["held"] is not None]) * 1000
            hold = f", holds after p50 {np.median(held):.0f}, max {held.max():.0f} ms" if len(held) else ""
            bad = [trial for trial in trials if trial["problems"]]
            print(f"{name:15} {len(trials)} trials, {len(trials) - len(bad)} as they should be{hold}")
            for trial in bad[:5]:
                print(f"    seed {trial['seed']}: {trial['problems']}")
    return 1 if any(trial["problems"] for trials in done.values() for trial in trials) else 0


if __name__ == "__main__":
    sys.exit(main())
