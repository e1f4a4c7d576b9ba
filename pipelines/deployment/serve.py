"""A policy as a server: arms connect, send observations, get chunks back. docs/policy-server.md."""

import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.runtime.sources.inference import example_observation, observed_features
from sim2real.errors import HardwareError, Sim2RealError, UserError
from sim2real.policies.load import kind_of, load_policy
from sim2real.policies.messages import VERSION, Line, Message, MessageError, listening
from sim2real.policies.protocol import Policy
from sim2real.policies.seeing import wanted_by
from sim2real.robot import Robot
from sim2real.task import Task
from sim2real.tasks.registry import load_task, name_from_outside, trained_with

MESSAGE_TIMEOUT = 5.0
"""s in which a caller must have said hello, and a message that has begun must be complete."""

IDLE = 30.0
"""s of silence after which an arm loses its place, once another one wants it."""

CALLERS = 16
"""Connections at a time; more are hung up on."""


@dataclass(frozen=True)
class Served:
    """What is offered: a policy, and the robot and task it is for."""

    spec: str
    policy: Policy
    robot: Robot
    task: Task

    @classmethod
    def load(cls, spec: str, task: str | None, robot: str) -> "Served":
        """A policy by file, name or class path, checked. Raises UserError."""
        arm = Robot.load(robot)
        if task is None:
            if kind_of(spec) != "file":
                raise UserError(
                    f"the policy '{spec}' does not say what it is for: add --task (policy files know their task)"
                )
            from sim2real.policies.file import load_policy_file

            task = name_from_outside(load_policy_file(spec).info.task, f"the policy {spec}")
        if kind_of(spec) == "file":
            task = trained_with(task, spec)
        chosen = load_task(task, arm.n)
        policy = load_policy(spec, chosen, arm)
        if wanted_by(policy):
            raise UserError(
                f"the policy '{spec}' sees pictures, which this server does not pass on: they are cut out by where the "
                "camera stands, which only the arm's side knows; run it there, with deploy --policy FILE"
            )
        # The first call compiles or allocates; no arm must wait for that.
        try:
            policy.reset(0)
            policy.act(example_observation(arm, observed_features(chosen, arm)))
        except Sim2RealError:
            raise
        except Exception as error:
            raise UserError(f"the policy '{spec}' failed at once: {type(error).__name__}: {error}") from error
        return cls(spec, policy, arm, chosen)

    @property
    def features(self) -> tuple[str, ...]:
        """What the policy observes; everything there is when it does not say."""
        info = getattr(self.policy, "info", None)
        features = observed_features(self.task, self.robot) if info is None else info.features
        return tuple(feature.name for feature in features)

    def welcome(self) -> Message:
        return Message(
            "welcome",
            {
                "version": VERSION,
                "name": self.spec,
                "robot": self.robot.name,
                "joints": list(self.robot.joint_names),
                "task": self.task.name,
                "features": list(self.features),
                "pictures": [],
                "horizon": self.policy.horizon,
                "rate": self.robot.policy_rate,
            },
        )


