"""An arm that LeRobot drives through sim2real: `sim2real deploy` owns the port, and LeRobot is its policy.

`connect` starts that command, which takes the arm from limp to home, behind its gate, its watchdog and its
supervisor; from then on it asks this process for actions over a socket on this machine, thirty times a second, as it
would ask any policy server. `send_action` says where to go; what was really sent comes back as the state of the goal
in the next observation. Whatever happens to LeRobot's process, the arm holds, is lowered, and let go.
"""

import io
import json
import math
import shlex
import signal
import socket
import struct
import subprocess
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np
from lerobot.robots.robot import Robot
from lerobot.utils.errors import DeviceAlreadyConnectedError, DeviceNotConnectedError
from PIL import Image

from .config_sim2real_follower import Sim2RealFollowerConfig

ROWS, RATE = 10, 30


class Sim2RealFollower(Robot):
    """See the module docstring."""

    config_class = Sim2RealFollowerConfig
    name = "sim2real_follower"

    def __init__(self, config: Sim2RealFollowerConfig) -> None:
        super().__init__(config)
        self.config = config
        self._process: subprocess.Popen | None = None
        self._link = _Link(config)

    @property
    def observation_features(self) -> dict[str, Any]:
        views = {name: (*size, 3) for name, size in self.config.views.items()}
        return {**self.action_features, **views}

    @property
    def action_features(self) -> dict[str, type]:
        return {f"{joint}.pos": float for joint in self.config.joints}

    @property
    def is_connected(self) -> bool:
        return self._process is not None and self._process.poll() is None and self._link.live

    @property
    def is_calibrated(self) -> bool:
        """The arm's calibration is sim2real's: `sim2real calibrate`."""
        return True

    def calibrate(self) -> None:
        pass

    def configure(self) -> None:
        pass

    def connect(self, calibrate: bool = True) -> None:
        """Start `sim2real deploy` and wait until the arm is at home and asks for actions."""
        if self._process is not None:
            raise DeviceAlreadyConnectedError(f"{self} is connected")
        config, address = self.config, self._link.listen()
        out = f"{config.out}/{time.strftime('%Y%m%d_%H%M%S')}"
        words = [
            *shlex.split(config.sim2real), "deploy", "--policy", address, "--task", "reach", "--goal", "0.2,0,0.1",
            "--port", config.port, "--robot", config.robot, "--speed", str(config.speed), "--seconds", "1000000",
            "--yes", "--out", out, *config.arguments,
        ]  # fmt: skip
        if config.calibration:
            words += ["--calibration", config.calibration]
        if config.cameras_file:
            words += ["--cameras", config.cameras_file]
        for source in config.sources:
            words += ["--camera", source]
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        end = time.monotonic() + config.patience
        while not self._link.live:
            if self._process.poll() is not None:
                status, self._process = self._process.returncode, None
                self._link.close()
                raise ConnectionError(f"sim2real ended with status {status}; it has said why above")
            if time.monotonic() > end:
                self.disconnect()
                raise ConnectionError(f"the arm did not ask for actions within {config.patience:.0f} s")
            time.sleep(0.05)

    def get_observation(self) -> dict[str, Any]:
        self._check()
        position, pictures = self._link.newest()
        values = dict(zip(self.action_features, (float(x) for x in position)))
        return values | {name: np.asarray(Image.open(io.BytesIO(data))) for name, data in pictures.items()}

    def send_action(self, action: dict[str, Any]) -> dict[str, float]:
        """Returns the goal within the joints' range; how fast the arm goes there is the gate's business."""
        self._check()
        goal = self._link.go(np.array([float(action[name]) for name in self.action_features]))
        return dict(zip(self.action_features, (float(x) for x in goal)))

    def disconnect(self) -> None:
        """Have the arm lowered to rest and let go, and wait for it."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(120)
        self._link.close()

    def _check(self) -> None:
        if not self.is_connected:
            raise DeviceNotConnectedError(
                f"{self} is not connected, or its arm has stopped: see {self.config.out}"
            )


class _Link:
    """The policy server's side of docs/policy-server.md: one arm, in a thread."""

    def __init__(self, config: Sim2RealFollowerConfig) -> None:
        self.config = config
        self.live = False
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._lower = self._upper = self._position = np.zeros(len(config.joints))
        self._pictures: dict[str, bytes] = {}
        self._goal: np.ndarray | None = None
        self._said = 0.0

    def listen(self) -> str:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()
        return f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self.live = False
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def newest(self) -> tuple[np.ndarray, dict[str, bytes]]:
        with self._lock:
            return self._from_radians(self._position), dict(self._pictures)

    def go(self, values: np.ndarray) -> np.ndarray:
        if not np.isfinite(values).all():
            raise ValueError(f"an action must be finite numbers, got {values}")
        with self._lock:
            self._goal = np.clip(self._to_radians(values), self._lower, self._upper)
            self._said = time.monotonic()
            return self._from_radians(self._goal)

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                with connection, connection.makefile("rwb") as line, suppress(EOFError, OSError):
                    self._answer(line)
                self.live = False

    def _answer(self, line: Any) -> None:
        hello, _ = _receive(line)
        if hello["joints"] != self.config.joints:
            _send(line, {"type": "refusal", "message": f"this is for the joints {self.config.joints}"})
            return
        self._lower, self._upper = np.array(hello["lower"]), np.array(hello["upper"])
        _send(line, {
            "type": "welcome", "version": 1, "joints": hello["joints"], "features": ["joint_position", "joint_command"],
            "pictures": list(self.config.views), "horizon": ROWS, "rate": RATE, "name": "LeRobot",
        })  # fmt: skip
        first = None
        while True:
            fields, seen = _receive(line)
            first = fields["episode"] if first is None else first
            with self._lock:
                self._position = seen["joint_position"]
                self._pictures = {name: seen[name] for name in self.config.views}
                # Before its first episode the arm only tries how fast it is answered.
                began, self.live = not self.live and fields["episode"] != first, fields["episode"] != first
                if self._goal is None or began or time.monotonic() - self._said > self.config.hold_after:
                    self._goal = seen["joint_command"]
                goal = self._goal
            _send(line, {"type": "chunk", "number": fields["number"]}, chunk=np.tile(goal, (ROWS, 1)))

    def _from_radians(self, position: np.ndarray) -> np.ndarray:
        share = (position - self._lower) / np.maximum(self._upper - self._lower, 1e-9)
        middle = (self._lower + self._upper) / 2
        values = np.degrees(position - middle) if self.config.use_degrees else 200 * share - 100
        if "gripper" in self.config.joints:
            i = self.config.joints.index("gripper")
            values[i] = 100 * share[i]
        return values

    def _to_radians(self, values: np.ndarray) -> np.ndarray:
        span, middle = self._upper - self._lower, (self._lower + self._upper) / 2
        position = (
            middle + np.radians(values)
            if self.config.use_degrees
            else self._lower + (values + 100) / 200 * span
        )
        if "gripper" in self.config.joints:
            i = self.config.joints.index("gripper")
            position[i] = self._lower[i] + values[i] / 100 * span[i]
        return position


