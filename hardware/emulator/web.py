"""The emulator's second process: camera pictures and control over HTTP, on this machine only.

    GET  /NAME.mjpg   the camera as a stream that cv2.VideoCapture opens     GET /NAME.jpg   one picture
    POST /episode     place the objects anew                                  GET /state      the true state, JSON
    POST /fault       something goes wrong: mute:id=3,for=0.2
    GET  /success?task=T&goal=x,y,z     200 when the task has been fulfilled for 0.5 s, else 409
    POST /show        a printed sheet before the cameras (`sheets.py`)
    POST /hand        move the arm by hand along the path in the body (`hand.py`)

Drawing and serving happen here, away from the bus: what the bus process must answer (everything but pictures)
goes through a pipe, the poses to draw come through shared memory.
"""

import json
import os
import signal
import threading
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hardware.emulator.view import Pictures, Viewer
from sim2real.camera import CameraModel
from sim2real.errors import UserError
from sim2real.local_http import LocalHandler
from sim2real.objects import ObjectSpec
from sim2real.robot import Robot

if TYPE_CHECKING:
    from hardware.emulator.faults.injector import FaultInjector
    from hardware.emulator.sheets import Sheets

FPS = 30.0
QUALITY = 90
BOUNDARY = "frame"
TROUBLES = ("", "camera_stale", "camera_frozen", "camera_black", "camera_stall")
_LINGER = 2.0  # s that a camera goes on drawing after the last picture was asked for


@dataclass(frozen=True)
class WebOptions:
    """What the second process needs. `cameras` names those that are to be drawn; none: control only. `given`: where
    they stand, as in `Cameras`."""

    robot: Robot
    cameras: tuple[str, ...] = ()
    given: Mapping[str, CameraModel] | None = None
    pictures: Pictures = "raster"
    values: Mapping[str, float] = field(default_factory=dict)
    objects: tuple[ObjectSpec, ...] = ()
    port: int = 0
    seed: int = 0


class PoseBoard:
    """Poses from the bus process to the camera through shared memory; one writer, any number of readers.

    Slot 0 counts up before and after each write: a reader that saw an odd or changed count tries again.
    """

    def __init__(self, shared: Any, size: int) -> None:
        self._array: NDArray[np.float64] = np.frombuffer(shared, dtype=np.float64, count=size + 2)

    def write(self, pose: NDArray[np.float64], time: float) -> None:
        self._array[0] += 1
        self._array[1] = time
        self._array[2:] = pose
        self._array[0] += 1

    def read(self) -> tuple[NDArray[np.float64], float]:
        """The newest pose and when it was (monotonic, s)."""
        while True:
            count = self._array[0]
            copy = self._array.copy()
            if count % 2 == 0 and self._array[0] == count:
                return copy[2:], float(copy[1])
            time.sleep(0.0001)


class CameraTrouble:
    """What is wrong with the cameras, from the bus process to the one that draws; one writer, one reader."""

    def __init__(self, shared: Any) -> None:
        self._array: NDArray[np.float64] = np.frombuffer(shared, dtype=np.float64, count=2)

    def set(self, injector: "FaultInjector") -> None:
        """Take over whichever camera fault is active."""
        for code, name in enumerate(TROUBLES):
            fault = injector.active(name) if name else None
            if fault is not None:
                self._array[1] = fault.values.get("every", 0.0)
                self._array[0] = code
                return
        self._array[0] = 0.0

    def get(self) -> tuple[str, float]:
        """The fault's name ("" for none), and the time between pictures where it limits that, s."""
        return TROUBLES[int(self._array[0])], float(self._array[1])


class _Stream:
    """The newest picture of one camera, drawn only while a client watches."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.count = 0
        self.jpeg = b""
        self.stamp = 0.0
        self.viewers = 0
        self.asked = -np.inf

    def watch(self, viewers: int) -> None:
        """Count a client that watches all pictures, or (−1) no longer does."""
        with self.changed:
            self.viewers += viewers

    def wanted(self) -> bool:
        return self.viewers > 0 or time.monotonic() - self.asked < _LINGER

    def publish(self, jpeg: bytes, stamp: float, trouble: str = "", every: float = 0.0) -> None:
        """Make a picture the newest one, unless the camera is in `trouble`."""
        if trouble == "camera_stall" or (trouble == "camera_stale" and stamp - self.stamp < every):
            return
        if trouble == "camera_frozen":
            jpeg = self.jpeg or jpeg
        elif trouble == "camera_black":
            jpeg = _black(jpeg)
        with self.changed:
            self.jpeg, self.stamp = jpeg, stamp
            self.count += 1
            self.changed.notify_all()

    def after(self, count: int, timeout: float) -> tuple[int, bytes, float] | None:
        """The first picture newer than number `count`; None when none comes in time."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.count > count, timeout):
                return None
            return self.count, self.jpeg, self.stamp


