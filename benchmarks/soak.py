"""A long time at work: simulated hours with random faults, and real minutes without.

    python benchmarks/soak.py [--hours 24] [--seed S] [--stress X] [--workers 2] [--state FILE] [--simulated] [--json]
    python benchmarks/soak.py --real MINUTES [--json]

The simulated part runs on a stepped clock in stretches of a quarter of an hour, each with an arm of its own, spread
over processes; with --state it goes on where it was interrupted. Faults come `--stress` times as often as the
catalogue assumes for an arm that works day and night; uptime, success and interventions are worked out for an arm
to which they come as often as assumed (reference of the field: 99.2 %, 94 %, 0.5 a day). Killed processes and full
disks need real processes: as many as come in a stretch are let happen, in real time, to an emulated arm at work, one
after the other (--simulated leaves them out). The real part runs a policy
at 100 Hz on an emulated arm in another process. Both print memory, descriptors, threads and shared memory at the
start, when everything has been loaded and compiled once, and at the end.
"""

import argparse
import ctypes
import gc
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.emulator.launch import start_emulator
from pipelines.reliability.chaos import Chaos, ChaosOptions
from pipelines.reliability.kill_trials import Bench
from pipelines.reliability.outside import drawn, tally_of
from pipelines.reliability.tally import Tally, summary
from sim2real.errors import UserError

STRETCH = 900.0
WARM_UP = 40.0
"""s with a fault every second, in which nearly everything is used once that ever is."""
REFERENCE = {"uptime": 0.992, "success": 0.94, "interventions_per_day": 0.5}


