"""What a hub bears, and what an agent costs, on this machine.

Simulated agents ask one real hub over loopback, each once a second, without certificates and from a few threads (a
thousand links with TLS are not what is measured). Then they send episodes as fast as these are acknowledged. A real
agent beside it is measured as the system counts it.

    python benchmarks/fleet.py [--robots 1000] [--seconds 15]
"""

import argparse
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hardware.children import start_module
from hardware.fleet.link import Endpoint, direct, key, open_robot
from hardware.fleet.messages import Answer, Batch, Message
from pipelines.fleet.enrolling import enroll
from pipelines.fleet.registry.registry import Registry
from pipelines.reliability.fleet_kills import free_port, leave_result

THREADS = 8
LAST = 1.0
"""s that the last answers are waited for."""
BATCH = 20
"""Episodes of one question."""


def heartbeats(session: Any, names: list[str], until: float) -> list[float]:
    """Ask for each robot once a second, whether or not the last answers are there; seconds that each answer took."""
    took: list[float] = []

    def beat(name: str) -> None:
        begin = time.monotonic()

        def answered(reply: Any) -> None:
            if reply.ok is not None:
                took.append(time.monotonic() - begin)

        batch = Batch("0" * 16, "1" * 16, "", "running", None, "", "", {})
        session.get(key(name, "in"), direct(answered), payload=batch.encode(), timeout=10.0)

    while (begin := time.monotonic()) < until:
        for i, name in enumerate(names):
            time.sleep(max(0.0, begin + i / len(names) - time.monotonic()))
            beat(name)
        time.sleep(max(0.0, begin + 1.0 - time.monotonic()))
    time.sleep(LAST)
    return took


def episodes(session: Any, names: list[str], until: float) -> list[float]:
    """Send episodes, the next ones when the last ones are acknowledged."""
    took, sequence = [], 0
    while time.monotonic() < until:
        for name in names:
            if time.monotonic() > until:
                break
            body = {"seconds": 5.0, "success": True, "judge": "estimate", "task": "lift", "policy": "ab" * 32}
            rows = tuple(Message(sequence + i, "episode", time.time(), body) for i in range(1, BATCH + 1))
            took.append(ask(session, name, rows))
        sequence += BATCH
    return took


def ask(session: Any, name: str, messages: tuple[Message, ...]) -> float:
    """Seconds until the answer."""
    begin = time.monotonic()
    batch = Batch("0" * 16, "1" * 16, "", "running", None, "", "", {}, messages)
    for reply in session.get(key(name, "in"), payload=batch.encode(), timeout=10.0):
        answer = Answer.decode(bytes(reply.ok.payload))
        assert not answer.refused, answer.refused
        return time.monotonic() - begin
    raise SystemExit(f"no answer for {name}")


def together(
    sessions: list[Any],
    names: list[str],
    seconds: float,
    work: Callable[[Any, list[str], float], list[float]],
) -> list[float]:
    """`work` of all threads, each with its share of the robots."""
    took: list[float] = []
    until = time.monotonic() + seconds

    def one(number: int) -> None:
        took.extend(work(sessions[number], names[number::THREADS], until))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def cost(pid: int) -> tuple[float, float]:
    """(seconds of processor so far, resident MB) of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return (int(fields[11]) + int(fields[12])) / ticks, pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--robots", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder, names = Path(text), [f"r{number}" for number in range(args.robots)]
        with Registry.open(folder / "fleet", create=True) as registry:
            for name in names:
                registry.enroll(name, by="benchmark")
            _, home = enroll(registry, "real", by="benchmark", days=1, out=folder / "real")
        plain, closed = f"tcp/127.0.0.1:{free_port()}", f"tls/127.0.0.1:{free_port()}"
        processes: list[subprocess.Popen[bytes]] = []
        try:
            # Two hubs at one store: with TLS certificates decide who may speak, and the simulated robots have none.
            for endpoint in (plain, closed):
                processes.append(
                    start_module("pipelines", "fleet", "hub", "--store", str(folder / "fleet"), "--listen", endpoint,
                                 stderr=subprocess.DEVNULL)
                )  # fmt: skip
            time.sleep(8)
            sessions = [open_robot(Endpoint.parse(plain), None) for _ in range(THREADS)]
            hub = processes[0].pid
            before, begin = cost(hub)[0], time.monotonic()
            beats = together(sessions, names, args.seconds, heartbeats)
            beat_time, beat_cost = time.monotonic() - begin - LAST, cost(hub)[0] - before
            begin = time.monotonic()
            sent = together(sessions, names, args.seconds, episodes)
            sent_time = time.monotonic() - begin
            agent = start_module(
                "pipelines", "fleet", "agent", "--hub", closed, "--identity", str(home), "--state",
                str(folder / "state"), "--runs", str(folder / "runs"), stderr=subprocess.DEVNULL,
            )  # fmt: skip
            processes.append(agent)
            time.sleep(4)
            before, begin = cost(agent.pid)[0], time.monotonic()
            number = 0
            while time.monotonic() - begin < args.seconds:
                number += 1
                leave_result(folder / "runs", number)
                time.sleep(2.0)
            used = (cost(agent.pid)[0] - before) / (time.monotonic() - begin)
            with Registry.open(folder / "fleet") as registry:
                kept = sum(row[0] for row in registry.counts()["robot"].values())
                told = registry.counts()["robot"].get("real", (0,))[0]
            print(
                json.dumps(
                    {
                        "robots": args.robots,
                        "heartbeats_per_s": round(len(beats) / beat_time, 1),
                        "heartbeat_ms": {
                            f"p{q}": round(1e3 * float(np.percentile(beats, q)), 1) for q in (50, 99)
                        },
                        "hub_processor": round(beat_cost / beat_time, 3),
                        "hub_mb": round(cost(hub)[1], 1),
                        "episodes_per_s": round(len(sent) * BATCH / sent_time, 1),
                        "episodes_kept": kept - told == len(sent) * BATCH,
                        "agent_mb": round(cost(agent.pid)[1], 1),
                        "agent_processor": round(used, 4),
                        "agent_told": told,
                    }
                )
            )
            for session in sessions:
                session.close()
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait(timeout=30)


if __name__ == "__main__":
    main()
