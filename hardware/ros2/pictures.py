"""Cameras for ROS 2, from a process of their own: JPEG and DDS take milliseconds that the loop does not have."""

import os
import re
import signal
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray
from typing import Any

from hardware.cameras.shared import CameraReader
from hardware.ros2 import topics
from hardware.ros2.dds import configure, cyclonedds, writer
from sim2real.spawning import context, end_process

RATE = 15.0
"""Pictures a second and camera at most."""
QUALITY = 90
"""Of JPEG."""
PAUSE = 0.005
"""s between two looks."""


def topic_of(camera: str) -> str:
    """Where a camera's pictures go; ROS allows letters, digits and underscores."""
    return topics.CAMERA.format(name=re.sub(r"\W", "_", camera, flags=re.ASCII))


class PictureProcess:
    """Publishes what cameras see, by name, until `close`. The arm does not depend on it."""

    def __init__(self, readers: Mapping[str, CameraReader], domain: int, interface: str) -> None:
        self._names = tuple(readers)
        self._counts = RawArray("Q", len(readers))
        # The other end is closed with this process, however it ends.
        self._ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_work,
            args=(dict(readers), domain, interface, self._counts, theirs),
            daemon=True,
            name="pictures for ROS 2",
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    @property
    def published(self) -> dict[str, int]:
        """Pictures published so far, by camera."""
        return dict(zip(self._names, (int(count) for count in self._counts)))

    def close(self) -> None:
        """End the process."""
        self._ours.close()
        end_process(self._process, 3.0)


def _work(
    readers: dict[str, CameraReader], domain: int, interface: str, counts: Any, ended: Connection
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    import cv2

    configure(interface)
    library = cyclonedds()
    from hardware.ros2 import messages

    m: Any = messages
    cv2.setNumThreads(1)
    participant = library.domain.DomainParticipant(domain)
    writers = {
        name: writer(library, participant, topic_of(name), m.CompressedImage, keep=1) for name in readers
    }
    wall = time.time() - time.monotonic()
    last, seen = dict.fromkeys(readers, 0.0), dict.fromkeys(readers, 0)
    while not ended.poll(PAUSE):
        for index, (name, reader) in enumerate(readers.items()):
            if (count := reader.status().pictures) == seen[name]:
                continue
            seen[name], newest = count, reader.latest()
            # A little less than a period, so that a camera of this very rate loses none.
            if newest is None or newest[0] < last[name] + 0.9 / RATE:
                continue
            last[name], image = newest
            fine, data = cv2.imencode(".jpg", image[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
            if fine:
                header = m.Header(m.time_of(newest[0] + wall), name)
                _write(library, writers[name], m.CompressedImage(header, "jpeg", data.ravel().tolist()))
                counts[index] += 1


def _write(library: Any, writer: Any, message: Any) -> None:
    """A reader that is too slow for pictures misses some."""
    try:
        writer.write(message)
    except library.core.DDSException as error:
        if error.code != library.core.DDSException.DDS_RETCODE_TIMEOUT:
            raise
