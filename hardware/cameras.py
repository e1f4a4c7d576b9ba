"""A camera in a process of its own: its newest picture and what it shows, never older than it must be.

A thread in that process does nothing but drain the camera, so that no queue of old pictures forms; another looks
for the objects. Results and pictures reach other processes through shared memory: asking for them never waits,
whatever the camera does. A camera that stalls, goes black, repeats one picture or disappears is opened again,
for ever; meanwhile its last picture simply gets older, which is what users of it have to watch.
"""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.perception import Percept
from sim2real.camera import CameraModel
from sim2real.errors import HardwareError

Image = NDArray[np.uint8]

STATES = ("connecting", "streaming", "stalled", "frozen", "black", "lost")
CONNECTING, STREAMING, STALLED, FROZEN, BLACK, LOST = range(len(STATES))

OPEN_TIMEOUT = 5.0
"""s that opening a stream may take."""
READ_TIMEOUT = 1.0
"""s without a picture after which the camera is closed and opened again."""
STALL = 0.5
"""s without a picture after which the camera counts as stalled."""
FROZEN_AFTER = 2.0
"""s of identical pictures after which the camera counts as frozen: a real one always has noise."""
BLACK_BELOW = 4.0
"""Mean brightness, of 255, below which a picture shows nothing (lens cap, lights out)."""
QUEUED, SKIP = 0.012, 0.5
"""s: reads faster than this come from a queue and are skipped, for so long at most."""
RETRY = (0.2, 2.0)
"""s between attempts to open: the first, doubling up to the last."""

_SLOTS = 3
_TEXT = 256
# Positions in the block of numbers.
_SEQUENCE, _STATE, _HEALTHY, _PICTURES, _PERCEPTS, _RATE, _PERCEPT = 0, 1, 2, 3, 4, 5, 6
_NUMBERS = _PERCEPT + 11


@dataclass(frozen=True)
class CameraStatus:
    """How a camera is. `state` is one of STATES; `rate` in pictures/s; `time` of the newest good picture, s."""

    state: str
    time: float
    pictures: int
    rate: float
    problem: str