def _receive(line: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    magic, header, payload = struct.unpack("<4sII", _exactly(line, 12))
    if magic != b"S2R1" or header > 1 << 16 or payload > 1 << 24:
        raise EOFError("not a message of the policy protocol")
    fields, data, values = json.loads(_exactly(line, header)), _exactly(line, payload), {}
    for part in fields.pop("parts", []):
        size = (
            part["bytes"] if part["kind"] == "jpeg" else math.prod(part["shape"]) * int(part["kind"][5:]) // 8
        )
        piece, data = data[:size], data[size:]
        kind = {"float64": "<f8", "float32": "<f4"}.get(part["kind"])
        values[part["name"]] = piece if kind is None else np.frombuffer(piece, kind).reshape(part["shape"])
    return fields, values


def _exactly(line: Any, size: int) -> bytes:
    data = line.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _send(line: Any, fields: dict[str, Any], **arrays: np.ndarray) -> None:
    parts = [{"name": k, "kind": "float64", "shape": list(np.shape(v))} for k, v in arrays.items()]
    header = json.dumps({**fields, "parts": parts}).encode()
    payload = b"".join(np.ascontiguousarray(v, "<f8").tobytes() for v in arrays.values())
    line.write(struct.pack("<4sII", b"S2R1", len(header), len(payload)) + header + payload)
    line.flush()
