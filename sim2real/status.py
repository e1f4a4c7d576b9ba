"""What servos report about themselves, in the same bits whatever their make, and what to do about it."""

from collections.abc import Iterable

STATUS_NAMES = {
    0: "voltage",
    1: "encoder",
    2: "temperature",
    3: "current",
    4: "electrical shock",
    5: "overload",
    6: "bus watchdog",
}
"""Bits of `ArmState.status`."""


REMEDIES = {
    "voltage": "measure the supply at the arm, and check its plugs and whether it gives enough current",
    "encoder": "switch its power off and on; if it comes back the servo is broken",
    "temperature": "let it cool down, and find out what it holds against",
    "current": "find out what blocks the joint, then switch its power off and on",
    "electrical shock": "switch the power off and look at cables and supply: a short circuit, or far too much voltage",
    "overload": "find out what blocks the joint or is too heavy for it, then switch its power off and on",
    "bus watchdog": "it had heard nothing for too long: check the cable, and what kept the program from running",
}
"""By name of a fault: what to do about it."""


def report(names: Iterable[str]) -> str:
    """What a servo reports, with what to do about each, e.g. "overload (find out what blocks …)"."""
    return ", ".join(f"{name} ({REMEDIES[name]})" if name in REMEDIES else name for name in names)


def status_names(bits: int) -> tuple[str, ...]:
    """What a joint's status says, e.g. `("overload",)`."""
    return tuple(name for bit, name in STATUS_NAMES.items() if bits >> bit & 1)
