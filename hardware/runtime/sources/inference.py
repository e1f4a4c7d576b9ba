"""The policy in a process of its own: observations in, timestamped chunks out, through shared memory.

The control loop never waits for it and never imports what it imports. Both directions are a slot guarded by a
sequence number (a seqlock: odd while being written); the newest value wins, nothing queues up. A pipe carries
one byte per observation, so that the process sleeps until there is work, and its end of file tells it that the
control process is gone.
"""

import os
import select
import time
from collections.abc import Sequence
from dataclasses import astuple
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.sources.sources import PolicyAnswer
from sim2real.chunks import Chunk
from sim2real.errors import Sim2RealError, UserError
from sim2real.observation import Feature, Observation, observed_names, standard_features
from sim2real.policies.committed import COMMITTED, committed_features, nothing_committed
from sim2real.policies.latency import Coverage, Timing, time_policy
from sim2real.policies.load import load_policy
from sim2real.policies.protocol import Policy, checked_chunk
from sim2real.policies.remote import MAX_HORIZON, Surroundings
from sim2real.policies.seeing import Sight, example_pictures, wanted_by
from sim2real.robot import Robot
from sim2real.spawning import context, end_process
from sim2real.task import Task
from sim2real.tasks.registry import load_task

Array = NDArray[np.float64]

NOTE = 2000
"""Bytes for the message of a policy that failed."""

STARTING, READY, FAILED = 0, 1, 2

ANSWERS, ANSWERS_TIME = 25, 1.0
"""How many answers a policy is timed by before torque comes on, and the s that this may take."""

ATTEMPTS = 3
"""Times that a policy is found too slow before that is believed: it may have been this machine, which loads so much
just then."""

HOPELESS = 3
"""Times what its chunks cover: a policy that usually takes longer is not asked again."""


