"""The camera process against a real HTTP stream that misbehaves on demand."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from hardware.cameras import process as cameras
from hardware.cameras.process import CameraProcess, CameraReader
from hardware.cameras.tracking import CameraPerception
from sim2real.camera import CameraModel
from sim2real.errors import HardwareError, UserError
from sim2real.tasks.registry import load_task

from .drawing import Picture

pytestmark = pytest.mark.realtime

CAMERA = CameraModel.looking_at((0.55, 0.2, 0.4), (0.22, 0.0, 0.0), width=320, height=240, name="front")
OBJECTS = load_task("push").objects
CUBE, MARK = (0.24, -0.05, 0.0125), (0.2, 0.09)
PATIENCE = 30.0


class Stream:
    """An MJPEG stream over HTTP. `mode`: live, silent (open, no pictures), frozen, black, refuse, close."""

    def __init__(self) -> None:
        self.mode = "live"
        self.picture = Picture(CAMERA, CUBE, 0.3, mark=MARK, noise=3.0).draw()
        stream = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                if stream.mode == "refuse":
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=x")
                self.end_headers()
                try:
                    while stream.mode not in ("close", "refuse"):
                        if stream.mode != "silent":
                            data = stream.encoded()
                            self.wfile.write(
                                b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                            )
                            self.wfile.write(data + b"\r\n")
                        time.sleep(1 / 30)
                except OSError:
                    pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/front.mjpg"
        self._rng = np.random.default_rng(0)
        self._last = b""

    def encoded(self) -> bytes:
        if self.mode == "frozen" and self._last:
            return self._last
        image = np.zeros_like(self.picture) if self.mode == "black" else self.picture
        if self.mode != "black":
            image = cv2.add(image, self._rng.integers(0, 4, image.shape, dtype=np.uint8))
        self._last = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        return self._last

    def close(self) -> None:
        self.mode = "close"
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture()
def stream() -> Iterator[Stream]:
    stream = Stream()
    yield stream
    stream.close()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.02)


def test_pictures_and_percepts_arrive(stream: Stream) -> None:
    process = CameraProcess(replace(CAMERA, source=stream.url, name="front"), OBJECTS)
    source = CameraPerception(process, OBJECTS, goal_zone="mark", goal_height=0.0125)
    try:
        process.wait_ready(120.0)
        until(source.ready, "cube and mark")
        entries = source.entries(time.monotonic())
        assert np.linalg.norm(entries["object.cube.position"] - CUBE) < 0.002
        assert np.linalg.norm(entries["goal"][:2] - MARK) < 0.002
        latest = process.reader.latest()
        assert latest is not None
        taken, image = latest
        assert image.shape == (240, 320, 3) and taken <= time.monotonic()
        # RGB: the cube is red.
        column, row = np.rint(CAMERA.project(CUBE)).astype(int)
        assert image[row, column, 0] > 2 * image[row, column, 2]
        # What is hidden stays where it was and grows old; the camera itself is fine.
        stream.picture = Picture(CAMERA, None).draw()
        until(lambda: source.entries(time.monotonic())["object.cube.age"][0] > 0.3, "an old cube")
        assert source.frame_age(time.monotonic()) < 5.0
        np.testing.assert_allclose(
            source.entries(time.monotonic())["object.cube.position"],
            entries["object.cube.position"],
            atol=0.002,
        )
    finally:
        source.close()
    assert not process.alive


@pytest.mark.slow
def test_every_way_a_stream_fails_is_noticed_and_ends(stream: Stream) -> None:
    process = CameraProcess(replace(CAMERA, source=stream.url))
    reader = process.reader

    def state() -> str:
        return reader.status().state

    try:
        process.wait_ready()
        until(lambda: state() == "streaming", "streaming")
        for mode, states in [
            ("frozen", {"frozen"}),
            ("black", {"black"}),
            ("silent", {"stalled", "lost"}),
            ("close", {"lost"}),
            ("refuse", {"lost"}),
        ]:
            stream.mode = mode
            until(lambda: state() in states, mode)  # noqa: B023
            assert reader.status().problem
            before, good = reader.age(time.monotonic()), reader.latest()
            assert good is not None
            until(lambda: reader.age(time.monotonic()) > before + 0.5, f"{mode}: the picture grows old")  # noqa: B023
            assert process.alive
            stream.mode = "live"
            until(lambda: state() == "streaming", f"streaming again after {mode}")
            until(lambda: reader.age(time.monotonic()) < 0.5, f"fresh pictures after {mode}")
    finally:
        process.close()


def test_a_camera_that_is_not_there(stream: Stream, capfd: pytest.CaptureFixture[str]) -> None:
    stream.mode = "refuse"
    process = CameraProcess(replace(CAMERA, source=stream.url))
    try:
        with pytest.raises(HardwareError, match=r"camera 'front' .* gave no picture: cannot open http"):
            process.wait_ready(3.0)
        assert process.reader.latest() is None and process.reader.age(time.monotonic()) == np.inf
        # It may still come.
        stream.mode = "live"
        process.wait_ready()
    finally:
        process.close()
    assert capfd.readouterr().err == "", "the libraries keep their own words to themselves"


def test_pictures_of_another_size_are_refused(stream: Stream) -> None:
    other = CameraModel.looking_at((0.55, 0.2, 0.4), (0.22, 0.0, 0.0), width=640, height=480, name="front")
    process = CameraProcess(replace(other, source=stream.url))
    try:
        with pytest.raises(HardwareError, match="pictures are 320 x 240, the calibration is for 640 x 480"):
            process.wait_ready(4.0)
    finally:
        process.close()


def test_a_file_plays_in_a_circle_at_its_own_rate(tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (320, 240))
    for i in range(10):
        writer.write(np.full((240, 320, 3), 20 + 20 * i, np.uint8))
    writer.release()
    process = CameraProcess(replace(CAMERA, source=str(path)))
    try:
        process.wait_ready()
        until(lambda: process.reader.status().pictures > 25, "more pictures than the file has")
        assert process.reader.status().rate == pytest.approx(30, rel=0.2)
    finally:
        process.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_camera_process_that_dies_or_hangs_blocks_nobody_and_comes_back(stream, monkeypatch, how) -> None:
    monkeypatch.setattr(cameras, "BEATING", 2.0)
    process = CameraProcess(replace(CAMERA, source=stream.url))
    try:
        process.wait_ready()
        until(lambda: process.reader._numbers[cameras.READY] == 1, "the process to be at work")
        before, pictures = process.pid, process.reader.status().pictures
        os.kill(before, how)
        assert process.reader.latest() is not None
        age = process.reader.age(time.monotonic())
        until(lambda: process.reader.age(time.monotonic()) > age + 0.3, "an older picture")
        until(lambda: process.pid != before and process.alive, "another process")
        until(lambda: process.reader.age(time.monotonic()) < 0.3, "fresh pictures")
        status = process.reader.status()
        assert status.restarts == 1 and status.pictures > pictures and status.state == "streaming"
        assert not Path(f"/proc/{before}").exists()
    finally:
        process.close()
    assert not process.alive


def test_repeated_pictures_do_not_count_as_new(stream: Stream) -> None:
    """What is seen grows old from the first repeated picture on, long before the camera counts as frozen."""
    process = CameraProcess(replace(CAMERA, source=stream.url))
    try:
        process.wait_ready()
        until(lambda: process.reader.status().pictures > 5, "pictures")
        stream.mode = "frozen"
        until(lambda: process.reader.age(time.monotonic()) > 0.5, "an old picture")
        assert process.reader.status().state == "streaming"
        count = process.reader.status().pictures
        until(lambda: process.reader.status().state == "frozen", "frozen")
        assert process.reader.status().pictures == count
        assert process.reader.age(time.monotonic()) > 1.5
    finally:
        process.close()


def _shape_in_child(reader: CameraReader, answer: multiprocessing.connection.Connection) -> None:
    latest = reader.latest()
    answer.send(None if latest is None else (latest[1].shape, latest[1].mean()))


def test_another_process_reads_the_same_pictures(stream: Stream) -> None:
    process = CameraProcess(replace(CAMERA, source=stream.url))
    try:
        process.wait_ready()
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        child = context.Process(target=_shape_in_child, args=(process.reader, there))
        child.start()
        assert here.poll(PATIENCE)
        shape, mean = here.recv()
        child.join()
        assert shape == (240, 320, 3) and mean > 50
    finally:
        process.close()


_PARENT = """
import sys, time
from dataclasses import replace
from hardware.cameras.process import CameraProcess
from sim2real.camera import CameraModel
if __name__ == "__main__":
    camera = CameraModel.looking_at((0.55, 0.2, 0.4), (0.22, 0.0, 0.0), width=320, height=240)
    process = CameraProcess(replace(camera, source=sys.argv[1]))
    process.wait_ready()
    print(process.pid, flush=True)
    time.sleep(600)
"""


def test_no_camera_process_outlives_its_parent(stream: Stream, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    environment = os.environ | {"PYTHONPATH": str(Path(cameras.__file__).parents[2])}
    parent = subprocess.Popen(
        [sys.executable, str(script), stream.url], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
        except FileNotFoundError:
            return True

    until(gone, "the end of the camera process")


def test_refuses_cameras_without_source_or_view() -> None:
    with pytest.raises(UserError, match="has no source; name it with --camera front=SOURCE"):
        CameraProcess(CAMERA)
    up = CameraModel.looking_at((0.5, 0, 0.3), (0.0, 0, 0.6), name="up")
    with pytest.raises(UserError, match="cannot see the table"):
        CameraProcess(replace(up, source="0"), OBJECTS)
