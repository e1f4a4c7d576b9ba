"""A policy that lives elsewhere: observations out, timestamped chunks back, over TCP. docs/policy-server.md.

`RemotePolicy` is a `Policy`, so it runs where policies run: in the inference process. There it may wait for its
server; the control loop never does. A server that is late is a late policy, one that sends NaN or a chunk of the
wrong shape a policy that does so, and one that dies, goes silent or sends garbage a policy that has died: the
supervisor's deadlines cover all of them.
"""

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real import old_names
from sim2real.errors import HardwareError, UserError
from sim2real.objects import ObjectSpec
from sim2real.observation import Observation, nothing_seen, observed_names, standard_features
from sim2real.policies.messages import VERSION, Line, Message, MessageError, parse_address
from sim2real.policies.seeing import FIRST, Camera
from sim2real.robot import Robot

Array = NDArray[np.float64]

MAX_HORIZON = 256
"""Longest chunk, rows: as much as fits the memory shared with the control process."""

CONNECT_TIMEOUT = 10.0
"""s for connection and handshake."""

ANSWER_TIMEOUT = 10.0
"""s after which a silent server counts as gone. The supervisor stops the arm long before."""

PICTURE_QUALITY = 90


@dataclass(frozen=True)
class Surroundings:
    """What a policy is shown, and a server told, besides the observation.

    `lower`, `upper` (n,) rad: the arm's calibrated range (default: the URDF's limits), from which a server can
    make LeRobot's percentages. `cameras`: the pictures there are, by name. `objects`: what the task has on the table,
    which observations tell of.
    """

    lower: Array | None = None
    upper: Array | None = None
    cameras: Mapping[str, Camera] = field(default_factory=dict)
    objects: tuple[ObjectSpec, ...] = ()


@dataclass(frozen=True)
class Offer:
    """What a server says about its policy. `rate` is that of the rows in its chunks, Hz."""

    name: str
    task: str | None
    features: tuple[str, ...]
    pictures: tuple[str, ...]
    horizon: int
    rate: float

    @classmethod
    def read(cls, welcome: Message, robot: Robot, where: str) -> "Offer":
        """From a server's `welcome`. Raises UserError that names what does not fit the robot."""
        table = welcome.fields
        for what, mine, theirs in (
            ("version of the protocol", VERSION, table.get("version")),
            ("robot", robot.name, table.get("robot") or robot.name),
            ("joints", list(robot.joint_names), table.get("joints")),
        ):
            if mine != theirs:
                raise UserError(
                    f"the policy server at {where} has another {what}: {theirs}, this arm has {mine}"
                )
        try:
            return cls(
                name=str(table.get("name", "")),
                task=None if table.get("task") is None else str(table["task"]),
                features=_names(table["features"]),
                pictures=_names(table.get("pictures", [])),
                horizon=int(table["horizon"]),
                rate=float(table.get("rate", robot.policy_rate)),
            )._checked(robot)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"the policy server at {where} sent a welcome that cannot be used ({type(error).__name__}: {error}); "
                "docs/policy-server.md says what it must hold"
            ) from None

    def _checked(self, robot: Robot) -> "Offer":
        if not 1 <= self.horizon <= MAX_HORIZON:
            raise ValueError(f"horizon must be 1 to {MAX_HORIZON}, got {self.horizon}")
        if not 1 <= self.rate <= robot.command_rate:
            raise ValueError(f"rate must be 1 to {robot.command_rate} Hz, got {self.rate:g}")
        return self


def _names(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"a list of names is needed, got {values!r}")
    return tuple(str(name) for name in values)


def offered(spec: str, robot: Robot) -> Offer:
    """Ask the server what it offers, and hang up. Raises UserError, HardwareError when nobody answers."""
    line, offer = _connect(spec, robot, None, Surroundings())
    line.close()
    return offer


