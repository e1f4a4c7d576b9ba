"""When a human has to look: failures in a row are counted per arm, on disk, and too many disable it.

A run that ends in a fault is a failure (an emergency stop or an absent operator is not: a person decided that), a
run without one sets the count back. After more than `LIMIT` failures in a row nothing runs on that arm any more
until a person has acknowledged it. The count outlives the process and the machine's restart.
"""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from hardware.runtime.fault_codes import DECIDED
from sim2real.errors import Sim2RealError
from sim2real.files import write_text

LIMIT: Final = 3
"""Failures in a row after which autonomous operation goes on; with the next one it ends."""

COMMAND_TIMEOUT: Final = 60.0
"""s that the user's command may take once everything else is done."""


def state_folder() -> Path:
    """Where counts are kept: $SIM2REAL_STATE, else the user's state directory."""
    given = os.environ.get("SIM2REAL_STATE")
    if given:
        return Path(given)
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "sim2real"


@dataclass(frozen=True)
class Record:
    """What is known of an arm: failures in a row, the last of them in words, and when it was, s since 1970."""

    arm: str
    failures: int = 0
    last: str = ""
    when: float = 0.0

    @property
    def disabled(self) -> bool:
        return self.failures > LIMIT


class Failures:
    """The count of one arm: that of a robot at a port."""

    def __init__(self, robot: str, port: str, *, keep: bool = True) -> None:
        """`keep=False`: an arm that ends with this process, such as an emulated one; nothing is written."""
        self.keep = keep
        self.robot, self.port = robot, port
        real = os.path.realpath(port)
        name = f"{robot} at {port}"
        if real.startswith("/dev/pts/"):
            # Pseudo-terminals get each other's numbers: another one is another arm.
            try:
                real += f"-{os.stat(real).st_ctime_ns}"
            except OSError:
                pass
        key = re.sub(r"[^A-Za-z0-9.-]+", "_", f"{robot}_{real}").strip("_")
        self.path = state_folder() / f"{key}.json"
        self._none = Record(name)

    def read(self) -> Record:
        """What is on disk; a damaged file counts as one that disables: a person has to look."""
        try:
            table = json.loads(self.path.read_text())
            return Record(str(table["arm"]), int(table["failures"]), str(table["last"]), float(table["when"]))
        except FileNotFoundError:
            return self._none
        except (OSError, ValueError, KeyError, TypeError) as error:
            return replace(self._none, failures=LIMIT + 1, last=f"{self.path} cannot be read: {error}")

    def check(self) -> None:
        """Raises Sim2RealError when a human has to look at the arm first."""
        record = self.read()
        if record.disabled:
            raise Sim2RealError(
                f"{record.arm} is disabled after {record.failures} failures in a row, the last one "
                f"'{record.last}': look at the arm and its black box, then clear it with "
                f"'sim2real deploy --acknowledge --robot {self.robot} --port {self.port}'"
            )

    def note(self, fault: str | None) -> Record:
        """Count a run that ended in `fault` (None: without one). Raises OSError when it cannot be written."""
        before = self.read()
        if fault is None:
            if before.failures:
                self.acknowledge()
            return self._none
        if fault.split(":")[0] in DECIDED:
            return before
        after = replace(before, failures=before.failures + 1, last=fault, when=time.time())
        if not self.keep:
            return after
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps(asdict(after)))
        return after

    def acknowledge(self) -> Record:
        """Set the count back; returns what it was."""
        before = self.read()
        self.path.unlink(missing_ok=True)
        return before


class Escalation:
    """Tells people about a fault while the arm holds: nothing here is waited for by the loop.

    `command`: the user's shell command; it gets FAULT, FAILURES (in a row), DISABLED (0 or 1) and the `environment`.
    """

    def __init__(
        self,
        failures: Failures,
        command: str | None,
        say: Callable[[str], None],
        environment: Mapping[str, str],
        *,
        counts: bool = True,
    ) -> None:
        """`counts` False: the run neither adds to the count nor sets it back."""
        self.counts = counts
        self.failures, self.command, self.say = failures, command, say
        self.environment = dict(environment)
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, fault: str) -> None:
        """The run has ended in a fault. Returns at once."""
        # Disks can make one wait, and the loop must not.
        self._thread = threading.Thread(target=self._call, args=(fault,), daemon=True)
        self._thread.start()

    def _call(self, fault: str) -> None:
        try:
            record = self.failures.note(fault) if self.counts else self.failures.read()
        except OSError as error:
            self.say(f"the failure cannot be kept in {self.failures.path}: {error.strerror}")
            record = Record("", 1, fault)
        if record.disabled and self.counts:
            self.say(
                f"CALL A HUMAN: {record.failures} failures in a row; nothing runs on this arm any more until "
                "'sim2real deploy --acknowledge'"
            )
        if self.command is None:
            return
        environment = {
            **os.environ, **self.environment, "FAULT": fault, "FAILURES": str(record.failures),
            "DISABLED": str(int(record.disabled)),
        }  # fmt: skip
        self._process = subprocess.Popen(
            self.command,
            shell=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=2,
            start_new_session=True,
        )

    def finish(self, *, ended_well: bool) -> None:
        """After the run, the arm limp: wait for what was started; a run that `ended_well` sets the count back."""
        if self._thread is not None:
            self._thread.join(COMMAND_TIMEOUT)
        elif ended_well and self.counts:
            try:
                self.failures.note(None)
            except OSError as error:
                self.say(
                    f"the count of failures in {self.failures.path} cannot be set back: {error.strerror}"
                )
        if self._process is not None:
            try:
                self._process.wait(COMMAND_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.say(f"--on-fault still runs after {COMMAND_TIMEOUT:.0f} s and is left to itself")
