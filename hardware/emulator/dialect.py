"""How servos of a family understand what is said on their line: what an `EmulatedBus` needs of them."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Answer = Callable[[int, float, bytes], None]
"""`answer(id, delay, packet)`: servo `id` says `packet`, beginning `delay` s after the line has fallen quiet."""


class Dialect(Protocol):
    """How servos of one family understand requests and answer them."""

    def clear(self) -> None:
        """Forget an incomplete request."""

    def feed(self, data: bytes) -> Sequence[Any]:
        """The requests that `data` completes."""

    def handle(self, request: Any, servos: Sequence[Any], now: float, answer: Answer) -> None:
        """Carry a request out on `servos`, those that heard it."""
