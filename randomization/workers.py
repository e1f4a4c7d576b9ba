"""Run a function over draws in worker processes that may die.

The caller hands a picklable `factory`; each worker process (spawned, never forked: physics engines and thread
pools do not survive a fork) calls it once and then applies the function it returned to one draw after the
other. Results come back in the order of completion. A worker that dies or hangs costs the draw it was working
on: that draw is tried once more in a new worker and then reported as failed.
"""

import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from sim2real.errors import Sim2RealError, UserError
from sim2real.parameters import Draw

Row = dict[str, Any]
Rollout = Callable[[Draw], Mapping[str, Any]]
Factory = Callable[[], Rollout]

_AHEAD = 2
"""Draws handed to a worker at a time: one to work on, one so that it need not wait for the next."""

ATTEMPTS = 2
"""How often a draw may lose its worker before it counts as failed."""

STARTS = 3
"""This many workers that die while they start, with no result between them, end the run."""


@dataclass(frozen=True)
class Outcome:
    """What became of one draw: the row its rollout returned, or why there is none.

    `error` is empty for a rollout that returned; otherwise one line, with the whole traceback in `detail`.
    """

    draw: Draw
    row: Row
    error: str = ""
    detail: str = ""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    ready: bool = False
    assigned: deque[Draw] = field(default_factory=deque)
    since: float = 0.0
    """When the worker began with the first of `assigned`, monotonic s."""


def run_here(factory: Factory, draws: Sequence[Draw]) -> Iterator[Outcome]:
    """The same without processes, in order: for debugging and tiny runs."""
    rollout = factory()
    for draw in draws:
        yield attempt(rollout, draw)


def run_local(
    factory: Factory, draws: Sequence[Draw], workers: int, timeout: float = 600.0
) -> Iterator[Outcome]:
    """Apply the factory's function to every draw in `workers` processes.

    `timeout` (s) is how long one draw may take before its worker counts as hung and is killed. Raises
    UserError or Sim2RealError when the factory itself fails, and UserError when a rollout raises one: then
    no draw can work. Closing the generator stops every worker.
    """
    if workers < 1:
        raise ValueError(f"need at least one worker, got {workers}")
    todo = deque(draws)
    attempts: dict[int, int] = {}
    pool: list[_Worker] = []
    left = len(todo)
    stillborn = 0
    try:
        while left:
            while len(pool) < min(workers, left):
                pool.append(_start(factory))
            for worker in pool:
                _feed(worker, todo)
            for worker in _wait(pool):
                outcomes, alive = _collect(worker, timeout)
                for outcome in outcomes:
                    stillborn = 0
                    left -= 1
                    yield outcome
                if alive:
                    continue
                pool.remove(worker)
                code = _stop(worker)
                if not worker.ready:
                    # Once may be somebody short of memory; again and again it is the simulation.
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
        for worker in pool:
            _stop(worker)


def _start(factory: Factory) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, factory), daemon=True)
    before = os.environ.get("OMP_NUM_THREADS")
    # One process per core: libraries in the workers must not start a thread per core each.
    os.environ["OMP_NUM_THREADS"] = "1"
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
    return _Worker(process, ours, since=time.monotonic())


def _feed(worker: _Worker, todo: deque[Draw]) -> None:
    while todo and len(worker.assigned) < _AHEAD:
        draw = todo.popleft()
        if not worker.assigned:
            worker.since = time.monotonic()
        worker.assigned.append(draw)
        try:
            worker.connection.send(draw)
        except OSError:
            return  # it has died; `_collect` notices and hands the draw back


def _wait(pool: list[_Worker]) -> list[_Worker]:
    ready = wait([w.connection for w in pool] + [w.process.sentinel for w in pool], timeout=1.0)
    if not ready:
        return list(pool)  # nobody spoke: look whether somebody hangs
    return [w for w in pool if w.connection in ready or w.process.sentinel in ready]


def _collect(worker: _Worker, timeout: float) -> tuple[list[Outcome], bool]:
    """Everything the worker has sent, and whether it can go on."""
    outcomes = []
    try:
        while worker.connection.poll():
            kind, *content = worker.connection.recv()
            if kind == "ready":
                worker.ready = True
            elif kind == "outcome":
                worker.assigned.popleft()
                outcomes.append(content[0])
            else:
                raise content[0]
            worker.since = time.monotonic()
    except (EOFError, OSError):
        return outcomes, False  # gone, perhaps in the middle of a message
    hung = bool(worker.assigned) and time.monotonic() - worker.since > timeout
    return outcomes, not hung and worker.process.is_alive()


def _stop(worker: _Worker) -> int | None:
    """End a worker and return its exit code."""
    worker.connection.close()
    if worker.process.is_alive():
        worker.process.terminate()
        worker.process.join(1.0)
        if worker.process.is_alive():
            worker.process.kill()
    worker.process.join()
    return worker.process.exitcode


def _work(connection: Connection, factory: Factory) -> None:
    # Whatever a simulator or a user's policy prints must not mix with a command's JSON.
    os.dup2(2, 1)
    try:
        rollout = factory()
    except Sim2RealError as error:
        connection.send(("broken", error))
        return
    except Exception as error:
        text = f"the simulation could not be set up: {type(error).__name__}: {error}\n"
        connection.send(("broken", Sim2RealError(text + traceback.format_exc())))
        return
    connection.send(("ready",))
    while True:
        try:
            draw = connection.recv()
        except (EOFError, OSError):
            return  # the parent has gone
        try:
            message: tuple[str, Any] = ("outcome", attempt(rollout, draw))
        except UserError as error:
            message = ("broken", error)
        try:
            connection.send(message)
        except OSError:
            return


def attempt(rollout: Rollout, draw: Draw) -> Outcome:
    """One rollout with its wall time. What it raises becomes part of the outcome, but for UserError."""
    begin = time.perf_counter()
    try:
        row = dict(rollout(draw))
    except UserError:
        raise
    except Exception as error:
        return Outcome(draw, {}, f"{type(error).__name__}: {error}", traceback.format_exc())
    return Outcome(draw, row | {"wall_seconds": time.perf_counter() - begin})