class PolicyServer:
    """Serves one arm at a time; others are told that it is busy. `address` is (host, port) as bound."""

    def __init__(
        self,
        served: Served,
        listen: str,
        say: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
        *,
        idle: float = IDLE,
    ) -> None:
        """Bind to `listen`, "HOST:PORT" (port 0: a free one). Raises UserError when that cannot be done."""
        self._idle = idle
        self.served = served
        self._say = say
        self._sizes = {f.name: f.size for f in observed_features(served.task, served.robot)}
        self._listener = listening(listen)
        self._lock = threading.Lock()
        self._callers = threading.BoundedSemaphore(CALLERS)
        self._seated: Line | None = None
        self._heard = 0.0
        self.address: tuple[str, int] = self._listener.getsockname()[:2]

    @property
    def url(self) -> str:
        """What `--policy` takes to reach this server from this machine."""
        host, port = self.address
        return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"

    def run(self) -> None:
        """Serve one arm after another, for ever. A caller has a thread of its own until it has said who it is:
        one that says nothing keeps nobody waiting."""
        while True:
            line = self._accept()
            if line is None:
                continue
            if not self._callers.acquire(blocking=False):
                line.close()  # a flood; an arm tries again
                continue
            threading.Thread(target=self._greet, args=(line,), daemon=True).start()

    def _accept(self) -> Line | None:
        """The next caller; None for one that has hung up already."""
        try:
            connection, _ = self._listener.accept()
        except ConnectionError:
            return None
        try:
            return Line(connection)
        except OSError:
            connection.close()
            return None

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _greet(self, line: Line) -> None:
        """One caller, from hello to the end of its connection. Nothing it does ends the server."""
        try:
            self._check(line.receive(MESSAGE_TIMEOUT))
            if self._take_seat(line):
                try:
                    self._serve(line)
                finally:
                    self._leave_seat(line)
            else:
                self._refuse(line, "refusal", "it is driving another arm; try again later", say=False)
        except MessageError as error:
            if "closed" not in str(error):
                self._say(f"{line.peer}: {error}")
        except UserError as error:
            self._refuse(line, "refusal", str(error))
        finally:
            line.close()
            self._callers.release()

    def _take_seat(self, line: Line) -> bool:
        """Become the arm that is served: when there is none, or it has been silent for long."""
        with self._lock:
            if self._seated is not None:
                silent = time.monotonic() - self._heard
                if silent < self._idle and not _hung_up(self._seated):
                    return False
                if silent >= self._idle:
                    self._say(f"{self._seated.peer}: silent for {silent:.0f} s, another arm takes its place")
                self._seated.close()
            self._seated, self._heard = line, time.monotonic()
            return True

    def _leave_seat(self, line: Line) -> None:
        with self._lock:
            if self._seated is line:
                self._seated = None

    def _serve(self, line: Line) -> None:
        """The arm in the seat, from welcome to the end of its connection."""
        times: list[float] = []
        peer = line.peer
        try:
            line.send(self.served.welcome())
            self._say(f"{peer}: {self.served.robot.name} is here")
            episode: Any = None
            while True:
                select.select([line.socket], [], [])
                message = line.receive(MESSAGE_TIMEOUT)
                start = time.perf_counter()
                with self._lock:
                    if self._seated is not line:
                        return
                    self._heard = time.monotonic()
                    if message.fields.get("episode") != episode:
                        episode = message.fields.get("episode")
                        self.served.policy.reset(_seed(message))
                    answer = self._answer(message)
                line.send(answer)
                times.append(time.perf_counter() - start)
        except (MessageError, OSError, ValueError) as error:
            # ValueError: the caller that took the seat has closed the socket.
            if isinstance(error, MessageError) and (times or "closed" not in str(error)):
                self._say(f"{peer}: {error}")
        except HardwareError as error:
            self._refuse(line, "problem", str(error))
        except UserError as error:
            self._refuse(line, "refusal", str(error))
        except Exception as error:
            # Whatever the policy raises is the arm's to know; the server goes on for the next one.
            self._refuse(line, "problem", f"{type(error).__name__}: {error}")
        if times:
            spread = np.percentile(times, (50, 95)) * 1000
            self._say(
                f"{peer}: {len(times)} chunks in {spread[0]:.1f} ms each (95 % within {spread[1]:.1f} ms)"
            )

    def _check(self, hello: Message) -> None:
        if hello.type != "hello":
            raise UserError(f"a connection begins with 'hello', not with '{hello.type}'")
        robot = self.served.robot
        for what, mine, theirs in (
            ("protocol version", VERSION, hello.fields.get("version")),
            ("robot", robot.name, hello.fields.get("robot")),
            ("joints", list(robot.joint_names), hello.fields.get("joints")),
        ):
            if mine != theirs:
                raise UserError(f"this policy is for the {what} {mine}, the arm has {theirs}")

    def _answer(self, message: Message) -> Message:
        if message.type != "observation":
            raise UserError(f"after the handshake come observations, not '{message.type}'")
        observation = {}
        for name in self.served.features:
            values = message.arrays.get(name)
            if values is None or values.shape != (self._sizes[name],):
                got = "nothing" if values is None else f"shape {values.shape}"
                raise UserError(f"an observation needs '{name}' with shape ({self._sizes[name]},), got {got}")
            observation[name] = np.array(values, dtype=np.float64)
        chunk = np.asarray(self.served.policy.act(observation), dtype=np.float64)
        return Message("chunk", {"number": message.fields.get("number")}, {"chunk": chunk})

    def _refuse(self, line: Line, kind: str, text: str, *, say: bool = True) -> None:
        # Before the caller hears of it: one that has been refused may try again at once.
        self._leave_seat(line)
        if say:
            self._say(f"{line.peer}: {text}")
        try:
            line.send(Message(kind, {"message": text}), 1.0)
        except MessageError:
            pass


def _hung_up(line: Line) -> bool:
    """Whether the other side has closed the connection; never waits."""
    try:
        ready, _, _ = select.select([line.socket], [], [], 0)
        return bool(ready) and line.socket.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True


def _seed(message: Message) -> int:
    """The episode's seed. Raises UserError for anything but a whole number from 0 on."""
    seed = message.fields.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"an observation's 'seed' must be a whole number from 0 on, got {seed!r}")
    return seed
