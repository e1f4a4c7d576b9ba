"""`--view browser`: the page of the arm that runs, on this machine only, out of a process of its own.

The loop hands over a record ten times a second, without waiting; pictures come out of the cameras' shared memory. The
button of the page sends the control process the signal that `sim2real estop` sends.
"""

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from hardware.runtime.control.supervisor import CODES, Phase
from hardware.runtime.control.tick import Tick
from hardware.runtime.fault_codes import FaultCode
from hardware.runtime.processes import is_control
from hardware.runtime.recording.recorder import Pictures
from pipelines.deployment.view_process import ViewProcess, records
from pipelines.robot_page import JointState, RobotState, live, robot_page
from sim2real.errors import UserError
from sim2real.gate.gate import NAMES
from sim2real.local_http import LocalHandler
from sim2real.robot import Robot

WORD = "browser"
"""What `--view` is told, alone or with a port: browser:8080."""

PERIOD = 0.1
"""Seconds between two records."""

VECTORS = ("position", "executed", "requested", "load", "temperature")
SCALARS = ("state", "fault", "clipped", "rejected")

CALLERS = 16
"""Requests that are answered at a time."""

GOODBYE = 2.0

_FAULTS = tuple(FaultCode)
_PHASES = tuple(CODES)


def asked_for(view: str | None) -> bool:
    """Whether `--view` names the browser."""
    return view is not None and view.partition(":")[0] == WORD


def port_of(view: str) -> int:
    """The port in `browser:PORT`; 0, any free one, without. Raises UserError for what is no port."""
    _, colon, text = view.partition(":")
    if not colon:
        return 0
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65536):
        raise UserError(f"--view {WORD} takes a port from 1 to 65535, as {WORD}:8080; got {view!r}")
    return int(text)


class BrowserView:
    """The page's process, at `url`. Raises UserError when the port is taken."""

    def __init__(self, robot: Robot, view: str, pictures: Mapping[str, Pictures]) -> None:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port_of(view)))
            listening.listen(CALLERS)
        except OSError as error:
            listening.close()
            raise UserError(f"--view {view}: cannot listen there: {error.strerror}") from None
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        self._n = robot.n
        self._counts = np.zeros(len(NAMES))
        self._record = np.zeros(_size(robot.n))
        self._next = float("-inf")
        self._process = ViewProcess(_serve, robot, dict(pictures), listening, os.getpid())
        listening.close()

    def tick(self, tick: Tick) -> None:
        """See `TickSink`."""
        if tick.flags:
            for bit in range(len(NAMES)):
                self._counts[bit] += tick.flags >> bit & 1
        reading, record = tick.reading, self._record
        if reading is None or tick.time < self._next:
            return
        self._next = tick.time + PERIOD
        fault = tick.state.fault
        record[: len(SCALARS)] = (
            CODES[tick.state.phase],
            -1 if fault is None else _FAULTS.index(fault),
            tick.clipped,
            tick.rejected,
        )
        at = len(SCALARS)
        record[at : at + len(NAMES)] = self._counts
        at += len(NAMES)
        for vector in (reading.position, tick.executed, tick.requested, reading.load, reading.temperature):
            record[at : at + self._n] = vector
            at += self._n
        self._process.send(record.tobytes())

    def close(self) -> str:
        """End the page's process; returns what went wrong with it, "" if nothing did."""
        return self._process.close(GOODBYE)


