"""Run a function over draws in worker processes that may die.

The caller hands a picklable `factory`; each worker process (spawned, never forked: physics engines and thread
pools do not survive a fork) calls it once and then applies the function it returned to one draw after the
other. Results come back in the order of completion. A worker that dies or hangs costs the draw it was working
on: that draw is tried once more in a new worker and then reported as failed.

The caller never waits for a worker without a deadline: what goes to one and comes from one is buffered, since it
may stop or die before its first message, in the middle of one, or while one is sent to it; and its end of the line
may stay open after its death, in processes that it has started.
"""

import os
import pickle
import selectors
import signal
import socket
import struct
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedRWPair
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

from sim2real.errors import PolicyError, Sim2RealError, UserError
from sim2real.parameters import Draw
from sim2real.spawning import context, end_process

Row = dict[str, Any]
Rollout = Callable[[Draw], Mapping[str, Any]]
Factory = Callable[[], Rollout]

_AHEAD = 2
"""Draws handed to a worker at a time: one to work on, one so that it need not wait for the next."""

POLICY_FAULT = "policy_fault"
"""The column of a row that says what a policy did instead of giving actions; empty when it did nothing of the kind."""

ATTEMPTS = 2
"""How often a draw may lose its worker before it counts as failed."""

STARTING = 600.0
"""s a worker may take to start: it may have to compile first."""

STARTS = 3
"""This many workers that die while they start, with no result between them, end the run."""


@dataclass(frozen=True)
class Outcome:
    """What became of one draw: the row its rollout returned, or why there is none.

    `error` is empty for a rollout that returned; otherwise one line, with the whole traceback in `detail`. The row
    then says at most what the policy did (`POLICY_FAULT`).
    """

    draw: Draw
    row: Row
    error: str = ""
    detail: str = ""


_LENGTH = struct.Struct("!Q")
"""Before every message, which is a pickle."""


class _Line:
    """The caller's end of the line to a worker. Nothing here waits."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._unsent, self._heard = bytearray(), bytearray()

    @property
    def events(self) -> int:
        """What to wait for."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)

    def fileno(self) -> int:
        return self._end.fileno()

    def send(self, message: bytes) -> None:
        """Hand over a pickle: what does not fit now goes with the next `exchange`."""
        self._unsent += _LENGTH.pack(len(message)) + message
        self._push()

    def exchange(self) -> tuple[list[Any], bool]:
        """The messages that have come whole, and whether the other end is still open."""
        self._push()
        still = True
        try:
            while data := self._end.recv(1 << 20):
                self._heard += data
            still = False
        except BlockingIOError:
            pass
        except OSError:
            still = False
        messages = []
        while len(self._heard) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._heard)[0]
            if len(self._heard) < end:
                break
            messages.append(pickle.loads(bytes(self._heard[_LENGTH.size : end])))
            del self._heard[:end]
        return messages, still

    def close(self) -> None:
        self._end.close()

    def _push(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._end.send(self._unsent)]
        except OSError:
            pass  # no room now, or nobody is there any more, which reading tells


@dataclass
class _Worker:
    process: BaseProcess
    line: _Line
    ready: bool = False
    assigned: deque[Draw] = field(default_factory=deque)
    since: float = 0.0
    """When the worker began with the first of `assigned`, or to start; monotonic s."""


def run_here(factory: Factory, draws: Sequence[Draw]) -> Iterator[Outcome]:
    """Run the rollouts of `draws` in this process, in order: for debugging and tiny runs."""
    rollout = factory()
    for draw in draws:
        yield attempt(rollout, draw)


def run_local(
    factory: Factory, draws: Sequence[Draw], workers: int, timeout: float = 600.0
) -> Iterator[Outcome]:
    """`LocalWorkers.run` with processes that live for this once. Closing the generator stops every worker."""
    with LocalWorkers(factory, workers, timeout) as pool:
        yield from pool.run(draws)


def run_draws(factory: Factory, draws: Sequence[Draw], workers: int) -> Iterator[Outcome]:
    """`run_local` with so many workers; with 0 `run_here`."""
    return run_here(factory, draws) if workers == 0 else run_local(factory, draws, workers)