class CameraReader:
    """The receiving end, for any process: hand it over when the process is started. Nothing here ever waits.

    Times are seconds of CLOCK_MONOTONIC (`time.monotonic`), which all processes share.
    """

    def __init__(self, camera: CameraModel, numbers: Any, text: Any, slots: Any) -> None:
        self.camera = camera
        self._shared = (numbers, text, slots)
        self._attach()

    def _attach(self) -> None:
        numbers, text, slots = self._shared
        self._numbers: NDArray[np.float64] = np.frombuffer(numbers, dtype=np.float64)
        self._text: NDArray[np.uint8] = np.frombuffer(text, dtype=np.uint8)
        shape = (_SLOTS, self.camera.height, self.camera.width, 3)
        size = 8 * _SLOTS
        self._times: NDArray[np.float64] = np.frombuffer(slots, dtype=np.float64, count=_SLOTS)
        self._images: Image = np.frombuffer(slots, dtype=np.uint8, offset=size).reshape(shape)

    def __getstate__(self) -> dict[str, Any]:
        return {"camera": self.camera, "_shared": self._shared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._attach()

    def latest(self) -> tuple[float, Image] | None:
        """(time of capture, (H, W, 3) uint8 RGB copy) of the newest good picture; None before the first."""
        for _ in range(5):
            count = int(self._numbers[_PICTURES])
            if count == 0:
                return None
            slot = count % _SLOTS
            taken, image = float(self._times[slot]), self._images[slot].copy()
            # The slot is written again only two pictures later.
            if int(self._numbers[_PICTURES]) - count < _SLOTS - 1:
                return taken, image
        return None

    def percept(self) -> tuple[int, Percept] | None:
        """The newest percept with its number, counting from 1; None before the first."""
        values = self._snapshot()
        count = int(values[_PERCEPTS])
        if count == 0:
            return None
        return count, _unpack(values[_PERCEPT:])

    def status(self) -> CameraStatus:
        """How the camera is."""
        values = self._snapshot()
        problem = bytes(self._text).split(b"\0")[0].decode("utf-8", "replace")
        return CameraStatus(
            STATES[int(values[_STATE])],
            float(values[_HEALTHY]),
            int(values[_PICTURES]),
            float(values[_RATE]),
            problem,
        )

    def age(self, now: float) -> float:
        """Seconds since the newest good picture was taken; infinite before the first."""
        healthy = float(self._numbers[_HEALTHY])
        return now - healthy if np.isfinite(healthy) else float("inf")

    def _snapshot(self) -> NDArray[np.float64]:
        """All numbers as they belong together."""
        copy = self._numbers.copy()
        for _ in range(100):
            if copy[_SEQUENCE] % 2 == 0 and self._numbers[_SEQUENCE] == copy[_SEQUENCE]:
                break
            copy = self._numbers.copy()
        return copy


class CameraProcess:
    """Starts the process of one camera and ends it. `reader` is what it sees.

    `objects` are those to look for, out of "cube" and "mark"; none: pictures only. Raises UserError when the
    camera has no source, or by its file cannot see the table. That it cannot be opened is no error here: it
    may come back.
    """

    def __init__(self, camera: CameraModel, objects: Iterable[str] = ()) -> None:
        from hardware.perception import Detector
        from sim2real.errors import UserError

        if camera.source is None:
            raise UserError(
                f"camera '{camera.name}' has no source; name it with --camera {camera.name}=SOURCE "
                "(a number, a device, a file or a stream), or as source in the cameras file"
            )
        self.camera, self.objects = camera, frozenset(objects)
        if self.objects:
            Detector(camera, self.objects)  # refuses a camera that cannot see the table, here and now
        context = get_context("spawn")
        numbers = context.RawArray("d", _NUMBERS)
        text = context.RawArray("B", _TEXT)
        slots = context.RawArray("B", _SLOTS * (8 + camera.width * camera.height * 3))
        self.reader = CameraReader(camera, numbers, text, slots)
        self.reader._numbers[_HEALTHY] = -np.inf
        self._process = context.Process(
            target=_serve,
            args=(self.reader, self.objects, os.getpid()),
            daemon=True,
            name=f"camera {camera.name}",
        )
        self._process.start()

    @property
    def alive(self) -> bool:
        """Whether the process is there; whether the camera is, `reader.status()` says."""
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    def wait_ready(self, timeout: float = 180.0) -> None:
        """Wait for the first picture, and for the first look at one when there is something to look for.

        That may take long the first time ever, when the detector is compiled. Raises HardwareError that says
        why nothing came.
        """
        deadline = time.monotonic() + timeout
        patience = time.monotonic() + min(timeout, OPEN_TIMEOUT + 10.0)
        while not self._ready():
            status = self.reader.status()
            if not self.alive:
                raise HardwareError(f"the process of camera '{self.camera.name}' has died; {status.problem}")
            now = time.monotonic()
            if now > deadline or (now > patience and status.pictures == 0):
                raise HardwareError(
                    f"camera '{self.camera.name}' ({self.camera.source}) gave no picture: "
                    f"{status.problem or status.state}; check the source with a player such as ffplay"
                )
            time.sleep(0.02)

    def _ready(self) -> bool:
        return self.reader.status().pictures > 0 and (not self.objects or self.reader.percept() is not None)

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(1.0)
        if self._process.is_alive():
            # A driver that hangs in the kernel does not react to anything milder.
            self._process.kill()
            self._process.join(1.0)


def _serve(reader: CameraReader, objects: frozenset[str], parent: int) -> None:
    """The camera process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        os.nice(2)  # pictures wait for the control loop
    except OSError:
        pass
    import cv2

    cv2.setNumThreads(1)
    board = _Board(reader)
    grabber = _Grabber(reader.camera, board)
    watcher = _Watcher(reader.camera, objects, board)
    threading.Thread(target=grabber.run, daemon=True).start()
    while os.getppid() == parent:
        watcher.look(grabber.take(0.1))
    os._exit(0)


class _Board:
    """The writing end."""

    def __init__(self, reader: CameraReader) -> None:
        self._reader = reader
        self._lock = threading.Lock()

    def write(self, **values: float) -> None:
        numbers = self._reader._numbers
        with self._lock:
            numbers[_SEQUENCE] += 1
            for name, value in values.items():
                numbers[_INDEX[name]] = value
            numbers[_SEQUENCE] += 1

    def percept(self, percept: Percept) -> None:
        numbers = self._reader._numbers
        with self._lock:
            numbers[_SEQUENCE] += 1
            numbers[_PERCEPT:] = _pack(percept)
            numbers[_PERCEPTS] += 1
            numbers[_SEQUENCE] += 1

    def picture(self, image: Image, taken: float) -> None:
        """Publish an RGB picture as the newest one."""
        count = int(self._reader._numbers[_PICTURES]) + 1
        self._reader._images[count % _SLOTS] = image
        self._reader._times[count % _SLOTS] = taken
        self.write(pictures=count, healthy=taken)

    def say(self, problem: str) -> None:
        data = problem.encode("utf-8", "replace")[: _TEXT - 1]
        self._reader._text[: len(data)] = np.frombuffer(data, np.uint8)
        self._reader._text[len(data) :] = 0


_INDEX = {"state": _STATE, "healthy": _HEALTHY, "pictures": _PICTURES, "rate": _RATE}


class _Grabber:
    """Drains the camera in a thread and keeps its newest picture; opens it again when it fails."""

    def __init__(self, camera: CameraModel, board: _Board) -> None:
        self.camera, self.board = camera, board
        self._new = threading.Condition()
        self._newest: tuple[float, Image] | None = None

    def take(self, timeout: float) -> tuple[float, Image] | None:
        """The newest picture (BGR) that was not taken yet, or None after `timeout` s."""
        with self._new:
            self._new.wait_for(lambda: self._newest is not None, timeout)
            newest, self._newest = self._newest, None
            return newest

    def run(self) -> None:
        pause = RETRY[0]
        while True:
            capture, problem = _open(self.camera)
            if capture is None:
                self.board.say(problem)
                self.board.write(state=CONNECTING if not np.isfinite(self._healthy()) else LOST)
            else:
                if self._drain(capture):
                    pause = RETRY[0]
                capture.release()
                self.board.write(state=LOST)
            time.sleep(pause)
            pause = min(2 * pause, RETRY[1])

    def _healthy(self) -> float:
        return float(self.board._reader._numbers[_HEALTHY])

    def _drain(self, capture: Any) -> bool:
        """Read until the camera fails; whether it gave any picture."""
        period = 1.0 / capture.rate if capture.paced else 1.0 / 30
        due = before = passed_on = time.monotonic()
        given = False
        while True:
            done, image = capture.read()
            now = time.monotonic()
            if not done:
                self.board.say(f"{self.camera.source} stopped giving pictures")
                return given
            waited, before = now - before, now
            if capture.paced:
                due = max(due + period, now - period)
                time.sleep(max(due - now, 0.0))
                now = before = time.monotonic()
            elif waited < min(QUEUED, 0.4 * period) and now - passed_on < SKIP:
                # A read that hardly had to wait returned a picture from a queue, an old one: skip to its end.
                continue
            else:
                period += 0.2 * (waited - period)
            given, passed_on = True, now
            self.board.write(rate=1.0 / max(period, 1e-3))
            with self._new:
                self._newest = (now, image)
                self._new.notify()


class _Capture:
    """A `cv2.VideoCapture`. Files are `paced`: they give a picture whenever asked, and begin again at their end."""

    def __init__(self, capture: Any, paced: bool) -> None:
        self._capture, self.paced = capture, paced
        rate = float(capture.get(5))  # CAP_PROP_FPS
        self.rate = rate if 1.0 <= rate <= 240.0 else 30.0

    def read(self) -> tuple[bool, Image]:
        done, image = self._capture.read()
        if not done and self.paced:
            self._capture.set(1, 0)  # CAP_PROP_POS_FRAMES
            done, image = self._capture.read()
        return bool(done), image

    def release(self) -> None:
        self._capture.release()


def _open(camera: CameraModel) -> tuple[_Capture | None, str]:
    """Open the camera's source with deadlines; (None, why not) when that fails."""
    import cv2

    source = str(camera.source)
    try:
        if source.isdecimal() or source.startswith("/dev/"):
            capture = cv2.VideoCapture(int(source) if source.isdecimal() else source, cv2.CAP_ANY)
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, camera.width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, camera.height)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        else:
            # Without these, looking at the stream's format holds back the first seconds of it.
            os.environ.setdefault(
                "OPENCV_FFMPEG_CAPTURE_OPTIONS", "fflags;nobuffer|flags;low_delay|probesize;32768"
            )
            limits = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                int(OPEN_TIMEOUT * 1000),
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                int(READ_TIMEOUT * 1000),
            ]
            capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
    except cv2.error as error:
        return None, f"cannot open {source}: {error}"
    if not capture.isOpened():
        capture.release()
        return None, f"cannot open {source}"
    return _Capture(capture, os.path.isfile(source)), ""


