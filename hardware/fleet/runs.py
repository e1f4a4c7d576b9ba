"""Runs of `deploy`, as a robot's agent starts them and reads what they leave."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hardware.children import start_module
from sim2real.files import write_json

LARGEST = 8 << 20
"""Bytes of a result that is read."""


class Run:
    """A run under way: our child, or one that an agent before us started and that went on without it."""

    def __init__(self, folder: Path, pid: int, process: "subprocess.Popen[bytes] | None" = None) -> None:
        self.folder = folder
        self.pid = pid
        self._process = process
        self.asked = False

    @classmethod
    def start(cls, note: Path, folder: Path, command: str, arguments: Sequence[str]) -> "Run":
        """`sim2real deploy`, or `record`, in a session of its own: it ends well whatever becomes of us.

        Raises OSError."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_suffix(".log"), "ab") as log:
            process = start_module(
                "pipelines", command, *arguments, "--out", str(folder), "--json",
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
        write_json(note, {"pid": process.pid, "folder": str(folder)})
        return cls(folder, process.pid, process)

    @classmethod
    def left(cls, note: Path) -> "Run | None":
        """The run that an earlier agent has left going, if there is one."""
        try:
            raw = json.loads(note.read_text())
            folder, pid = Path(raw["folder"]), int(raw["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        run = cls(folder, pid)
        return run if run._is_ours() else None

    def ended(self) -> bool:
        if self._process is not None:
            return self._process.poll() is not None
        return not self._is_ours()

    @property
    def status(self) -> int | None:
        """Exit status, once it has ended; None for a run of an earlier agent's."""
        return None if self._process is None else self._process.returncode

    def stop(self) -> None:
        """Ask it to end as Ctrl-C does: stop, lower, let go. Once is enough; a second time would be impatience."""
        if not self.asked and not self.ended():
            self.asked = True
            os.kill(self.pid, signal.SIGTERM)

    def said(self) -> str:
        """The last line that it told people."""
        try:
            lines = self.folder.with_suffix(".log").read_text(errors="replace")[-2000:].splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _is_ours(self) -> bool:
        """Whether the process of this number is still that run: numbers are used again."""
        try:
            return str(self.folder).encode() in Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False


def results(
    folder: Path, known: set[str]
) -> Iterator[tuple[str, list[dict[str, Any]], float, tuple[str, ...]]]:
    """(name, episodes as messages, time, faults) of each run in `folder` that is not `known` and has a result."""
    try:
        # Beside each run's folder lies its log: years of runs must not cost a look into every one of them.
        names = sorted(
            entry.name
            for entry in os.scandir(folder)
            if entry.name not in known and not entry.name.startswith(".") and entry.is_dir()
        )
    except OSError:
        return
    for name in names:
        path = folder / name / "result.json"
        try:
            if path.stat().st_size > LARGEST:
                continue
            raw = json.loads(path.read_text())
            yield name, _episodes(raw, name), path.stat().st_mtime, tuple(map(str, raw.get("faults") or ()))
        except (OSError, ValueError, TypeError, AttributeError):
            continue


def _episodes(raw: dict[str, Any], run: str) -> list[dict[str, Any]]:
    policy = raw.get("policy_sha256")
    rows = []
    for trial in raw.get("trials") or ():
        judge = str(trial.get("judge", ""))
        rows.append(
            {
                "policy": policy,
                "task": str(raw.get("task") or "")[:200],
                "success": trial.get("success"),
                "judge": judge[:64],
                "seconds": float(trial.get("seconds") or 0.0),
                "interventions": int(trial.get("interventions") or 0),
                "safety_events": int(trial.get("safety_events", judge == "fault")),
                "details": {
                    key: trial[key]
                    for key in ("episode", "clipped", "rejected", "note", "goal")
                    if key in trial
                }
                | {"run": run[:100]},
            }
        )
    return rows
