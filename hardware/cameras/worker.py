"""What runs in a camera's process: draining the camera, judging each picture, looking for the objects."""

import hashlib
import os
import signal
import threading
import time
from typing import Any

import numpy as np

from hardware.cameras.joint_trail import JointTrail
from hardware.cameras.shared import (
    BEAT,
    BLACK,
    CONNECTING,
    FROZEN,
    GRABBED,
    HEALTHY,
    LOST,
    OPEN_TIMEOUT,
    PERCEPT,
    PERCEPTS,
    PICTURES,
    RATE,
    READY,
    SEQUENCE,
    SLOTS,
    STALLED,
    STATE,
    STREAMING,
    TEXT,
    CameraReader,
    Image,
    pack,
)  # fmt: skip
from sim2real.camera import CameraModel
from sim2real.errors import HardwareError
from sim2real.objects import ObjectSpec
from sim2real.robot import Robot
from sim2real.tracking import Percept

READ_TIMEOUT = 1.0
"""s without a picture after which the camera is closed and opened again."""
STALL = 0.5
"""s without a picture after which the camera counts as stalled."""
FROZEN_AFTER = 2.0
"""s of identical pictures after which the camera counts as frozen: a real one always has noise. They do not count as
new pictures before either, so that what is seen grows old from the first of them on."""
BLACK_BELOW = 4.0
"""Mean brightness, of 255, below which a picture shows nothing (lens cap, lights out)."""
QUEUED, SKIP = 0.012, 0.5
"""s: reads faster than this come from a queue and are skipped, for so long at most."""
RETRY = (0.2, 2.0)
"""s between attempts to open: the first, doubling up to the last."""


def serve(
    reader: CameraReader,
    objects: tuple[ObjectSpec, ...],
    parent: int,
    robot: Robot | None = None,
    trail: JointTrail | None = None,
) -> None:
    """The camera process. `robot` is the arm in the pictures and `trail` where its joints were."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        os.nice(2)  # pictures wait for the control loop
    except OSError:
        pass
    import cv2

    cv2.setNumThreads(1)
    board = CameraWriter(reader)
    grabber = _Grabber(reader.camera, board)
    watcher = Watcher(reader.camera, objects, board, robot, trail)
    threading.Thread(target=grabber.run, daemon=True).start()
    numbers = reader._numbers
    while os.getppid() == parent:
        watcher.look(grabber.take(0.1), time.monotonic())
        numbers[BEAT] = time.monotonic()
        numbers[READY] = watcher.warm
    os._exit(0)


class CameraWriter:
    """The writing end."""

    def __init__(self, reader: CameraReader) -> None:
        self._reader = reader
        self._lock = threading.Lock()

    def write(self, **values: float) -> None:
        numbers = self._reader._numbers
        with self._lock:
            numbers[SEQUENCE] += 1
            for name, value in values.items():
                numbers[_INDEX[name]] = value
            numbers[SEQUENCE] += 1

    def percept(self, percept: Percept) -> None:
        numbers = self._reader._numbers
        with self._lock:
            numbers[SEQUENCE] += 1
            numbers[PERCEPT:] = pack(percept, self._reader.objects)
            numbers[PERCEPTS] += 1
            numbers[SEQUENCE] += 1

    def picture(self, image: Image, taken: float) -> None:
        """Publish an RGB picture as the newest one."""
        count = int(self._reader._numbers[PICTURES]) + 1
        self._reader._images[count % SLOTS] = image
        self._reader._times[count % SLOTS] = taken
        self.write(pictures=count, healthy=taken)

    def say(self, problem: str) -> None:
        data = problem.encode("utf-8", "replace")[: TEXT - 1]
        self._reader._text[: len(data)] = np.frombuffer(data, np.uint8)
        self._reader._text[len(data) :] = 0


_INDEX = {"state": STATE, "healthy": HEALTHY, "pictures": PICTURES, "rate": RATE}


class _Grabber:
    """Drains the camera in a thread and keeps its newest picture; opens it again when it fails."""

    def __init__(self, camera: CameraModel, board: CameraWriter) -> None:
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
            self._beat()
            capture, problem = _open(self.camera)
            self._beat()
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

    def _beat(self) -> float:
        """The driver has returned; the time."""
        now = time.monotonic()
        self.board._reader._numbers[GRABBED] = now
        return now

    def _healthy(self) -> float:
        return float(self.board._reader._numbers[HEALTHY])

    def _drain(self, capture: Any) -> bool:
        """Read until the camera fails; whether it gave any picture."""
        period = 1.0 / capture.rate if capture.paced else 1.0 / 30
        due = before = passed_on = time.monotonic()
        given = False
        while True:
            done, image = capture.read()
            now = self._beat()
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


def picture_size(source: str, width: int, height: int) -> tuple[int, int]:
    """Width and height of what a source delivers when it is asked for `width` × `height` (only devices can be asked).

    Raises HardwareError when it gives no picture.
    """
    asked = CameraModel(width, height, width, width, width / 2, height / 2, np.eye(4), source=source)
    capture, problem = _open(asked)
    if capture is None:
        raise HardwareError(
            f"{problem}; `sim2real calibrate-camera --list` shows the cameras at this machine"
        )
    try:
        done, image = capture.read()
    finally:
        capture.release()
    if not done:
        raise HardwareError(f"{source} gives no picture; check it with a player such as ffplay")
    return int(image.shape[1]), int(image.shape[0])


def _open(camera: CameraModel) -> tuple[_Capture | None, str]:
    """Open the camera's source with deadlines; (None, why not) when that fails."""
    import cv2

    # What cannot be opened is said by us, once; the libraries would say it at every attempt, in their own words.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
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