class _Watcher:
    """Judges each picture, publishes it, and looks for the objects in it."""

    def __init__(self, camera: CameraModel, objects: frozenset[str], board: _Board) -> None:
        from hardware.perception import Detector

        self.camera, self.board = camera, board
        self._detector = Detector(camera, objects) if objects else None
        self._warm = threading.Event()
        if self._detector is not None:
            # Loading what was compiled takes a moment, compiling it the first time much longer.
            threading.Thread(target=self._warm_up, daemon=True).start()
        self._digest = b""
        self._changed = self._seen = time.monotonic()

    def look(self, found: tuple[float, Image] | None) -> None:
        """Take one picture (time, BGR); None when none came."""
        now = time.monotonic()
        if found is None:
            if now - self._seen > STALL and self.board._reader._numbers[_STATE] in (STREAMING, FROZEN, BLACK):
                self.board.say(f"no picture for {now - self._seen:.1f} s")
                self.board.write(state=STALLED)
            return
        taken, image = found
        self._seen = now
        if image.shape != (self.camera.height, self.camera.width, 3):
            self.board.say(
                f"pictures are {image.shape[1]} x {image.shape[0]}, the calibration is for "
                f"{self.camera.width} x {self.camera.height}"
            )
            self.board.write(state=LOST)
            return
        digest = hashlib.blake2b(image[::4].tobytes(), digest_size=16).digest()
        if digest != self._digest:
            self._digest, self._changed = digest, now
        if now - self._changed > FROZEN_AFTER:
            self._bad(FROZEN, f"the same picture for {now - self._changed:.1f} s")
            return
        if float(image[::8, ::8].mean()) < BLACK_BELOW:
            self._bad(BLACK, "pictures are black")
            return
        if self.board._reader._numbers[_STATE] != STREAMING:
            self.board.say("")
            self.board.write(state=STREAMING)
        self.board.picture(image[..., ::-1], taken)
        if self._detector is not None and self._warm.is_set():
            self.board.percept(self._detector.detect(image, taken))

    def _warm_up(self) -> None:
        assert self._detector is not None
        self._detector.warm_up()
        self._warm.set()

    def _bad(self, state: int, problem: str) -> None:
        if self.board._reader._numbers[_STATE] != state:
            self.board.say(problem)
            self.board.write(state=state)


def _pack(percept: Percept) -> list[float]:
    cube = [np.nan] * 3 if percept.cube is None else percept.cube.tolist()
    mark = [np.nan] * 2 if percept.mark is None else percept.mark.tolist()
    return [
        percept.time,
        *cube,
        percept.yaw,
        percept.visible,
        *mark,
        percept.mark_visible,
        percept.confidence,
        0.0,
    ]


def _unpack(values: NDArray[np.float64]) -> Percept:
    return Percept(
        time=float(values[0]),
        cube=None if np.isnan(values[1]) else values[1:4].copy(),
        yaw=float(values[4]),
        visible=float(values[5]),
        mark=None if np.isnan(values[6]) else values[6:8].copy(),
        mark_visible=float(values[8]),
        confidence=float(values[9]),
    )
