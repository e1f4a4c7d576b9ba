"""Rounds on a simulated clock: who starts, whose answer comes when, and when a round closes.

A round closes when all that began in it have answered, or at its deadline. What comes later joins the round in which
it comes. A round with fewer updates than its quorum makes no new version; its updates wait for the next.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from pipelines.federated.clients import Client
from pipelines.federated.deadlines import deadline
from pipelines.federated.fates import fate
from pipelines.federated.server import Refused, Server
from pipelines.federated.settings import Federation
from pipelines.federated.strategies import STRATEGIES


class Participant(Protocol):
    """What a client does, wherever it runs."""

    examples: int

    def work(self, server: Server, turn: int) -> tuple[bytes, float]:
        """Train on the server's present weights; the message for it, and the loss."""
        ...

    def settle(self) -> None:
        """The last message was taken."""
        ...


@dataclass(order=True)
class Flight:
    """A client at work until `due`, s; what comes then is `data`, empty from one that died."""

    due: float
    client: int
    began: float = field(compare=False)
    version: int = field(compare=False)
    round: int = field(compare=False)
    data: bytes = field(compare=False, repr=False)
    loss: float = field(compare=False)


@dataclass
class Rounds:
    """The state of a simulated federation between two rounds; `history` has a row a round."""

    federation: Federation
    clients: Sequence[Client]
    server: Server
    participants: Sequence[Participant]
    now: float = 0.0
    flights: list[Flight] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    have: dict[int, int] = field(default_factory=dict)
    """The version that each client has."""
    turns: dict[int, int] = field(default_factory=dict)
    """How often each client has begun."""

    def next(self) -> dict[str, Any]:
        """Play one round; its row of the history."""
        number, began = len(self.history), self.now
        allowed = deadline(self.times, self.federation.deadline)
        buffered = STRATEGIES[self.federation.strategy].buffered
        row: dict[str, Any] = {"round": number + 1, "deadline_s": allowed, "up": 0, "down": 0, "downloads": 0}
        row |= {"started": 0, "arrived": 0, "late": 0, "dead": 0, "refused": {}}
        losses: list[float] = []
        busy = {flight.client for flight in self.flights}
        waiting = {client.number for client in self.clients if client.number not in busy}
        for number_of in sorted(waiting):
            self._start(number_of, number, row)
        expected = len(self.clients) if buffered else len(waiting)
        quorum = max(1, math.ceil(self.federation.quorum * expected))
        heapq.heapify(self.flights)
        while self.flights and self.flights[0].due <= began + allowed:
            flight = heapq.heappop(self.flights)
            self.now = flight.due
            if flight.data:
                self._land(flight, number, row, losses)
                waiting.discard(flight.client)
            if buffered:
                if len(self.server.buffer) >= quorum:
                    break
                self._start(flight.client, number, row)
                heapq.heapify(self.flights)
            elif not waiting:
                break
        else:
            self.now = began + allowed
        counted = len(self.server.buffer)
        row["void"] = counted < quorum
        row |= {"counted": counted, "quorum": quorum, "seconds": self.now - began}
        if not row["void"]:
            row |= self.server.step()
        row |= {"version": self.server.version, "loss": float(np.mean(losses)) if losses else None}
        self.history.append(row)
        return row

    def _start(self, client: int, number: int, row: dict[str, Any]) -> None:
        turn = self.turns.get(client, 0)
        self.turns[client] = turn + 1
        # In rounds all clients have the same turn, so that exactly the share that is asked for is late or dies.
        buffered = STRATEGIES[self.federation.strategy].buffered
        down = self.server.download(self.have.get(client, 0))
        self.have[client] = self.server.version
        expected = fate(self.federation, self.clients[client], turn if buffered else number, 0)
        data, loss = b"", 0.0
        if expected.dies:
            row["dead"] += 1
        else:
            data, loss = self.participants[client].work(self.server, turn)
            expected = fate(
                self.federation, self.clients[client], turn if buffered else number, down + len(data)
            )
        row["started"] += 1
        row["down"] += down
        row["downloads"] += down > 0
        self.flights.append(
            Flight(self.now + expected.seconds, client, self.now, self.server.version, number, data, loss)
        )

    def _land(self, flight: Flight, number: int, row: dict[str, Any], losses: list[float]) -> None:
        self.times.append(flight.due - flight.began)
        row["up"] += len(flight.data)
        participant = self.participants[flight.client]
        try:
            self.server.take(flight.client, flight.version, flight.data, participant.examples)
        except Refused as error:
            reason = str(error)
            row["refused"][reason] = row["refused"].get(reason, 0) + 1
            return
        participant.settle()
        row["arrived"] += 1
        row["late"] += flight.round < number
        losses.append(flight.loss)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a checkpoint needs: plain values, and arrays by name."""
        plain, arrays = self.server.state()
        flights = []
        for k, flight in enumerate(self.flights):
            arrays[f"flight.{k}"] = np.frombuffer(flight.data, np.uint8)
            flights.append({key: value for key, value in asdict(flight).items() if key != "data"})
        pairs = {"have": self.have, "turns": self.turns}
        return {
            "server": plain,
            "now": self.now,
            "flights": flights,
            "times": self.times,
            "history": self.history,
            **{name: [[k, v] for k, v in values.items()] for name, values in pairs.items()},
        }, arrays

    def restore(self, plain: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was made."""
        self.server = Server.restored(self.federation, plain["server"], arrays)
        self.now, self.times, self.history = plain["now"], list(plain["times"]), list(plain["history"])
        self.flights = [
            Flight(**flight, data=arrays[f"flight.{k}"].tobytes())
            for k, flight in enumerate(plain["flights"])
        ]
        self.have, self.turns = (dict((int(k), int(v)) for k, v in plain[name]) for name in ("have", "turns"))