class LocalWorkers:
    """Processes that apply the factory's function to draws, and live until `close`.

    `timeout` (s) is how long one draw may take before its worker counts as hung and is killed; `STARTING` is for
    the start of a worker.
    """

    def __init__(self, factory: Factory, workers: int, timeout: float = 600.0) -> None:
        if workers < 1:
            raise ValueError(f"need at least one worker, got {workers}")
        self.workers, self.timeout = workers, timeout
        self._recipe = pickle.dumps(factory)
        self._pool: list[_Worker] = []

    def run(self, draws: Sequence[Draw]) -> Iterator[Outcome]:
        """Outcomes of these draws. Closing the generator before its end stops every worker; a later run starts others.

        Raises UserError or Sim2RealError when the factory itself fails, and UserError when a rollout raises one: then
        no draw can work.
        """
        todo, pool = deque(draws), self._pool
        attempts: dict[int, int] = {}
        left = len(todo)
        stillborn = 0
        try:
            while left:
                while len(pool) < min(self.workers, left):
                    pool.append(_start(self._recipe))
                for worker in pool:
                    _feed(worker, todo)
                _wait(pool)
                for worker in list(pool):
                    outcomes, alive = _collect(worker, self.timeout)
                    for outcome in outcomes:
                        stillborn = 0
                        left -= 1
                        yield outcome
                    if alive:
                        continue
                    pool.remove(worker)
                    code = _stop(worker)
                    if not worker.ready:
                        # Once may be a machine short of memory; again and again it is the simulation.
                        stillborn += 1
                        if stillborn >= STARTS:
                            raise Sim2RealError(
                                f"worker processes die while they start (exit code {code}); run with --workers 0 "
                                "to see why"
                            )
                        todo.extendleft(reversed(worker.assigned))
                    elif worker.assigned:
                        # The first one was being worked on; the rest is innocent.
                        culprit = worker.assigned.popleft()
                        todo.extendleft(reversed(worker.assigned))
                        attempts[culprit.index] = attempts.get(culprit.index, 0) + 1
                        if attempts[culprit.index] < ATTEMPTS:
                            todo.appendleft(culprit)
                        else:
                            left -= 1
                            yield Outcome(culprit, {}, f"worker died twice (exit code {code})")
        finally:
            if left:
                self.close()

    def close(self) -> None:
        """Stop every worker."""
        while self._pool:
            _stop(self._pool.pop())

    def __enter__(self) -> "LocalWorkers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _start(recipe: bytes) -> _Worker:
    ours, theirs = socket.socketpair()
    # The recipe goes over the line: what a process is started with is written to it before anybody looks
    # whether it lives.
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    before = os.environ.get("OMP_NUM_THREADS")
    # One process per core: libraries in the workers must not start a thread per core each.
    os.environ["OMP_NUM_THREADS"] = "1"
    # The first start of a process would start this one as well, and unblock the signal below.
    resource_tracker.ensure_running()
    # Workers inherit the blocked signal: Ctrl-C at a terminal reaches the whole process group, but only
    # the parent shall act on it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
    theirs.close()
    line = _Line(ours)
    line.send(recipe)
    return _Worker(process, line, since=time.monotonic())


def _feed(worker: _Worker, todo: deque[Draw]) -> None:
    while todo and len(worker.assigned) < _AHEAD:
        draw = todo.popleft()
        if not worker.assigned and worker.ready:
            worker.since = time.monotonic()
        worker.assigned.append(draw)
        worker.line.send(pickle.dumps(draw))


def _wait(pool: list[_Worker]) -> None:
    """Until a worker speaks, listens or ends; at most a second, since one that hangs does nothing."""
    with selectors.PollSelector() as selector:
        for worker in pool:
            selector.register(worker.line, worker.line.events)
            selector.register(worker.process.sentinel, selectors.EVENT_READ)
        selector.select(1.0)


def _collect(worker: _Worker, timeout: float) -> tuple[list[Outcome], bool]:
    """Everything the worker has sent, and whether it can go on."""
    outcomes = []
    messages, alive = worker.line.exchange()
    for kind, *content in messages:
        if kind == "ready":
            worker.ready = True
        elif kind == "outcome":
            worker.assigned.popleft()
            outcomes.append(content[0])
        else:
            raise content[0]
        worker.since = time.monotonic()
    deadline = timeout if worker.ready else STARTING
    hung = bool(worker.assigned) and time.monotonic() - worker.since > deadline
    return outcomes, alive and not hung and worker.process.is_alive()


def _stop(worker: _Worker) -> int | None:
    """End a worker and return its exit code."""
    worker.line.close()
    if worker.process.is_alive():
        worker.process.terminate()
    end_process(worker.process, 1.0)
    return worker.process.exitcode


def _work(end: socket.socket) -> None:
    # Whatever a simulator or a user's policy prints must not mix with a command's JSON.
    os.dup2(2, 1)
    end.setblocking(True)
    stream = end.makefile("rwb")
    try:
        recipe = _read(stream)
    except OSError:
        return  # the parent has gone
    try:
        rollout = pickle.loads(recipe)()
    except Sim2RealError as error:
        _write(stream, ("broken", error))
        return
    except Exception as error:
        text = f"the simulation could not be set up: {type(error).__name__}: {error}\n"
        _write(stream, ("broken", Sim2RealError(text + traceback.format_exc())))
        return
    try:
        _write(stream, ("ready",))
        while True:
            draw = pickle.loads(_read(stream))
            try:
                message: tuple[str, Any] = ("outcome", attempt(rollout, draw))
            except UserError as error:
                message = ("broken", error)
            _write(stream, message)
    except OSError:
        return  # the parent has gone


def _read(stream: BufferedRWPair) -> bytes:
    """The next message. Raises OSError when there is none any more."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise ConnectionResetError
    return stream.read(_LENGTH.unpack(head)[0])


def _write(stream: BufferedRWPair, message: Any) -> None:
    data = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def attempt(rollout: Rollout, draw: Draw) -> Outcome:
    """One rollout with its wall time. What it raises becomes part of the outcome, but for UserError."""
    begin = time.perf_counter()
    try:
        row = dict(rollout(draw))
    except UserError:
        raise
    except PolicyError as error:
        # What went wrong is in the policy's own code, not in ours that called it.
        detail = "".join(traceback.format_exception(error.__cause__ or error))
        return Outcome(draw, {POLICY_FAULT: _line(error.fault)}, _line(str(error)), detail)
    except Exception as error:
        return Outcome(draw, {}, _line(f"{type(error).__name__}: {error}"), traceback.format_exc())
    return Outcome(draw, row | {"wall_seconds": time.perf_counter() - begin})


def _line(text: str) -> str:
    """The first line, of a length that can be shown."""
    return (text.splitlines() or [""])[0][:300]
