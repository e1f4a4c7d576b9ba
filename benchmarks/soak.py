"""A long time at work: simulated hours with random faults, and real minutes without.

    python benchmarks/soak.py [--hours 24] [--seed S] [--stress X] [--state FILE] [--json]
    python benchmarks/soak.py --real MINUTES [--json]

The simulated part runs on a stepped clock with faults as often as the catalogue assumes for a working arm, times
`--stress`, in stretches of half an hour; with --state it goes on where it was interrupted. Uptime, success and
interventions are those of that assumption (reference of the field: 99.2 %, 94 %, 0.5 a day). The real part runs a
policy at 100 Hz on an emulated arm in another process. Both print memory, descriptors, threads and shared memory
at the start and at the end.
"""

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.emulator.launch import start_emulator
from pipelines.chaos import Chaos, ChaosOptions, Tally, summary

STRETCH = 1800.0
REFERENCE = {"uptime": 0.992, "success": 0.94, "interventions_per_day": 0.5}


def resources(pid: int | str = "self") -> dict[str, float]:
    """Resident memory (MB), open descriptors, threads, and bytes in /dev/shm."""
    status = Path(f"/proc/{pid}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    shared = sum(entry.stat().st_size for entry in os.scandir("/dev/shm") if entry.is_file())
    return {
        "memory_mb": int(values["VmRSS"].split()[0]) / 1024,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(values["Threads"]),
        "shared_bytes": shared,
    }


def simulated(hours: float, seed: int, stress: float, state: Path | None) -> tuple[Tally, dict[str, Any]]:
    """Stretches of `STRETCH` s, each with a seed of its own on an arm of its own."""
    tally, begun = Tally(), 0
    if state is not None and state.exists():
        kept = json.loads(state.read_text())
        tally, begun = Tally.from_dict(kept["tally"]), kept["stretches"]
    # What is compiled and loaded once is not a leak.
    Chaos(ChaosOptions(robot="so101", seed=seed)).close()
    gc.collect()
    first = resources()
    count = math.ceil(hours * 3600 / STRETCH)
    for k in range(begun, count):
        chaos = Chaos(ChaosOptions(seed=seed * 1000 + k, mix="field", stress=stress))
        try:
            tally.add(chaos.advance(min(STRETCH, hours * 3600 - k * STRETCH)))
        finally:
            chaos.close()
        if state is not None:
            state.write_text(json.dumps({"tally": tally.as_dict(), "stretches": k + 1}))
        print(f"{k + 1} of {count} stretches, {len(tally.broken)} promises broken", file=sys.stderr)
    gc.collect()
    return tally, {"start": first, "end": resources(), "threads": threading.active_count()}


def real(minutes: float) -> dict[str, Any]:
    """A policy at 100 Hz on an emulated arm for so long: rate, skipped periods, and what grew."""
    with tempfile.TemporaryDirectory() as folder, start_emulator("so101", task="reach") as emulator:
        command = [
            *(sys.executable, "-m", "pipelines", "deploy", "--policy", "expert", "--task", "reach"),
            *("--goal", "0.22,0.05,0.15", "--port", emulator.port, "--calibration", emulator.calibration),
            *("--seconds", f"{minutes * 60:g}", "--out", folder, "--yes", "--json"),
        ]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        time.sleep(min(30.0, minutes * 30))
        first = last = None
        while process.poll() is None:
            try:
                last = {"control": resources(process.pid), "emulator": resources(emulator.pid)}
            except (OSError, KeyError):
                break
            first = first or last
            time.sleep(2.0)
        assert process.stdout is not None
        result = json.loads(process.stdout.read())
        return {"result": result, "start": first, "end": last, "status": process.wait()}


def table(start: Mapping[str, float], end: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {start[name]:.0f} → {end[name]:.0f}" for name in start)


def main() -> int:
    parser = argparse.ArgumentParser(description="soak an arm")
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stress", type=float, default=1.0, help="faults so many times as often as assumed")
    parser.add_argument("--state", help="file that keeps what is done, to go on from")
    parser.add_argument("--real", type=float, metavar="MINUTES", help="real minutes at 100 Hz instead")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.real:
        found = real(options.real)
        if options.json:
            print(json.dumps(found))
        else:
            result = found["result"]
            print(
                f"{result['seconds']:.0f} s at {result['rate_hz']:.3f} Hz, {result['overruns']} periods skipped, "
                f"period error {result['period_error_ms']}, ended {result['final_state']} {result['faults']}"
            )
            for name in ("control", "emulator"):
                print(f"{name}: {table(found['start'][name], found['end'][name])}")
        return int(found["status"])
    state = None if options.state is None else Path(options.state)
    tally, grown = simulated(options.hours, options.seed, options.stress, state)
    if options.json:
        print(json.dumps({**tally.as_dict(), "resources": grown, "reference": REFERENCE}))
    else:
        print(summary(tally))
        print(f"reference   uptime 99.2 %, success 94 %, 0.5 interventions a day (stress {options.stress:g})")
        print(f"resources   {table(grown['start'], grown['end'])}")
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