class Slot:
    """A vector of float64 in shared memory with one writer and one reader at a time.

    A read that meets a write gives None; the caller tries again in its next cycle.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._memory = RawArray("b", 8 * (size + 1))
        self._map()

    def _map(self) -> None:
        everything = np.frombuffer(self._memory, dtype=np.float64)
        self._sequence = everything[:1].view(np.int64)
        self._values = everything[1:]

    def __getstate__(self) -> dict[str, Any]:
        return {"size": self.size, "_memory": self._memory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()

    @property
    def version(self) -> int:
        """Grows by two with every write; odd while one is under way."""
        return int(self._sequence[0])

    def write(self, *parts: "Array | Sequence[float]") -> None:
        """Replace the content by the concatenated parts."""
        self._sequence[0] += 1
        at = 0
        for part in parts:
            self._values[at : at + len(part)] = part
            at += len(part)
        self._sequence[0] += 1

    def read(self) -> tuple[int, Array] | None:
        """(version, copy of the content), or None while it is being written."""
        before = int(self._sequence[0])
        if before % 2:
            return None
        values = self._values.copy()
        return (before, values) if int(self._sequence[0]) == before else None


class _Shared:
    """What both processes see. The header of a chunk: status, episode, time, horizon, joints."""

    def __init__(self, size: int, n: int) -> None:
        self.observation = Slot(3 + size)
        """episode, seed, time, then the features."""
        self.chunk = Slot(4 + MAX_HORIZON * n)
        """episode, time of the observation, time of the answer, rows (-1: invalid), then the chunk."""
        self.timing = RawArray("d", 7)
        """Actions per chunk, then what a `Timing` holds; zeros where the policy was not timed."""
        self.status = RawArray("i", 1)
        self.note = RawArray("c", NOTE)

    def fail(self, message: str) -> None:
        text = message.encode("utf-8", "replace")[: NOTE - 1]
        self.note.value = text.decode("utf-8", "ignore").encode("utf-8")
        self.status[0] = FAILED


def observed_features(task: Task, robot: Robot) -> tuple[Feature, ...]:
    """Everything an arm can tell a policy of this task, in the order of the shared memory."""
    return standard_features(observed_names(task.objects), robot.n)


def told_features(task: Task, robot: Robot) -> tuple[Feature, ...]:
    """`observed_features`, and what is committed while the policy thinks."""
    return observed_features(task, robot) + committed_features(robot.n)


class InferenceProcess:
    """A policy source (see `sources.PolicySource`) that thinks in another process.

    `spec` is whatever `load_policy` takes, `task` and `robot` names or paths. The constructor returns at
    once; `wait_ready` waits until the policy is loaded and has answered once, and with `timed` often enough to know
    how long it takes.
    """

    def __init__(
        self,
        spec: str,
        task: str,
        robot: str | Path,
        *,
        seed: int = 0,
        surroundings: Surroundings | None = None,
        timed: bool = False,
    ) -> None:
        self.spec = spec
        self._robot = Robot.load(robot)
        self._task = load_task(task, self._robot.n)
        self._features = told_features(self._task, self._robot)
        self._period = 1.0 / self._robot.policy_rate
        self._shared = _Shared(sum(feature.size for feature in self._features), self._robot.n)
        self._episode, self._seed, self._seen, self._died = 0, seed, 0, ""
        reader, self._wake = context.Pipe(duplex=False)
        os.set_blocking(self._wake.fileno(), False)
        self._process = context.Process(
            target=_serve,
            args=(spec, task, str(robot), self._shared, reader, surroundings, timed),
            name="sim2real-inference",
            daemon=True,
        )
        self._process.start()
        reader.close()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs and its policy has not failed."""
        if self._died or self._shared.status[0] == FAILED:
            return False
        code = self._process.exitcode
        if code is not None:
            self._died = f"the inference process ended (exit status {code})"
        return code is None

    @property
    def problem(self) -> str:
        if self._shared.status[0] == FAILED:
            return bytes(self._shared.note.value).decode("utf-8", "replace")
        return self._died

    def wait_ready(self, timeout: float = 180.0) -> None:
        """Raises UserError with the policy's own message when it cannot be loaded, Sim2RealError when late."""
        end = time.monotonic() + timeout
        while self._shared.status[0] == STARTING:
            if not self.alive:
                raise Sim2RealError(f"policy '{self.spec}': {self.problem}")
            if time.monotonic() > end:
                raise Sim2RealError(f"policy '{self.spec}' was not ready after {timeout:.0f} s")
            time.sleep(0.01)
        if self._shared.status[0] == FAILED:
            raise UserError(self.problem)

    @property
    def timing(self) -> tuple[Coverage, Timing] | None:
        """What the policy's chunks cover and how long it took for them; None where it was not timed."""
        horizon, calls, *times = self._shared.timing
        if not calls:
            return None
        return Coverage(int(horizon), self._robot.policy_rate), Timing(int(calls), *times)

    def reset(self, seed: int) -> None:
        self._episode += 1
        self._seed = seed
        self._seen = self._shared.chunk.version

    def send(self, time: float, observation: Observation) -> None:
        if COMMITTED not in observation:
            observation = observation | nothing_committed(observation["joint_command"])
        parts = [observation[feature.name] for feature in self._features]
        self._shared.observation.write((self._episode, self._seed, time), *parts)
        try:
            os.write(self._wake.fileno(), b".")
        except OSError:
            # Full: it has not kept up and finds the newest observation anyway. Closed: `alive` says so.
            pass

    def poll(self) -> PolicyAnswer | None:
        if self._shared.chunk.version <= self._seen:
            return None
        got = self._shared.chunk.read()
        if got is None:
            return None
        self._seen, values = got
        episode, start, arrived, rows = values[:4]
        if int(episode) != self._episode:
            return None
        if rows < 1:
            return PolicyAnswer(None, float(arrived), "its chunk has the wrong shape")
        n = self._robot.n
        positions = values[4 : 4 + int(rows) * n].reshape(-1, n)
        return PolicyAnswer(Chunk(float(start), self._period, positions), float(arrived))

    def close(self) -> None:
        self._wake.close()
        end_process(self._process, 1.0)


