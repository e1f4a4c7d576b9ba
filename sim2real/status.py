"""What servos report about themselves, in the same bits whatever their make."""

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


def status_names(bits: int) -> tuple[str, ...]:
    """What a joint's status says, e.g. `("overload",)`."""
    return tuple(name for bit, name in STATUS_NAMES.items() if bits >> bit & 1)