def _size(n: int) -> int:
    return len(SCALARS) + len(NAMES) + len(VECTORS) * n


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, listening: socket.socket, robot: Robot, pictures: Mapping[str, Pictures], control: int
    ) -> None:
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.robot, self.control = robot, control
        self.cameras = list(pictures)
        self.pictures = list(pictures.values())
        self.token = secrets.token_urlsafe(24)
        self.record: tuple[float, np.ndarray] | None = None
        self.room = threading.BoundedSemaphore(CALLERS)
        self._jpegs: dict[int, tuple[float, bytes]] = {}
        self._drawing = threading.Lock()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self.room:
            super().process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a browser that went away is not the run's business

    def state(self) -> RobotState:
        """The robot as of the last record."""
        robot = self.robot
        if self.record is None:
            return RobotState(robot.name, "starting")
        came, record = self.record
        phase, fault, clipped, rejected = record[: len(SCALARS)]
        counts = record[len(SCALARS) : len(SCALARS) + len(NAMES)]
        vectors = record[len(SCALARS) + len(NAMES) :].reshape(len(VECTORS), robot.n)
        joints = [
            JointState(
                joint.name,
                lower=float(robot.lower[i]),
                upper=float(robot.upper[i]),
                slides=robot.units[i] == "m",
                **{name: float(value) for name, value in zip(VECTORS, vectors[:, i]) if np.isfinite(value)},
            )
            for i, joint in enumerate(robot.joints)
            if np.isfinite(vectors[0, i])
        ]
        return RobotState(
            robot.name,
            _PHASES[int(phase)].value,
            _FAULTS[int(fault)].value if fault >= 0 else "",
            joints,
            {name: int(count) for name, count in zip(NAMES.values(), counts)},
            int(clipped),
            int(rejected),
            time.monotonic() - came,
        )

    def jpeg(self, camera: int) -> bytes | None:
        """The newest picture of a camera, encoded once for all who look."""
        import cv2

        with self._drawing:
            newest = self.pictures[camera].latest()
            if newest is None:
                return None
            taken, image = newest
            if self._jpegs.get(camera, (None,))[0] != taken:
                done, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
                if not done:
                    return None
                self._jpegs[camera] = taken, encoded.tobytes()
            return self._jpegs[camera][1]


class _Handler(LocalHandler):
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        server = self.server
        state = server.state()
        if path == "/":
            nonce = secrets.token_urlsafe(16)
            page = robot_page(
                state,
                cameras=server.cameras,
                stop="/stop",
                token=server.token,
                nonce=nonce,
                lead="The arm that runs now, as its control loop sees it.",
            )
            self.send_page(page, script=nonce)
        elif path == "/live":
            self.send(
                200,
                "text/html; charset=utf-8",
                live(state).encode(),
                {"X-Stopped": str(Phase.ESTOP.value in (state.state, state.fault))},
            )
        elif path == "/state":
            self.send_json(200, _plain(state))
        elif (camera := self._camera(path)) is not None:
            jpeg = server.jpeg(camera)
            if jpeg is None:
                self.send_json(503, {"error": "the camera has delivered nothing yet"})
            else:
                self.send(200, "image/jpeg", jpeg)
        else:
            self.send_json(404, {"error": "there is /, /state, /live, /stop (POST), /camera/0.jpg and so on"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self.path != "/stop":
            self.close_connection = True
            self.send_json(404, {"error": "there is /stop"})
            return
        if self.form_with_token(self.server.token) is None:
            return
        # A second signal would let the arm drop. Whoever wants that does it at the arm.
        state = self.server.state()
        if Phase.ESTOP.value not in (state.state, state.fault):
            pid = self.server.control
            if os.getppid() != pid or not is_control(pid):
                self.send_json(503, {"error": "no arm is being driven by this run: nothing was stopped"})
                return
            os.kill(pid, signal.SIGUSR1)
        self.redirect("/")

    def _camera(self, path: str) -> int | None:
        name = path.removeprefix("/camera/").removesuffix(".jpg")
        if not path.startswith("/camera/") or not (name.isascii() and name.isdecimal()) or len(name) > 3:
            return None
        return int(name) if int(name) < len(self.server.cameras) else None


def _plain(state: RobotState) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(state)


def _serve(
    robot: Robot, pictures: Mapping[str, Pictures], listening: socket.socket, control: int, pipe: Connection
) -> None:
    """The page's process. Ends with the control process."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(5)
    server = _Server(listening, robot, pictures, control)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for record in records(pipe, 8 * _size(robot.n)):
        server.record = time.monotonic(), np.frombuffer(record, np.float64)
    os._exit(0)