def _serve(
    spec: str,
    task_name: str,
    robot_name: str,
    shared: _Shared,
    wake: Connection,
    surroundings: Surroundings | None,
    timed: bool,
) -> None:
    """The inference process. Ends when the control process closes the pipe or dies."""
    import signal

    # Ctrl-C in a terminal goes to the whole group; the control process decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        robot = Robot.load(robot_name)
        task = load_task(task_name, robot.n)
        policy = load_policy(spec, task, robot, surroundings)
        features = told_features(task, robot)
        if not 1 <= policy.horizon <= MAX_HORIZON:
            raise UserError(
                f"policy '{spec}' gives chunks of {policy.horizon} actions, an arm takes 1 to {MAX_HORIZON} "
                f"({MAX_HORIZON / robot.policy_rate:.1f} s at {robot.policy_rate} Hz); make its horizon shorter"
            )
        policy.reset(0)
        # The first call compiles or allocates; it must not happen with the arm waiting.
        wanted = wanted_by(policy)
        sight = Sight(wanted, {} if surroundings is None else surroundings.cameras) if wanted else None
        example = example_observation(robot, features) | example_pictures(wanted)
        checked_chunk(policy.act(example), policy, robot)
        if timed:
            covered = Coverage(policy.horizon, robot.policy_rate)
            found = _time(policy, example, covered)
            shared.timing[:] = [covered.horizon, *astuple(found)]
        shared.status[0] = READY
        _think(policy, robot, features, shared, wake, sight)
    except Sim2RealError as error:
        shared.fail(str(error))
    except Exception as error:
        shared.fail(f"policy '{spec}' failed: {type(error).__name__}: {error}")


def _time(policy: Policy, observation: Observation, covered: Coverage) -> Timing:
    """How long the policy takes, here and now."""
    for _ in range(ATTEMPTS):
        found = time_policy(policy, observation, ANSWERS_TIME, most=ANSWERS)
        if covered.covers(found.p95) or found.p50 > HOPELESS * covered.longest:
            break
    return found


def example_observation(robot: Robot, features: Sequence[Feature]) -> Observation:
    """An observation as it may come, to try a policy with."""
    observation = {feature.name: np.zeros(feature.size) for feature in features}
    observation["joint_position"] = np.array(robot.home)
    observation["joint_command"] = np.array(robot.home)
    observation |= nothing_committed(observation["joint_command"])
    for feature in features:
        if feature.name == "goal" or feature.name.endswith(".position"):
            observation[feature.name] = np.array([0.25, 0.0, 0.1])
        elif feature.name.endswith(".yaw"):
            observation[feature.name] = np.array([1.0, 0.0])
    return observation


def _think(
    policy: Policy,
    robot: Robot,
    features: Sequence[Feature],
    shared: _Shared,
    wake: Connection,
    sight: Sight | None = None,
) -> None:
    descriptor = wake.fileno()
    episode = -1
    while True:
        select.select([descriptor], [], [])
        if not os.read(descriptor, 65536):
            return
        got = shared.observation.read()
        if got is None:
            # The next one is being written, and says so when it is complete. The process that writes it may be dead.
            continue
        values = got[1]
        if int(values[0]) != episode:
            episode = int(values[0])
            policy.reset(int(values[1]))
        observation, at = {}, 3
        for feature in features:
            observation[feature.name] = values[at : at + feature.size]
            at += feature.size
        if sight is not None:
            observation |= sight.entries()
        chunk = np.asarray(policy.act(observation), dtype=np.float64)
        header = (values[0], values[2], time.monotonic())
        if chunk.ndim == 2 and chunk.shape[1] == robot.n and 1 <= len(chunk) <= MAX_HORIZON:
            shared.chunk.write((*header, len(chunk)), chunk.ravel())
        else:
            shared.chunk.write((*header, -1))
