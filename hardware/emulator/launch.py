"""Start an emulated arm as a child process: what `--port emulated` does."""

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from hardware.children import start_module
from hardware.emulator.session import Announcement, EmulatorOptions
from sim2real.errors import HardwareError, UserError
from sim2real.robot import Robot

START_TIMEOUT = 120.0
"""The first start on a machine compiles the physics, s."""


@dataclass
class EmulatorHandle:
    """A running emulator. Use as a context manager, or call `stop`; it also ends when this process dies.

    `port`, `calibration`, `cameras_file` are paths; `sources` the cameras' stream URLs by name;
    `before_episode` and `success_command` shell commands (the latter reads TASK and GOAL from its environment).
    """

    port: str
    calibration: str
    cameras_file: str
    twin: str
    sources: dict[str, str]
    control_url: str
    before_episode: str
    success_command: str
    pid: int
    process: "subprocess.Popen[bytes]"
    directory: Path

    def stop(self) -> None:
        """End the emulator and remove its files; safe to call again."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        if self.directory.exists():
            for path in self.directory.iterdir():
                path.unlink(missing_ok=True)
            self.directory.rmdir()

    def __enter__(self) -> "EmulatorHandle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_emulator(
    robot: Robot | str,
    *,
    task: str | None = None,
    twin: str | Path | Mapping[str, float] | None = None,
    seed: int = 0,
    camera: bool = True,
    engine: str = "bullet",
    cameras: Mapping[str, Any] | None = None,
    pictures: str = "raster",
    episode: int = 1,
) -> EmulatorHandle:
    """Start an emulated `robot` and wait until it can be used.

    A Robot must have been loaded from a file. The rest as in `EmulatorOptions`. Raises UserError for what the
    emulator refuses (unknown robot or task, bad twin), HardwareError when it does not start.
    """
    options = EmulatorOptions(
        robot=(robot.source or robot.name) if isinstance(robot, Robot) else str(robot),
        task=task,
        twin=str(Path(twin).resolve()) if isinstance(twin, str | Path) else twin,
        engine=engine,
        cameras=dict(cameras or {}),
        pictures=pictures,
        episode=episode,
        seed=seed,
        camera=camera,
    )
    directory = Path(tempfile.mkdtemp(prefix="sim2real-arm-"))
    options = EmulatorOptions(**(asdict(options) | {"link": str(directory / "tty")}))
    process = start_module(
        "hardware.emulator",
        *(json.dumps(asdict(options)), "--scratch", str(directory)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        announcement = _await_announcement(process)
    except BaseException:
        process.kill()
        process.wait()
        for path in directory.glob("*"):
            path.unlink(missing_ok=True)
        if directory.exists():
            directory.rmdir()
        raise
    return EmulatorHandle(
        port=announcement.port,
        calibration=announcement.calibration,
        cameras_file=announcement.cameras_file,
        twin=announcement.twin,
        sources=announcement.sources,
        control_url=announcement.control_url,
        before_episode=announcement.before_episode,
        success_command=announcement.success_command,
        pid=announcement.pid,
        process=process,
        directory=directory,
    )


def _await_announcement(process: "subprocess.Popen[bytes]") -> Announcement:
    assert process.stdout is not None
    deadline = time.monotonic() + START_TIMEOUT
    text = b""
    while time.monotonic() < deadline:
        ready, _, _ = select.select([process.stdout], [], [], 0.2)
        if ready:
            data = os.read(process.stdout.fileno(), 65536)
            text += data
            # The physics engine greets on standard output, too.
            for line in text.split(b"\n")[:-1]:
                if line.startswith(b"{"):
                    found = json.loads(line)
                    if "error" in found:
                        raise (UserError if found["exit_code"] == 2 else HardwareError)(found["error"])
                    return Announcement(**found)
            if not data:
                break
    raise HardwareError(
        f"the emulator did not start (exit status {process.poll()}); its messages are above"
        if process.poll() is not None
        else f"the emulator was not ready within {START_TIMEOUT:.0f} s"
    )