class RemotePolicy:
    """See the module docstring; satisfies `Policy`. Observations must say how the joints are; the rest of the
    standard features may be missing."""

    def __init__(self, spec: str, task: str, robot: Robot, surroundings: Surroundings | None = None) -> None:
        """Raises UserError when the server's policy does not fit, HardwareError when it cannot be reached."""
        self.where = spec
        self._robot = robot
        self._surroundings = surroundings or Surroundings()
        self._line, self.offer = _connect(spec, robot, task, self._surroundings)
        try:
            _check(self.offer, spec, task, self._surroundings)
        except UserError:
            self._line.close()
            raise
        self._episode, self._seed, self._number = 0, 0, 0
        self.horizon = self._rows(self.offer.horizon)

    def reset(self, seed: int) -> None:
        """The next observation begins a new episode."""
        self._episode += 1
        self._seed = seed

    def act(self, observation: Observation) -> Array:
        """The server's chunk at the robot's policy rate, rad; whatever shape and values the server sent.

        Raises HardwareError when the server has gone, is silent, or sends what is no chunk.
        """
        self._number += 1
        fields = {
            "number": self._number,
            "episode": self._episode,
            "seed": self._seed,
            "time": time.monotonic(),
        }
        pictures, times = self._pictures()
        # A simulated task tells only what it is about.
        known = nothing_seen(self._surroundings.objects) | observation
        arrays = {name: known[old_names.feature(name)] for name in self.offer.features}
        try:
            self._line.send(Message("observation", fields, arrays, pictures, times))
            answer = self._line.receive(ANSWER_TIMEOUT)
        except MessageError as error:
            raise HardwareError(f"policy server {self.where}: {error}") from None
        if answer.type == "problem":
            raise HardwareError(f"policy server {self.where}: {answer.fields.get('message')}")
        # The number ties the answer to the observation; the time is ours, so no clocks need to agree.
        if answer.type != "chunk" or answer.fields.get("number") != self._number:
            raise HardwareError(
                f"policy server {self.where} answered observation {self._number} with "
                f"'{answer.type}' {answer.fields.get('number')}"
            )
        chunk = answer.arrays.get("chunk")
        if chunk is None:
            raise HardwareError(f"policy server {self.where} sent a chunk without the array 'chunk'")
        return self._resampled(np.array(chunk, dtype=np.float64), observation["joint_command"])

    def close(self) -> None:
        """Hang up."""
        self._line.close()

    def _resampled(self, chunk: Array, now: Array) -> Array:
        """Rows at the robot's policy rate instead of the server's, from the present goal `now` (n,) on."""
        rate = self._robot.policy_rate
        if self.offer.rate == rate or chunk.ndim != 2 or chunk.shape[1] != self._robot.n or len(chunk) == 0:
            return chunk
        known = np.arange(len(chunk) + 1) / self.offer.rate
        wanted = np.arange(1, self._rows(len(chunk)) + 1) / rate
        rows = np.vstack([now, chunk])
        return np.column_stack([np.interp(wanted, known, rows[:, j]) for j in range(self._robot.n)])

    def _rows(self, given: int) -> int:
        """How many rows at the robot's rate `given` rows at the server's rate make."""
        return min(max(1, int(given * self._robot.policy_rate / self.offer.rate + 1e-9)), MAX_HORIZON)

    def _pictures(self) -> tuple[dict[str, bytes], dict[str, float]]:
        """The newest picture of every camera the server wants; waits for the first one."""
        pictures: dict[str, bytes] = {}
        times: dict[str, float] = {}
        end = time.monotonic() + FIRST
        for name in self.offer.pictures:
            while (newest := self._surroundings.cameras[name].latest()) is None:
                if time.monotonic() > end:
                    raise HardwareError(
                        f"the camera '{name}', which the policy at {self.where} wants to see, gives no picture"
                    )
                time.sleep(0.01)
            times[name], image = newest
            pictures[name] = _jpeg(image)
        return pictures, times


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    import cv2

    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, PICTURE_QUALITY]
    )
    if not done:
        raise HardwareError("a picture could not be encoded as JPEG")
    return data.tobytes()


def _connect(spec: str, robot: Robot, task: str | None, surroundings: Surroundings) -> tuple[Line, Offer]:
    """Connect and shake hands."""
    try:
        host, port = parse_address(spec, "a policy server's address")
    except ValueError as error:
        raise UserError(f"{error}; e.g. --policy tcp://127.0.0.1:5555") from None
    try:
        connection = socket.create_connection((host, port), CONNECT_TIMEOUT)
    except OSError as error:
        raise HardwareError(
            f"no policy server answers at {spec} ({error.strerror or error}); "
            "is `sim2real serve` (or your own server) running there, and is the port open?"
        ) from None
    # Nothing a server sends is larger than the longest chunk.
    line = Line(connection, max_payload=8 * MAX_HORIZON * robot.n)
    try:
        line.send(Message("hello", _hello(robot, task, surroundings)), CONNECT_TIMEOUT)
        answer = line.receive(CONNECT_TIMEOUT)
        if answer.type == "refusal":
            raise UserError(f"the policy server at {spec} refuses: {answer.fields.get('message')}")
        if answer.type != "welcome":
            raise HardwareError(
                f"the policy server at {spec} answered 'hello' with '{answer.type}', not 'welcome'"
            )
        offer = Offer.read(answer, robot, spec)
    except MessageError as error:
        line.close()
        raise HardwareError(f"policy server {spec}: {error}") from None
    except BaseException:
        line.close()
        raise
    return line, offer


def _hello(robot: Robot, task: str | None, surroundings: Surroundings) -> dict[str, Any]:
    lower = robot.lower if surroundings.lower is None else surroundings.lower
    upper = robot.upper if surroundings.upper is None else surroundings.upper
    return {
        "version": VERSION,
        "robot": robot.name,
        "joints": list(robot.joint_names),
        "lower": [float(value) for value in lower],
        "upper": [float(value) for value in upper],
        "gripper": None if robot.gripper is None else robot.joint_names[robot.gripper],
        "task": task,
        "features": [
            [feature.name, feature.size]
            for feature in standard_features(observed_names(surroundings.objects), robot.n)
        ],
        "cameras": {
            name: [reader.camera.height, reader.camera.width] for name, reader in surroundings.cameras.items()
        },
        "rates": {"policy": robot.policy_rate, "command": robot.command_rate},
        "horizon": MAX_HORIZON,
    }


def _check(offer: Offer, where: str, task: str, surroundings: Surroundings) -> None:
    if offer.task is not None and offer.task != task:
        raise UserError(
            f"the policy at {where} is for the task '{offer.task}', not for '{task}'; use --task {offer.task}"
        )
    for what, wanted, there in (
        (
            "observe",
            tuple(map(old_names.feature, offer.features)),
            list(observed_names(surroundings.objects)),
        ),
        ("see the camera", offer.pictures, list(surroundings.cameras)),
    ):
        missing = [name for name in wanted if name not in there]
        if missing:
            raise UserError(
                f"the policy at {where} wants to {what} {', '.join(missing)}; there is {', '.join(there) or 'none'}"
            )
