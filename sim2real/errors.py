"""Exceptions, each of which knows the exit status a command ends with, and how messages list numbers."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class Sim2RealError(Exception):
    """Something could not be done. The message is complete: what, where, what is allowed, what to do."""

    exit_code = 1


class UserError(Sim2RealError):
    """The user asked for something that cannot be: wrong value, missing file, mismatched policy."""

    exit_code = 2


class PolicyError(Sim2RealError):
    """A policy did something else than give actions. `fault` says what, as in "raised KeyError: 'goal'"."""

    def __init__(self, fault: str) -> None:
        super().__init__(f"the policy {fault}")
        self.fault = fault

    def __reduce__(self) -> tuple[type["PolicyError"], tuple[str]]:
        return PolicyError, (self.fault,)


class HardwareError(Sim2RealError):
    """A port, servo or camera failed or is not what it should be."""


class BusError(HardwareError):
    """One exchange on the servo bus failed (timeout, checksum, wrong sender, implausible value)."""


class PortError(HardwareError):
    """The serial port cannot be opened or has gone away."""


def listed(numbers: Sequence[int]) -> str:
    """A few numbers, and how many more: "3, 17, 40 and 12 more"."""
    unique = sorted(set(numbers))
    more = f" and {len(unique) - 8} more" if len(unique) > 8 else ""
    return ", ".join(map(str, unique[:8])) + more


def spans(numbers: Sequence[int]) -> str:
    """Whole numbers by their stretches: "0-57, 60"; of more than eight stretches the first, and how many more."""
    unique = sorted(set(numbers))
    starts = [i for i, number in enumerate(unique) if i == 0 or number != unique[i - 1] + 1]
    parts = []
    for start, end in zip(starts, [*starts[1:], len(unique)]):
        first, last = unique[start], unique[end - 1]
        parts.append(
            str(first) if first == last else f"{first}-{last}" if last > first + 1 else f"{first}, {last}"
        )
    more = f" and {len(parts) - 8} more stretches" if len(parts) > 8 else ""
    return ", ".join(parts[:8]) + more


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the known name that is most like `name`, else ""."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
