"""Finding packets in a stream of bytes: what the parsers of all protocols share."""

from collections import deque
from typing import ClassVar, Generic, TypeVar

Packet = TypeVar("Packet")

UNFINISHED, NO_PACKET = 0, -1
"""What stands in for a packet's end: more bytes are needed to tell, or this is none."""


class PacketStream(Generic[Packet]):
    """Finds packets in a stream of bytes, whatever garbage lies between them.

    A candidate that turns out wrong costs its first byte only, so a genuine packet inside or behind it is
    still found. `max_length` bounds the LEN that is believed: without a bound, a damaged LEN would make the
    parser wait for bytes that never come. A protocol says where a packet ends (`_end`) and takes it apart
    (`_open`).
    """

    header: ClassVar[bytes]

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.garbage = 0  # bytes that belonged to no packet
        self.checksum_errors = 0
        self.suspects: deque[int] = deque(maxlen=32)  # IDs in the headers of packets whose checksum was wrong
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a packet that has begun and is not complete."""
        return len(self._buffer)

    def clear(self) -> int:
        """Forget what is incomplete; returns the number of bytes dropped."""
        dropped = len(self._buffer)
        self._buffer.clear()
        self.garbage += dropped
        return dropped

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that `data` completes, in order."""
        buffer, header = self._buffer, self.header
        buffer += data
        packets: list[Packet] = []
        position, size = 0, len(buffer)
        while True:
            start = buffer.find(header, position)
            if start < 0:
                # The last bytes may be the first ones of a header.
                keep = min(len(header) - 1, size - position)
                while not buffer.endswith(header[:keep]):
                    keep -= 1
                self.garbage += size - keep - position
                position = size - keep
                break
            self.garbage += start - position
            position = start
            end = self._end(buffer, position, size)
            if end == UNFINISHED or end > size:
                break
            packet = None if end == NO_PACKET else self._open(bytes(buffer[position:end]))
            if packet is None:
                position += 1
                self.garbage += 1
                continue
            packets.append(packet)
            position = end
        del buffer[:position]
        return packets

    def _end(self, buffer: bytearray, start: int, size: int) -> int:
        """Where the packet at `start` ends, by its header; UNFINISHED, NO_PACKET. `buffer` holds `size` bytes."""
        raise NotImplementedError

    def _open(self, packet: bytes) -> Packet | None:
        """A whole packet taken apart, or None when its checksum or its form is wrong."""
        raise NotImplementedError