def resources(pid: int | str = "self") -> dict[str, float]:
    """Resident memory (MB), open descriptors, threads, and bytes in /dev/shm.

    Of this process the memory does not count what the allocator keeps at hand for later.
    """
    if pid == "self":
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
    status = Path(f"/proc/{pid}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    shared = sum(entry.stat().st_size for entry in os.scandir("/dev/shm") if entry.is_file())
    return {
        "memory_mb": int(values["VmRSS"].split()[0]) / 1024,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(values["Threads"]),
        "shared_bytes": shared,
    }


def _warm_up() -> None:
    # The parent decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    chaos = Chaos(ChaosOptions(gap=1.0))
    # What works out a tally's intervals is loaded once, too: 33 MB of statistics.
    chaos.advance(WARM_UP).as_dict()
    chaos.close()
    _FIRST.update(resources())


_FIRST: dict[str, float] = {}


def _stretch(k: int, seconds: float, seed: int, stress: float) -> tuple[dict[str, Any], int, dict[str, Any]]:
    """Stretch k: its tally, the process it ran in, and what that held at the start and holds now."""
    chaos = Chaos(ChaosOptions(seed=seed * 1000 + k, mix="field", stress=stress))
    try:
        tally = chaos.advance(seconds)
    finally:
        chaos.close()
    return tally.as_dict(), os.getpid(), {"start": _FIRST, "end": resources()}


def simulated(
    hours: float, seed: int, stress: float, workers: int, state: Path | None, *, outside: bool = True
) -> tuple[Tally, list[dict[str, Any]]]:
    """Stretches of `STRETCH` s; the sum of all that are done, and the resources of each process. `outside`: with the
    faults that need real processes."""
    asked = {"seed": seed, "stress": stress, "stretch": STRETCH}
    ChaosOptions(seed=seed, mix="field", stress=stress)  # refuses what cannot be
    done: dict[str, dict[str, Any]] = {}
    if state is not None and not state.parent.is_dir():
        raise UserError(f"--state {state}: there is no folder {state.parent}")
    if state is not None and state.exists():
        try:
            kept = json.loads(state.read_text())
        except ValueError:
            raise UserError(f"--state {state} is not a file of this script: choose another") from None
        if kept["asked"] != asked:
            raise UserError(
                f"--state {state} was begun with {kept['asked']}, not {asked}: choose another file"
            )
        done = kept["done"]
    lengths = {k: min(STRETCH, hours * 3600 - k * STRETCH) for k in range(math.ceil(hours * 3600 / STRETCH))}
    grown: dict[int, dict[str, Any]] = {}

    def keep() -> None:
        if state is not None:
            partial = state.with_suffix(".part")
            partial.write_text(json.dumps({"asked": asked, "done": done}))
            partial.replace(state)

    with ProcessPoolExecutor(workers, get_context("spawn"), _warm_up) as pool:
        tasks = {
            pool.submit(_stretch, k, length, seed, stress): k
            for k, length in lengths.items()
            if str(k) not in done
        }
        try:
            for task in as_completed(tasks):
                tally, pid, grown[pid] = task.result()
                done[str(tasks[task])] = tally
                keep()
                broken = sum(len(one["broken"]) for one in done.values())
                print(f"{len(done)} of {len(lengths)} stretches, {broken} promises broken", file=sys.stderr)
        except KeyboardInterrupt:
            for process in list(pool._processes.values()):
                process.terminate()
            pool.shutdown(cancel_futures=True)
            print("interrupted; what follows is of the stretches that are done", file=sys.stderr)
    if outside:
        faults = {
            f"{k} {fault.name} {number}": fault
            for k, length in lengths.items()
            if str(k) in done
            for number, fault in enumerate(drawn(length * stress, seed * 1000 + k))
        }
        with tempfile.TemporaryDirectory(prefix="sim2real-soak-") as folder, Bench(Path(folder)) as bench:
            for name, fault in faults.items():
                if name in done:
                    continue
                found = tally_of(bench, fault)
                done[name] = found.as_dict()
                keep()
                said = next(iter(found.latched), "went on")
                print(f"{name}: {fault.how} {fault.role}: {said} {found.broken or 'ok'}", file=sys.stderr)
    total = Tally()
    for k in sorted(done, key=lambda name: int(name.split()[0])):
        total.add(Tally.from_dict(done[k]))
    return total, list(grown.values())


def family(pid: int) -> dict[str, float]:
    """`resources` of a process and of everything that it has started, summed up, and how many they are."""
    total: dict[str, float] = {"processes": 0.0}
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        found = resources(one)
        waiting += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
        total["processes"] += 1
        for name, value in found.items():
            total[name] = value if name == "shared_bytes" else total.get(name, 0.0) + value
    return total


def real(minutes: float) -> dict[str, Any]:
    """A policy that moves the arm without end, at 100 Hz in real time: rate, skipped periods, and what grew."""
    with tempfile.TemporaryDirectory() as folder, start_emulator("so101", task="reach") as emulator:
        command = [
            *(sys.executable, "-m", "pipelines", "deploy", "--policy", "random", "--task", "reach"),
            *("--goal", "0.22,0.05,0.15", "--port", emulator.port, "--calibration", emulator.calibration),
            *("--seconds", f"{minutes * 60:g}", "--out", folder, "--yes", "--json"),
        ]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        time.sleep(min(30.0, minutes * 30))
        first = last = None
        while process.poll() is None:
            try:
                now = {"control": family(process.pid), "emulator": family(emulator.pid)}
            except (OSError, KeyError):
                break  # it is just ending
            first = first or now
            if now["control"]["processes"] < first["control"]["processes"]:
                break  # likewise
            last = now
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
    parser.add_argument("--workers", type=int, default=2, help="processes that share the work")
    parser.add_argument("--state", help="file that keeps what is done, to go on from")
    parser.add_argument("--simulated", action="store_true", help="without killed processes and full disks")
    parser.add_argument("--real", type=float, metavar="MINUTES", help="real minutes at 100 Hz instead")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.workers < 1 or not options.hours > 0:
        parser.error(f"--workers and --hours must be positive, got {options.workers} and {options.hours:g}")
    if options.real is not None and not 0 < options.real < math.inf:
        parser.error(f"--real takes minutes, got {options.real:g}")
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
            print("control keeps a row of 216 bytes of every tick: 1.3 MB a minute, written at the end")
        return int(found["status"])
    # A worker outlives a parent that ends without a word.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    state = None if options.state is None else Path(options.state)
    try:
        tally, grown = simulated(
            options.hours, options.seed, options.stress, options.workers, state, outside=not options.simulated
        )
    except UserError as error:
        parser.error(str(error))
    if options.json:
        print(json.dumps({**tally.as_dict(), "resources": grown, "reference": REFERENCE}))
    else:
        print(summary(tally))
        print("reference   uptime 99.2 %, success 94 %, 0.5 interventions a day")
        for process in grown:
            print(f"resources   {table(process['start'], process['end'])}")
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
