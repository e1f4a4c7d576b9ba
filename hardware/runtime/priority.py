"""Real-time privileges for the control process: taken where the system grants them, reported either way."""

import ctypes
import os

PRIORITY = 20
_MCL_CURRENT = 1


def take_priority() -> dict[str, bool]:
    """Ask for real-time scheduling and for memory that is never swapped out. Child processes inherit neither.

    Call it after all other processes have been started. Returns what was granted.
    """
    return {"realtime_scheduling": _schedule(), "locked_memory": _lock()}


def _schedule() -> bool:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
    except (OSError, AttributeError):
        return False
    return True


def release_priority() -> None:
    """Back to ordinary scheduling, for the work after the arm is limp."""
    try:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except (OSError, AttributeError):
        pass


def _lock() -> bool:
    try:
        return ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT) == 0
    except (OSError, AttributeError):
        return False