class Watcher:
    """Judges each picture, publishes it, and looks for the objects in it."""

    def __init__(
        self,
        camera: CameraModel,
        objects: tuple[ObjectSpec, ...],
        board: CameraWriter,
        robot: Robot | None = None,
        trail: JointTrail | None = None,
    ) -> None:
        from hardware.cameras.detector import Detector

        self.camera, self.board = camera, board
        self._trail = trail
        self._detector = Detector(camera, objects, robot) if objects else None
        self._warm = threading.Event()
        if self._detector is None:
            self._warm.set()
        else:
            # Loading what was compiled takes a moment, compiling it the first time much longer.
            threading.Thread(target=self._warm_up, daemon=True).start()
        self._digest = b""
        self._changed = self._seen = -np.inf

    def look(self, found: tuple[float, Image] | None, now: float) -> None:
        """Take one picture (time, BGR) at `now`, s on the pictures' clock; None when none came."""
        if found is None:
            if now - self._seen > STALL and self.board._reader._numbers[STATE] in (STREAMING, FROZEN, BLACK):
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
        same = digest == self._digest
        if not same:
            self._digest, self._changed = digest, now
        if now - self._changed > FROZEN_AFTER:
            self._bad(FROZEN, f"the same picture for {now - self._changed:.1f} s")
            return
        if same:
            return
        if float(image[::8, ::8].mean()) < BLACK_BELOW:
            self._bad(BLACK, "pictures are black")
            return
        if self.board._reader._numbers[STATE] != STREAMING:
            self.board.say("")
            self.board.write(state=STREAMING)
        self.board.picture(image[..., ::-1], taken)
        if self._detector is not None and self._warm.is_set():
            joints = None if self._trail is None else self._trail.at_picture(taken)
            self.board.percept(self._detector.detect(image, taken, joints))

    @property
    def warm(self) -> bool:
        """Whether nothing is left to be loaded or compiled."""
        return self._warm.is_set()

    def _warm_up(self) -> None:
        assert self._detector is not None
        self._detector.warm_up()
        self._warm.set()

    def _bad(self, state: int, problem: str) -> None:
        if self.board._reader._numbers[STATE] != state:
            self.board.say(problem)
            self.board.write(state=state)
