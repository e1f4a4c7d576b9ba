"""A policy as a server: arms connect, send observations, get chunks back. docs/policy-server.md."""

import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.runtime.sources.inference import example_observation
from sim2real.errors import HardwareError, Sim2RealError, UserError
from sim2real.observation import STANDARD, standard_features
from sim2real.policies.load import load_policy
from sim2real.policies.messages import VERSION, Line, Message, MessageError, parse_address
from sim2real.policies.protocol import Policy
from sim2real.robot import Robot
from sim2real.task import Task
from sim2real.tasks.registry import load_task

MESSAGE_TIMEOUT = 5.0
"""s in which a message that has begun must be complete."""


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
            if not spec.endswith(".onnx"):
                raise UserError(
                    f"the policy '{spec}' does not say what it is for: add --task (policy files know their task)"
                )
            from sim2real.policies.file import load_policy_file

            task = load_policy_file(spec).info.task
        chosen = load_task(task, arm.n)
        policy = load_policy(spec, chosen, arm)
        # The first call compiles or allocates; no arm must wait for that.
        try:
            policy.reset(0)
            policy.act(example_observation(arm, standard_features(STANDARD, arm.n)))
        except Sim2RealError:
            raise
        except Exception as error:
            raise UserError(f"the policy '{spec}' failed at once: {type(error).__name__}: {error}") from error
        return cls(spec, policy, arm, chosen)

    @property
    def features(self) -> tuple[str, ...]:
        """What the policy observes; everything there is when it does not say."""
        info = getattr(self.policy, "info", None)
        return STANDARD if info is None else tuple(feature.name for feature in info.features)

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
    ) -> None:
        """Bind to `listen`, "HOST:PORT" (port 0: a free one). Raises UserError when that cannot be done."""
        self.served = served
        self._say = say
        self._sizes = {f.name: f.size for f in standard_features(STANDARD, served.robot.n)}
        try:
            host, port = parse_address(listen, "--listen")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family)
        except (OSError, ValueError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"cannot listen on '{listen}': {reason}; choose another --listen HOST:PORT"
            ) from None
        self.address: tuple[str, int] = self._listener.getsockname()[:2]

    @property
    def url(self) -> str:
        """What `--policy` takes to reach this server from this machine."""
        host, port = self.address
        return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"

    def run(self) -> None:
        """Serve one arm after another, for ever."""
        while True:
            line = self._accept()
            if line is not None:
                try:
                    self._serve(line)
                finally:
                    line.close()

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

    def _serve(self, line: Line) -> None:
        """One arm, from hello to the end of its connection. Nothing it does ends the server."""
        times: list[float] = []
        peer = line.peer
        try:
            hello = line.receive(MESSAGE_TIMEOUT)
            self._check(hello)
            line.send(self.served.welcome())
            self._say(f"{peer}: {hello.fields.get('robot')} is here")
            episode: Any = None
            while True:
                self._wait(line)
                message = line.receive(MESSAGE_TIMEOUT)
                start = time.perf_counter()
                if message.fields.get("episode") != episode:
                    episode = message.fields.get("episode")
                    self.served.policy.reset(int(message.fields.get("seed", 0)))
                line.send(self._answer(message))
                times.append(time.perf_counter() - start)
        except MessageError as error:
            if times or "closed" not in str(error):
                self._say(f"{peer}: {error}")
        except HardwareError as error:
            self._refuse(line, "problem", str(error), peer)
        except UserError as error:
            self._refuse(line, "refusal", str(error), peer)
        except Exception as error:
            # Whatever the policy raises is the arm's to know; the server goes on for the next one.
            self._refuse(line, "problem", f"{type(error).__name__}: {error}", peer)
        if times:
            spread = np.percentile(times, (50, 95)) * 1000
            self._say(
                f"{peer}: {len(times)} chunks in {spread[0]:.1f} ms each (95 % within {spread[1]:.1f} ms)"
            )

    def _wait(self, line: Line) -> None:
        """Until the arm has something to say; others that call meanwhile are sent away."""
        while True:
            ready, _, _ = select.select([line.socket, self._listener], [], [])
            # First: an arm that has just hung up is no reason to send the next one away.
            if line.socket in ready:
                return
            if (other := self._accept()) is not None:
                try:
                    busy = {"message": "it is driving another arm; try again later"}
                    other.send(Message("refusal", busy), 1.0)
                    # Closing with unread input would take the refusal back before it was read.
                    other.receive(0.2)
                except MessageError:
                    pass
                other.close()

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

    def _refuse(self, line: Line, kind: str, text: str, peer: str) -> None:
        self._say(f"{peer}: {text}")
        try:
            line.send(Message(kind, {"message": text}), 1.0)
        except MessageError:
            pass
