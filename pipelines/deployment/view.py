"""A live view in rerun, a viewer made for robotics data: joints, cameras, the supervisor, interventions.

The viewer's library lives in a process of its own, into which the control loop writes one record per frame.
"""

import importlib.util
import os
import signal
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.runtime.control.supervisor import CODES
from hardware.runtime.control.tick import Tick
from hardware.runtime.fault_codes import FaultCode
from hardware.runtime.recording.recorder import Pictures
from pipelines.deployment.view_process import GOODBYE, ViewProcess, records
from sim2real.errors import UserError
from sim2real.files import require_own_file
from sim2real.robot import Robot

Array = NDArray[np.float64]

VECTORS = ("position", "requested", "executed", "load", "temperature")
"""Joint vectors of a record, in this order: rad, and duty in -1..1, and °C."""

SCALARS = ("time", "state", "fault", "clipped", "rejected", "lost")
PICTURE_EVERY = 0.1
"""Seconds between two pictures of a camera: a viewer needs no more."""

_FAULTS = tuple(FaultCode)
"""Faults are sent as their place in here; -1: none."""


def check_viewer() -> None:
    """Raise UserError unless the viewer is installed. Imports nothing."""
    if importlib.util.find_spec("rerun") is None:
        raise UserError(
            "--view needs the viewer rerun, which is not installed: pip install 'sim2real-transfer[view]' "
            "(--view browser needs nothing)"
        )


class LiveView:
    """The viewer's process. `target` is a file (.rrd) to write, or "" to open the viewer's window.

    Raises UserError when the file cannot be written.
    """

    def __init__(self, robot: Robot, target: str, pictures: Mapping[str, Pictures]) -> None:
        if target:
            require_own_file(target, b"RRF")
            try:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                Path(target).touch()
            except OSError as error:
                raise UserError(f"--view {target} cannot be written: {error.strerror}") from None
        self._n = robot.n
        self._record = np.zeros(len(SCALARS) + len(VECTORS) * robot.n)
        self._process = ViewProcess(_serve, robot.name, robot.joint_names, target, dict(pictures))

    @property
    def lost(self) -> int:
        """Frames that the viewer did not take."""
        return self._process.lost

    def tick(self, tick: Tick) -> None:
        """See `TickSink`: show the arm as it is, at the policy's rate."""
        reading, record, n = tick.reading, self._record, self._n
        if tick.observation is None or reading is None:
            return
        fault = tick.state.fault
        record[: len(SCALARS)] = (
            tick.time,
            CODES[tick.state.phase],
            -1 if fault is None else _FAULTS.index(fault),
            tick.clipped,
            tick.rejected,
            self.lost,
        )
        values = (reading.position, tick.requested, tick.executed, reading.load, reading.temperature)
        for k, vector in enumerate(values):
            at = len(SCALARS) + k * n
            record[at : at + n] = vector
        self._process.send(record.tobytes())

    def close(self) -> str:
        """Let the viewer finish; returns what went wrong with it, "" if nothing did. Its window stays open."""
        return self._process.close(GOODBYE)


def _serve(
    name: str, joints: tuple[str, ...], target: str, pictures: Mapping[str, Pictures], pipe: Connection
) -> None:
    """The viewer's process. Ends with the control process."""
    import rerun as rr

    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(5)
    rr.init("sim2real", recording_id=f"{name}-{os.getpid()}")
    if target:
        rr.save(target)
    else:
        rr.spawn()
    show = _Show(rr, joints, pictures)
    size = 8 * (len(SCALARS) + len(VECTORS) * len(joints))
    for record in records(pipe, size):
        show.frame(np.frombuffer(record, np.float64))
    rr.disconnect()


class _Show:
    """Turns records into what rerun draws: plots by joint, the state as text and steps, pictures."""

    def __init__(self, rr: Any, joints: tuple[str, ...], pictures: Mapping[str, Pictures]) -> None:
        self._rr, self._joints, self._pictures = rr, joints, pictures
        self._states = list(CODES)
        self._start: float | None = None
        self._before: Array | None = None
        self._shown = dict.fromkeys(pictures, -np.inf)
        for joint in joints:
            rr.log(f"joints/{joint}", rr.SeriesLines(names=["is", "requested", "executed"]), static=True)

    def frame(self, record: Array) -> None:
        rr, n = self._rr, len(self._joints)
        scalars = dict(zip(SCALARS, record))
        if self._start is None:
            self._start = scalars["time"]
        rr.set_time("time", duration=float(scalars["time"] - self._start))
        vectors = record[len(SCALARS) :].reshape(len(VECTORS), n)
        for i, joint in enumerate(self._joints):
            rr.log(f"joints/{joint}", rr.Scalars(np.degrees(vectors[:3, i])))
            rr.log(f"load/{joint}", rr.Scalars(vectors[3, i]))
            rr.log(f"temperature/{joint}", rr.Scalars(vectors[4, i]))
        for name in ("clipped", "rejected", "lost"):
            rr.log(f"interventions/{name}", rr.Scalars(scalars[name]))
        rr.log("supervisor/state", rr.Scalars(scalars["state"]))
        if self._before is None or (record[1:3] != self._before).any():
            self._before = record[1:3].copy()
            text = self._states[int(scalars["state"])].value
            fault = int(scalars["fault"])
            level = rr.TextLogLevel.INFO if fault < 0 else rr.TextLogLevel.ERROR
            rr.log(
                "supervisor/log",
                rr.TextLog(text + (f": {_FAULTS[fault]}" if fault >= 0 else ""), level=level),
            )
        self._cameras()

    def _cameras(self) -> None:
        now = time.monotonic()
        for name, source in self._pictures.items():
            if now - self._shown[name] < PICTURE_EVERY:
                continue
            newest = source.latest()
            if newest is not None:
                self._shown[name] = now
                self._rr.log(f"camera/{name}", self._rr.Image(newest[1]).compress(jpeg_quality=80))
