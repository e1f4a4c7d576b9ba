"""The process that puts black boxes on disk: on every fault a second later, and at once when control dies."""

import argparse
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hardware.runtime.recording.blackbox import BlackBoxMemory, save

AFTER = 1.0
"""s that are recorded after a fault before it is written."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="started by the control process; not a command of its own")
    for name in ("--pipe", "--memory"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        # This process ends when control does.
        signal.signal(number, signal.SIG_IGN)
    try:
        os.nice(5)
    except OSError:
        pass
    memory = BlackBoxMemory(options.memory)
    due: float | None = None
    while True:
        wait = None if due is None else max(due - time.monotonic(), 0.0)
        if select.select([options.pipe], [], [], wait)[0]:
            said = os.read(options.pipe, 4096)
            if b"D" in said and due is None:
                due = time.monotonic() + AFTER
            if not said or b"Q" in said:
                if not said:
                    _write(memory, options.out, "the control process ended without notice")
                elif due is not None:
                    _write(memory, options.out, "fault")
                return 0
        elif due is not None:
            _write(memory, options.out, "fault")
            due = None


def _write(memory: BlackBoxMemory, folder: Path, why: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number = 1
        while (path := folder / f"blackbox-{number}.npz").exists():
            number += 1
        save(memory.snapshot(why), path)
        text = f"black box: {path}"
    except OSError as error:
        text = f"black box: cannot be written to {folder}: {error.strerror or error}"
    try:
        os.write(2, f"{text}\n".encode())
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main())
