"""Adapters that send back what they are sent: on one wire for both directions the receiver hears the sender, too.

A Feetech request may look exactly like a reply (a ping like the answer of a servo that reports its voltage), so echoes
cannot be told by their looks. What was sent is known, though, and comes back first.
"""

PROBE = b"\x55\x0f\x2a\x70\x33"
"""What finds an echo: no servo answers bytes without a header."""

LOST = 0.1
"""s after which an echo that has not come back does not come any more."""


class Echo:
    """What has been sent and has not come back yet."""

    def __init__(self) -> None:
        self._due = bytearray()
        self._last = 0  # bytes that were sent last
        self._at = float("-inf")

    @property
    def missing(self) -> int:
        """Bytes still to come back."""
        return len(self._due)

    def sent(self, data: bytes, now: float) -> None:
        """`data` goes out at `now`, s."""
        if now - self._at > LOST:
            self._due.clear()
        self._due += data
        self._last, self._at = len(data), now

    def strip(self, data: bytes) -> bytes:
        """What has arrived, without what is our own. A damaged echo is left in: it is no packet."""
        due = self._due
        size = min(len(due), len(data))
        if data[:size] == due[:size]:
            del due[:size]
            return data[size:]
        if len(due) > self._last:
            # The echo of an earlier request has been lost.
            del due[: -self._last]
            return self.strip(data)
        due.clear()
        return data
