"""SIGKILL and SIGSTOP of control, inference, camera and recorder at random moments, judged on the arm's physics.

Each trial starts real processes and takes about 20 s; with --state the work goes on where it was interrupted.
Wanted: goals stand still within 100 ms after control is gone, never exceed the gate's limits, and every trial
ends settled: lowered to rest, torque off.

    python benchmarks/kill.py [--times 200] [--roles control,camera] [--state FILE] [--json]
"""

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.killing import ROLES, SIGNALS, run_trial


def main() -> int:
    parser = argparse.ArgumentParser(description="kill what drives an arm")
    parser.add_argument("--times", type=int, default=200, help="trials of each role and signal")
    parser.add_argument("--roles", default=",".join(ROLES))
    parser.add_argument("--state", help="file that keeps what is done, to go on from")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    roles = options.roles.split(",")
    if set(roles) - set(ROLES):
        parser.error(f"--roles are out of {', '.join(ROLES)}, got {options.roles}")
    state = None if options.state is None else Path(options.state)
    done: dict[str, list[dict[str, Any]]] = defaultdict(list)
    if state is not None and state.exists():
        done.update(json.loads(state.read_text()))
    # One of each in turn, so that an interrupted run says something about all of them.
    for k in range(options.times):
        for role in roles:
            for how in SIGNALS:
                trials = done[f"{how} {role}"]
                if len(trials) > k:
                    continue
                with tempfile.TemporaryDirectory(prefix="sim2real-kill-") as folder:
                    trial = run_trial(Path(folder), [(role, how)], seed=k)
                trials.append(trial.as_dict())
                print(f"{how} {role} {k}: {trial.ended} {trial.problems or 'ok'}", file=sys.stderr)
                if state is not None:
                    state.write_text(json.dumps(done))
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
