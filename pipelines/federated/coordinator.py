"""Rounds among clients elsewhere: who has joined, who has which work, when a round closes.

Knows no sockets and is given its clock. Every method may be called from any thread.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.federated.deadlines import REMEMBERED, deadline
from pipelines.federated.normalizers import Statistics, pooled
from pipelines.federated.server import MOST_EXAMPLES, Refused, Server, load_state, save_state

SHORTEST = 1.0
"""s that a round may last at least: a network has hiccups."""


@dataclass(frozen=True)
class Work:
    """What a client is to do: train for turn `turn` from the weights of `version`."""

    version: int
    turn: int
    statistics: Statistics
    weights: bytes
    """All of them, where the client does not have the version before."""
    change: bytes
    """What leads from the version before to this one."""


class Coordinator:
    """A federation of at least `clients`; `path` is where its checkpoint lies, from which it goes on if it is there."""

    def __init__(
        self,
        server: Server,
        shapes: Mapping[str, tuple[int, ...]],
        path: Path,
        *,
        clients: int,
        quorum: float,
        k: float,
        clock: Callable[[], float],
    ) -> None:
        """`shapes`: of the statistics, by name."""
        self.server, self.shapes, self.path = server, shapes, path
        self.clients, self.quorum, self.k, self.clock = clients, max(1, ceil(quorum * clients)), k, clock
        self.changed = threading.Condition(threading.RLock())
        self.parts: dict[str, tuple[Statistics, int]] = {}
        """What each client has said of its data: statistics, and how many examples."""
        self.statistics: Statistics | None = None
        self.live: set[str] = set()
        self.given: dict[str, tuple[int, float]] = {}
        """The version that each client works on, and since when."""
        self.turns: dict[str, int] = {}
        self.times: list[float] = []
        self.history: list[dict[str, Any]] = []
        self.began = clock()
        self.row: dict[str, Any] = {}
        self._new_row()
        if (there := load_state(path)) is not None:
            self._restore(*there)

    @property
    def done(self) -> bool:
        return self.server.version >= self.server.learning.rounds

    def join(self, name: str, examples: int, statistics: Statistics) -> None:
        """A client with so many examples. Raises Refused for what cannot be."""
        if not 1 <= examples <= MOST_EXAMPLES:
            raise Refused(f"{examples} examples cannot be")
        for key, shape in self.shapes.items():
            value = statistics.get(key)
            if value is None or value.shape != shape or not np.isfinite(value).all():
                raise Refused(f"'{key}' must be {shape} finite numbers")
            if key.endswith("_scale") and not (value > 0).all():
                raise Refused(f"'{key}' must be above 0")
        with self.changed:
            self.live.add(name)
            self.parts[name] = ({key: statistics[key] for key in self.shapes}, examples)
            if self.statistics is None and len(self.parts) >= self.clients:
                parts = [self.parts[each] for each in sorted(self.parts)]
                self.statistics = pooled([part for part, _ in parts], [count for _, count in parts])
                self.began = self.clock()
                self._save()
            self.changed.notify_all()

    def leave(self, name: str) -> None:
        """A client's connection has ended; what it was working on is lost."""
        with self.changed:
            self.live.discard(name)
            if self.given.pop(name, None) is not None:
                self.row["dead"] += 1
            self.tick()

    def want(self, name: str, wait: float) -> Work | None:
        """Work for a client, or None where there is none within `wait`, s."""
        with self.changed:
            end = self.clock() + wait
            while not self.done:
                self.tick()
                if self.statistics is not None and name not in self.given and not self._has_answered(name):
                    turn = self.turns[name] = self.turns.get(name, 0) + 1
                    self.given[name] = (self.server.version, self.clock())
                    self.row["started"] += 1
                    return Work(
                        self.server.version,
                        turn,
                        self.statistics,
                        self.server.weights.astype("<f4").tobytes(),
                        self.server.message,
                    )
                left = end - self.clock()
                if left <= 0:
                    return None
                self.changed.wait(min(left, 0.5))
            return None

    def give(self, name: str, version: int, data: bytes, loss: float) -> None:
        """A client's update. Raises Refused with the reason, and nothing has changed then but that it has answered."""
        with self.changed:
            work = self.given.pop(name, None)
            if work is None or work[0] != version:
                raise Refused("it was not given that work")
            self.row["answered"].append(name)
            self.times = [*self.times, self.clock() - work[1]][-REMEMBERED:]
            self.row["up"] += len(data)
            try:
                # How many examples there are was said once: it does not change from round to round.
                self.server.take(hash_of(name), version, data, self.parts[name][1])
                self.row["late"] += version < self.server.version
                self.row["losses"].append(loss)
            except Refused as error:
                self.row["refused"][str(error)] = self.row["refused"].get(str(error), 0) + 1
                raise
            finally:
                self.tick()

    def tick(self) -> None:
        """Close the round where it is time."""
        with self.changed:
            if self.statistics is None or self.done:
                return
            late = self.clock() - self.began >= self.allowed
            enough = len(self.server.buffer) >= self.quorum
            waiting = [name for name in self.live if not self._has_answered(name)]
            if not late and (waiting or not enough):
                return
            if not self.live and not self.server.buffer:
                self.began = self.clock()  # nobody is here: that is no round
                return
            losses, _ = self.row.pop("losses"), self.row.pop("answered")
            row: dict[str, Any] = {
                "round": len(self.history) + 1,
                "seconds": self.clock() - self.began,
                "deadline_s": self.allowed,
            }
            row |= self.row | {"void": not enough, "counted": len(self.server.buffer)}
            row["loss"] = float(np.mean(losses)) if losses else None
            if enough:
                row |= self.server.step()
            self.history.append(row | {"version": self.server.version})
            self.began = self.clock()
            self._new_row()
            self._save()
            self.changed.notify_all()

    def _has_answered(self, name: str) -> bool:
        return name in self.row["answered"]

    def _new_row(self) -> None:
        # What comes in a round does not change how long it may last.
        self.allowed = max(SHORTEST, deadline(self.times, self.k))
        self.row = {"started": 0, "late": 0, "dead": 0, "up": 0, "refused": {}, "losses": [], "answered": []}

    def _save(self) -> None:
        plain, arrays = self.server.state()
        for key, value in (self.statistics or {}).items():
            arrays[f"statistics.{key}"] = value
        told = {"server": plain, "times": self.times, "history": self.history, "turns": self.turns}
        save_state(self.path, told, arrays)

    def _restore(self, plain: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        self.server = Server.restored(self.server.learning, plain["server"], arrays)
        self.times, self.history, self.turns = plain["times"], plain["history"], dict(plain["turns"])
        found = {
            name.removeprefix("statistics."): value
            for name, value in arrays.items()
            if name.startswith("statistics.")
        }
        self.statistics = found or None
        self._new_row()


def hash_of(name: str) -> int:
    """A number for a client's name."""
    return int.from_bytes(name.encode()[:6].ljust(6), "big")
