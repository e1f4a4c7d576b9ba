"""A fleet whose hub, agents and link die at random moments: what was told must have arrived, once each.

Real processes, SIGKILLed: one hub, a few agents that tell of the runs in a folder, and between them a relay of ours
that cuts connections. Meanwhile results appear in the robots' folders. At the end everything is left alone until the
outboxes are empty.
"""

import json
import select
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hardware.children import start_module
from hardware.fleet.certificates import Identity
from pipelines.fleet.enrolling import enroll
from pipelines.fleet.registry.registry import Registry
from sim2real.errors import Sim2RealError

SETTLING = 120.0
"""s that the last messages may take once nothing dies any more."""


class Relay:
    """Passes bytes between agents and the hub, and cuts them off when it is told to."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._down_until = 0.0
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, seconds: float) -> None:
        """End all connections, and let none through for a while."""
        self._down_until = time.monotonic() + seconds
        for pair in self._pairs:
            for end in pair:
                _shut(end)
        self._pairs.clear()

    def close(self) -> None:
        self._open = False
        self.cut(0)
        self._server.close()

    def _accept(self) -> None:
        while self._open:
            try:
                near, _ = self._server.accept()
                if time.monotonic() < self._down_until:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._target), 1.0)
            except OSError:
                if self._open:
                    near.close()
                    continue
                return
            self._pairs.append((near, far))
            threading.Thread(target=_pass, args=(near, far), daemon=True).start()


def _pass(near: socket.socket, far: socket.socket) -> None:
    try:
        while True:
            for end in select.select([near, far], [], [])[0]:
                data = end.recv(65536)
                if not data:
                    return
                (far if end is near else near).sendall(data)
    except (OSError, ValueError):
        return
    finally:
        _shut(near)
        _shut(far)


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()


def fleet_kills(
    folder: Path, kills: int, seed: int = 0, robots: int = 2, rate: float = 5.0, pause: float = 1.0
) -> dict[str, Any]:
    """Run a fleet through `kills` deaths, `pause` s apart on average, while each robot has `rate` results a second.

    Returns `kills` by what died, `episodes` told, `lost` and `twice`. Raises Sim2RealError when it does not settle.
    """
    rng = np.random.default_rng(seed)
    registry = Registry.open(folder / "fleet", create=True)
    identities = {}
    for number in range(robots):
        name = f"r{number}"
        _, home = enroll(registry, name, by="kills", days=1, out=folder / name)
        identities[name] = Identity.read(home)
    port = free_port()
    relay = Relay(port)
    processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str) -> None:
        arguments = (
            ["hub", "--store", str(folder / "fleet"), "--listen", f"tls/127.0.0.1:{port}"]
            if name == "hub"
            else ["agent", "--hub", f"tls/127.0.0.1:{relay.port}", "--identity", str(identities[name].folder),
                  "--state", str(folder / f"state_{name}"), "--runs", str(folder / f"runs_{name}"),
                  "--heartbeat", "0.1"]
        )  # fmt: skip
        with open(folder / f"{name}.log", "ab") as log:
            processes[name] = start_module("pipelines", "fleet", *arguments, stdout=log, stderr=log)

    died: Counter[str] = Counter()
    told: set[tuple[str, int]] = set()
    try:
        for name in ("hub", *identities):
            start(name)
        left, due = kills, time.monotonic() + 2.0
        numbers: Counter[str] = Counter()
        while left:
            for name in identities:
                numbers[name] += 1
                leave_result(folder / f"runs_{name}", numbers[name])
                told.add((name, numbers[name]))
            time.sleep(1 / rate)
            if time.monotonic() < due:
                continue
            due = time.monotonic() + float(rng.exponential(pause))
            victim = str(rng.choice(["hub", "agent", "link"]))
            died[victim] += 1
            left -= 1
            if victim == "link":
                relay.cut(float(rng.uniform(0, 1)))
                continue
            name = "hub" if victim == "hub" else str(rng.choice(list(identities)))
            processes[name].send_signal(signal.SIGKILL)
            processes[name].wait()
            start(name)
        end = time.monotonic() + SETTLING
        while len(arrived := _arrived(registry)) < len(told):
            if time.monotonic() > end:
                break
            time.sleep(0.2)
        time.sleep(1.0)  # for what would come twice
        arrived = _arrived(registry)
        broken = registry.check_audit()
        if broken is not None:
            raise Sim2RealError(f"the audit log is broken at {broken}")
        return {
            "kills": dict(died),
            "episodes": len(told),
            "lost": len(told - set(arrived)),
            "twice": sum(count - 1 for count in arrived.values()),
        }
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
        relay.close()
        registry.close()


def _arrived(registry: Registry) -> Counter[tuple[str, int]]:
    """How often each (robot, number) is there."""
    return Counter((one.robot, int(one.details["episode"])) for one in registry.episodes())


def leave_result(folder: Path, number: int) -> None:
    """A result as `deploy` leaves it, whole or not there."""
    trial = {
        "episode": number,
        "success": bool(number % 3),
        "judge": "estimate",
        "seconds": 1.0,
        "interventions": 0,
    }
    part = folder / f".{number}.part"
    part.mkdir(parents=True)
    (part / "result.json").write_text(json.dumps({"task": "reach", "trials": [trial], "faults": []}))
    part.rename(folder / str(number))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
