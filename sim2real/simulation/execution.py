"""What becomes of a policy's chunks in the world: the way that they take on a real arm.

    chunk (policy rate) → latency → ChunkPlayer → Gate (command rate) → servos (physics rate)

Time is counted in physics steps: policy and command clock stay in phase for ever.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real.chunks import Chunk, ChunkPlayer
from sim2real.errors import UserError
from sim2real.observation import Observation
from sim2real.policies.committed import committed_entries
from sim2real.simulation.world import World

Array = NDArray[np.float64]


class Execution:
    """Executes chunks in a world, one policy period after the other; `begin` follows every reset of the world.

    The draw's `policy.latency` and `policy.jitter` say when a chunk arrives, `control.jitter` how late a command
    tick is. A policy whose latency is more than a period is asked again when it has answered (`ready`), as on the arm.
    As there, a chunk of the wrong shape or with values that are not finite is refused and the one in
    force plays on: `rejected` counts them by what was wrong. `missed` counts those that arrived after all of their
    actions were due.

    Raises UserError when a rate does not divide the physics rate.
    """

    def __init__(self, world: World) -> None:
        self._world, robot = world, world.robot
        self._per_policy = _whole(world.physics_rate, robot.policy_rate, "policy")
        self._per_tick = _whole(world.physics_rate, robot.command_rate, "command")
        self._dt, self._period = 1.0 / world.physics_rate, 1.0 / robot.policy_rate
        self._player = ChunkPlayer()
        self.begin()

    def begin(self) -> None:
        """A new episode: the world has just been reset."""
        world = self._world
        world.gate.reset(world.goal)
        self._player.reset(world.goal, 0.0)
        self._jitter, self._latency = world.values["policy.jitter"], world.values["policy.latency"]
        self._lateness = world.values["control.jitter"]
        self._underway: list[tuple[float, Chunk]] = []
        self._steps = 0
        self.rejected: dict[str, int] = {}
        self.missed = 0

    @property
    def time(self) -> float:
        """s since the reset: when the coming period begins, and its observation is made."""
        return self._steps * self._dt

    @property
    def ready(self) -> bool:
        """Whether the policy can be asked about the period that begins: it is not busy with an earlier observation."""
        return self._latency <= self._period or not self._underway

    def entries(self) -> Observation:
        """What is committed now, as entries of an observation (`policies/committed.py`)."""
        latency = self._latency + 0.5 * self._jitter
        return committed_entries(self._player, self.time, self._period, latency)

    def step(self, chunk: ArrayLike | None) -> tuple[Array, Array]:
        """One policy period with the chunk (H, n) rad that answers the observation at its beginning; None: it was not
        asked.

        Returns what was requested at its last command tick and what the gate made of it: (n,) rad each.
        """
        world, gate = self._world, self._world.gate
        if chunk is not None:
            self._post(chunk)
        now, end = self._steps, self._steps + self._per_policy
        tick = -(-now // self._per_tick) * self._per_tick
        if tick > now:
            world.advance(None, tick - now)
        request = executed = world.goal
        while tick < end:
            steps = min(self._per_tick, end - tick)
            late = 0
            if self._lateness > 0.0:
                late = min(
                    round(self._lateness * world.physics_rate * float(world.policy_rng.random())), steps
                )
                if late:
                    world.advance(None, late)
            time = (tick + late) * self._dt
            self._deliver(time)
            request = self._player.sample(time)
            gate.step(request)
            executed = gate.position
            world.advance(executed, steps - late)
            tick += self._per_tick
        self._steps = end
        if self._latency > self._period:
            self._deliver(self.time)
        return request, executed

    def _post(self, chunk: ArrayLike) -> None:
        """Send a chunk on its way."""
        delay = self._latency
        if self._jitter > 0.0:
            delay += self._jitter * float(self._world.policy_rng.random())
        positions, problem = self._read(chunk)
        if problem:
            self.rejected[problem] = self.rejected.get(problem, 0) + 1
        else:
            self._underway.append((self.time + delay, Chunk(self.time, self._period, positions)))

    def _read(self, chunk: ArrayLike) -> tuple[Array, str]:
        """The chunk as (H, n) float64, and what is wrong with it."""
        try:
            positions = np.asarray(chunk, dtype=np.float64)
        except (TypeError, ValueError):
            return np.zeros((0, 0)), f"a {type(chunk).__name__} that is no array of numbers"
        if positions.ndim != 2 or positions.shape[1] != self._world.robot.n or not len(positions):
            return positions, f"shape {positions.shape} where (horizon, {self._world.robot.n}) is needed"
        return positions, "" if np.isfinite(positions).all() else "values that are not finite"

    def _deliver(self, time: float) -> None:
        """Hand over what has arrived by `time`, in order."""
        while self._underway and self._underway[0][0] <= time + 1e-9:
            chunk = self._underway.pop(0)[1]
            self.missed += not self._player.add(chunk, time)


def _whole(physics: int, rate: int, what: str) -> int:
    if physics % rate:
        raise UserError(
            f"the physics rate must be a multiple of the {what} rate, got {physics} and {rate} Hz; "
            f"use for example {rate * max(1, round(physics / rate))} Hz"
        )
    return physics // rate
