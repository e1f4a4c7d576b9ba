"""Training on several processes: which of them this is, and what the others are told.

One process, rank 0, runs the command: it claims the directory, collects, exports and measures. The others only train:
they are told by files in `ranks/` of the run directory what (`plan.json`, `start.safetensors`) and on which data
(`group-0.npz`, …), so that whatever must happen once does. On one machine rank 0 starts them itself when its training
begins (`Helpers`); under torchrun or SLURM they were started as the same command, and wait for the plan instead.
"""

import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sim2real.errors import Sim2RealError
from sim2real.files import write_json
from sim2real.spawning import context, end_process

FOLDER = "ranks"
MEETING = "SIM2REAL_MEETING"
"""Environment variable: the file by which processes of this machine find each other."""
PLAN = "plan.json"
STARTING = 600.0
"""s that a helper may take to start."""
LOOKING = 0.05
"""s between two looks at whether a file is there."""


def rank() -> int:
    """This process among all: 0 runs the command, the others train along."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return 0


def main_process() -> bool:
    """False in processes that only train along: they leave the run directory alone."""
    return rank() == 0


def launched() -> bool:
    """Whether torchrun or SLURM has started all processes, this one among them."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys() or int(
        os.environ.get("SLURM_NTASKS") or 1
    ) > 1


def launch() -> str:
    """What is the same in all processes that were started together, and in no others."""
    torchrun = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
    slurm = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return "/".join(os.environ.get(name, "") for name in (*torchrun, *slurm))


def world() -> tuple[int, int] | None:
    """(processes on this node, nodes) as torchrun says; None where it has not started this process."""
    size, local = os.environ.get("WORLD_SIZE", ""), os.environ.get("LOCAL_WORLD_SIZE", "")
    if size.isdecimal() and local.isdecimal() and int(local) > 0:
        return int(local), max(1, int(size) // int(local))
    return None


def group_file(out: Path, group: int) -> Path:
    """Where rank 0 leaves the demonstrations of a group for the others."""
    return out / FOLDER / f"group-{group}.npz"


def wait_for(path: Path) -> None:
    """Until a file is there. Raises Sim2RealError when rank 0 has ended without it."""
    parent = os.getppid()
    while not path.exists():
        if os.getppid() != parent or (path.parent / "ended").exists():
            raise Sim2RealError("the process that leads the training has ended")
        time.sleep(LOOKING)


def write_plan(out: Path, plan: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Tell the others what is trained: plain values, and the tensors of the module by name."""
    from safetensors.torch import save_file

    folder = out / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / "ended").unlink(missing_ok=True)
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in state.items()},
        folder / "start.safetensors",
    )
    write_json(folder / PLAN, {**plan, "launch": launch()})


def read_plan(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `write_plan` wrote."""
    from safetensors.torch import load_file

    return json.loads((out / FOLDER / PLAN).read_text()), load_file(out / FOLDER / "start.safetensors")


def end_plan(out: Path) -> None:
    """The training is over: nothing is left of what the others were told."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def told_to_end(out: Path) -> None:
    """Rank 0, started together with others, will not train: they need not wait."""
    if launched() and out.is_dir():
        (out / FOLDER).mkdir(exist_ok=True)
        write_json(out / FOLDER / PLAN, {"launch": launch(), "ended": True})


class Helpers:
    """The other processes on this machine; a context in which this one is rank 0. Nothing where there are none, or
    where another program has started them."""

    def __init__(self, out: Path, count: int, work: Callable[[Path], None]) -> None:
        """`work(out)` is what they do: a function of a module."""
        self.work = work
        self.out, self.count = out, 0 if launched() else count
        self.processes: list[BaseProcess] = []
        self._kept: dict[str, str | None] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> "Helpers":
        if not self.count:
            return self
        self._folder = tempfile.TemporaryDirectory(prefix="sim2real-ranks-")
        where = {"NODE_RANK": "0", MEETING: f"{self._folder.name}/meeting"}
        # By the host's name gloo would take the address of a network.
        for _, name in socket.if_nameindex():
            if name in ("lo", "lo0"):
                where["GLOO_SOCKET_IFNAME"] = name
        for name, value in {**where, "LOCAL_RANK": "0"}.items():
            self._kept[name] = os.environ.get(name)
            os.environ[name] = value
        try:
            heard = []
            for number in range(1, self.count + 1):
                here, there = context.Pipe(duplex=False)
                process = context.Process(
                    target=_help,
                    args=(self.work, self.out, {**where, "LOCAL_RANK": str(number)}, there),
                    daemon=True,
                )
                process.start()
                there.close()
                self.processes.append(process)
                heard.append(here)
            for here, started in zip(heard, self.processes):
                try:
                    if not here.poll(STARTING):
                        raise EOFError
                    here.recv()
                except (EOFError, OSError):
                    raise Sim2RealError(
                        f"a training process did not start (exit status {started.exitcode})"
                    ) from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def killed(self) -> bool:
        """Whether one has died, or is about to: what it was killed by may be seen a moment later."""
        end = time.monotonic() + 5.0
        while self.processes and time.monotonic() < end:
            if any(process.exitcode not in (None, 0) for process in self.processes):
                return True
            time.sleep(0.1)
        return False

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            end_process(process, 10.0)
        for name, value in self._kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self.processes, self._kept = [], {}
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _help(work: Callable[[Path], None], out: Path, where: Mapping[str, str], ready: Any) -> None:
    """A helper's whole life."""
    import signal

    # Ctrl-C is for rank 0, which ends the training in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(where)
    ready.send(True)
    work(out)


def wait_for_plan(out: Path) -> bool:
    """In a process that another program has started, until rank 0 says whether it trains."""
    path = out / FOLDER / PLAN
    while True:
        if path.exists():
            plan = json.loads(path.read_text())
            if plan.get("launch") == launch():
                return not plan.get("ended")
        time.sleep(LOOKING)