class _Control:
    """Questions to the bus process, one at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._connection.send(question)
            if not self._connection.poll(5.0):
                raise TimeoutError("the bus process does not answer")
            answer: dict[str, Any] = self._connection.recv()
            return answer


class _Handler(LocalHandler):
    timeout = None  # whoever watches a stream says nothing
    server: "_Server"

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        name, _, suffix = url.path.lstrip("/").rpartition(".")
        stream = self.server.streams.get(name)
        try:
            if stream is not None and suffix == "mjpg":
                self._stream(stream)
            elif stream is not None and suffix == "jpg":
                self._picture(stream)
            elif url.path == "/state":
                self._answer({"op": "state"})
            elif url.path == "/success":
                query = dict(urllib.parse.parse_qsl(url.query))
                self._answer({**query, "op": "success"})
            else:
                self.send_json(
                    404, {"error": f"there is no {url.path}", "streams": sorted(self.server.streams)}
                )
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def do_POST(self) -> None:
        body = self.body()
        if body is None:
            return
        if self.path == "/episode":
            self._answer({"op": "episode"})
        elif self.path == "/fault":
            self._answer({"op": "fault", "body": body.decode("utf-8", "replace")})
        elif self.path in ("/hand", "/show"):
            try:
                content = json.loads(body)
            except ValueError as error:
                self.send_json(400, {"error": f"the body of a request to {self.path} must be JSON ({error})"})
                return
            if self.path == "/hand":
                self._answer({"op": "hand", "body": content})
            else:
                self._show(content)
        else:
            self.send_json(404, {"error": f"there is no {self.path}"})

    def _show(self, content: Any) -> None:
        if self.server.sheets is None:
            self.send_json(400, {"error": "this emulator has no camera to show anything to"})
            return
        try:
            self.send_json(200, self.server.sheets.show(content, time.monotonic()))
        except UserError as error:
            self.send_json(400, {"error": str(error)})

    def _answer(self, question: dict[str, Any]) -> None:
        try:
            answer = self.server.control.ask(question)
        except (OSError, EOFError) as error:
            self.send_json(503, {"error": str(error)})
            return
        status = 400 if "error" in answer else 409 if answer.get("success") is False else 200
        self.send_json(status, answer)

    def _picture(self, stream: _Stream) -> None:
        count = stream.count
        stream.asked = time.monotonic()
        found = stream.after(count, 5.0)
        if found is None:
            self.send_json(503, {"error": "the camera is stuck"})
            return
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(found[1])))
        self.send_header("X-Timestamp", f"{found[2]:.6f}")
        self.end_headers()
        self.wfile.write(found[1])

    def _stream(self, stream: _Stream) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        stream.watch(1)
        try:
            count = stream.count
            while not self.server.ending.is_set():
                found = stream.after(count, 1.0)
                if found is None:
                    continue
                count, jpeg, stamp = found
                self.wfile.write(
                    f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
                    f"X-Timestamp: {stamp:.6f}\r\n\r\n".encode()
                    + jpeg
                    + b"\r\n"
                )
        finally:
            stream.watch(-1)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, streams: dict[str, _Stream], control: _Control) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.streams = streams
        self.control = control
        self.sheets: Sheets | None = None
        self.ending = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went away is not the emulator's business


def serve(options: WebOptions, connection: Connection, shared: Any, pose_size: int, troubles: Any) -> None:
    """Run until the parent process ends. Sends the HTTP port (or an error's text) through `connection` first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the bus process decides when to end
    threading.Thread(target=_end_with_parent, daemon=True).start()
    streams = {name: _Stream() for name in options.cameras}
    try:
        server = _Server(options.port, streams, _Control(connection))
    except OSError as error:
        connection.send(f"cannot listen on port {options.port}: {error.strerror}")
        return
    board, trouble = PoseBoard(shared, pose_size), CameraTrouble(troubles)
    draw = {}
    if streams:
        from hardware.emulator.sheets import Sheets

        server.sheets = Sheets(options.robot)
        draw = _drawing(options, server.sheets)
    for jpeg in draw.values():
        jpeg(board.read()[0])  # compiled now, not when a client waits for it
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connection.send(server.server_address[1])
    deadline = time.monotonic()
    exposed: dict[str, tuple[bytes, float]] = {}
    while True:
        deadline = max(deadline + 1 / FPS, time.monotonic())
        for name, stream in streams.items():
            # A camera delivers a picture about one frame after it was taken.
            ready = exposed.pop(name, None)
            if stream.wanted():
                pose, stamp = board.read()
                exposed[name] = draw[name](pose), stamp
            if ready is not None:
                stream.publish(*ready, *trouble.get())
        time.sleep(max(deadline - time.monotonic(), 0.0))


def _black(jpeg: bytes) -> bytes:
    """A black JPEG picture of the size of `jpeg`."""
    import cv2

    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return bytes(cv2.imencode(".jpg", np.zeros_like(picture))[1].tobytes())


def _drawing(options: WebOptions, sheets: "Sheets") -> dict[str, Any]:
    """A function from pose to JPEG per camera."""
    import cv2

    cv2.setNumThreads(1)
    try:
        os.nice(5)  # pictures wait for the bus, never the other way round
    except OSError:
        pass
    robot = options.robot

    def make(name: str) -> Any:
        viewer = Viewer(robot, name, options.values, options.objects, options.pictures, options.given)
        viewer.reset(options.seed)

        def jpeg(pose: NDArray[np.float64]) -> bytes:
            held = sheets.placed(pose[: robot.n], viewer.stands, time.monotonic())
            image = cv2.cvtColor(viewer.draw(pose, held), cv2.COLOR_RGB2BGR)
            done, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            if not done:
                raise RuntimeError("the picture could not be encoded")
            return encoded.tobytes()

        return jpeg

    return {name: make(name) for name in options.cameras}


def _end_with_parent() -> None:
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(0)
