"""Sweeps on a Ray cluster: the same rollouts, on as many machines as it has.

    pip install 'sim2real-transfer[ray]'
    ray start --head                            # on one machine; `ray start --address=…` on the others
    RAY_ADDRESS=auto sim2real sweep … --engine ray --workers 64

Without RAY_ADDRESS a private cluster on this machine is used. Each worker is an actor that holds one world. An
actor that dies, with its machine or alone, costs the draw it was working on, which is tried once more elsewhere.
Every machine needs the package and the files that the sweep names (policies) at the same place.
"""

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from randomization.workers import ATTEMPTS, Factory, Outcome, attempt
from sim2real.errors import Sim2RealError, UserError
from sim2real.parameters import Draw


class _Worker:
    """What an actor runs. The world is built at the first draw, so that its error comes back as a result."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        self._rollout: Any = None

    def run(self, draw: Draw) -> tuple[str, Any]:
        """("outcome", Outcome) or ("broken", exception) when nothing can work."""
        try:
            if self._rollout is None:
                self._rollout = self._factory()
            return "outcome", attempt(self._rollout, draw)
        except Sim2RealError as error:
            return "broken", error
        except Exception as error:
            text = f"the simulation could not be set up: {type(error).__name__}: {error}"
            return "broken", Sim2RealError(text)


def run_ray(factory: Factory, draws: Sequence[Draw], workers: int) -> Iterator[Outcome]:
    """Apply the factory's function to every draw in `workers` actors (0: one per processor of the cluster).

    Outcomes in the order of completion, as `randomization.workers.run_local` gives them. Raises UserError when
    Ray is not installed or its cluster cannot be reached.
    """
    # Ray would report its use to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not os.environ.get("RAY_ADDRESS"):
        # A private cluster listens on this machine alone. Only this switch does that: an address that is given as
        # loopback is replaced by the machine's own (ray/_private/services.py: resolve_ip_for_localhost).
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError:
        raise UserError(
            "--engine ray needs Ray, which is not installed; install it with pip install 'sim2real-transfer[ray]'"
        ) from None
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"the Ray cluster cannot be reached: {error}; check RAY_ADDRESS") from None
    # Ray attaches `remote` when it makes the class; its own annotations do not say so.
    actor: Any = ray.remote(num_cpus=1)(_Worker)
    count = min(workers or int(ray.cluster_resources().get("CPU", 1)), len(draws))
    todo, tried = deque(draws), dict[int, int]()
    actors: list[Any] = [actor.remote(factory) for _ in range(count)]
    busy: dict[Any, tuple[Any, Draw]] = {}
    try:
        while todo or busy:
            idle = [a for a in actors if all(a is not other for other, _ in busy.values())]
            for one in idle[: len(todo)]:
                draw = todo.popleft()
                busy[one.run.remote(draw)] = (one, draw)
            (done, *_), _ = ray.wait(list(busy), num_returns=1)
            one, draw = busy.pop(done)
            try:
                kind, content = ray.get(done)
            except ray.exceptions.RayActorError as error:
                actors = [a for a in actors if a is not one] + [actor.remote(factory)]
                tried[draw.index] = tried.get(draw.index, 0) + 1
                if tried[draw.index] < ATTEMPTS:
                    todo.appendleft(draw)
                else:
                    yield Outcome(draw, {}, "worker died twice", str(error))
                continue
            if kind == "broken":
                raise content
            yield content
    finally:
        for one in actors:
            ray.kill(one)
        if started:
            ray.shutdown()
