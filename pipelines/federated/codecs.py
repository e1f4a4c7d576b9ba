"""How changes of weights become bytes, and back.

A codec turns `new` weights, where both sides have `base`, into bytes. Lossy ones send the change alone; what a message
left out is added to the next one (error feedback: F. Seide and others, "1-bit stochastic gradient descent", 2014;
S. Karimireddy and others, "Error feedback fixes SignSGD", 2019), so that nothing is lost for good. Bytes of others
are never trusted: `decode` raises CodecError for any that are not of exactly `size` weights.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim2real.errors import Sim2RealError

Weights = NDArray[np.float32]
"""(P,) all shared weights of a network, one after the other."""

KEPT = 0.05
"""Share of the weights that `topk` sends."""

STEP = 0.25
"""Step of `int8`, in root mean squares of the change: most codes are small then, and deflate to about four bits."""

LEVEL = 6


class CodecError(Sim2RealError):
    """Bytes that are no weights of this codec."""


@dataclass(frozen=True)
class Codec:
    """`encode(new, base)` → bytes; `decode(bytes, base)` → weights. `lossy`: they need not be `new`."""

    name: str
    about: str
    encode: Callable[[Weights, Weights], bytes]
    decode: Callable[[bytes, Weights], Weights]
    lossy: bool


def _raw_encode(new: Weights, base: Weights) -> bytes:
    return new.astype("<f4").tobytes()


def _raw_decode(data: bytes, base: Weights) -> Weights:
    if len(data) != 4 * len(base):
        raise CodecError(f"{len(data)} bytes, where {len(base)} weights have {4 * len(base)}")
    return np.frombuffer(data, "<f4").astype(np.float32)


def _delta_encode(new: Weights, base: Weights) -> bytes:
    """Bits that differ, byte by byte of all weights: sign, exponent and first digits hardly ever do."""
    changed = new.astype("<f4").view(np.uint8) ^ base.astype("<f4").view(np.uint8)
    return zlib.compress(changed.reshape(-1, 4).T.tobytes(), LEVEL)


def _delta_decode(data: bytes, base: Weights) -> Weights:
    planes = _inflated(data, 4 * len(base))
    changed = np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(4, -1).T).reshape(-1)
    return (changed ^ base.astype("<f4").view(np.uint8)).view("<f4").astype(np.float32)


def _int8_encode(new: Weights, base: Weights) -> bytes:
    change = new - base
    largest = float(np.abs(change).max(initial=0.0))
    step = np.float32(max(largest / 127, STEP * float(np.sqrt(np.mean(np.square(change, dtype=np.float64))))))
    codes = np.zeros(len(change), np.int8) if step == 0 else np.rint(change / step).astype(np.int8)
    return np.array([step], "<f4").tobytes() + zlib.compress(codes.tobytes(), 9)


def _int8_decode(data: bytes, base: Weights) -> Weights:
    step = _scale(data)
    codes = np.frombuffer(_inflated(data[4:], len(base)), np.int8)
    return base + step * codes.astype(np.float32)


def _topk_encode(new: Weights, base: Weights) -> bytes:
    """The largest changes as eight bits each, and a bit for every weight that says whether it is among them."""
    change = new - base
    count = max(1, round(KEPT * len(change)))
    chosen = np.zeros(len(change), bool)
    chosen[np.argpartition(-np.abs(change), count - 1)[:count]] = True
    values = change[chosen]
    step = np.float32(np.abs(values).max(initial=0.0) / 127)
    codes = np.zeros(count, np.int8) if step == 0 else np.rint(values / step).astype(np.int8)
    return np.array([step], "<f4").tobytes() + zlib.compress(
        np.packbits(chosen).tobytes() + codes.tobytes(), 9
    )


def _topk_decode(data: bytes, base: Weights) -> Weights:
    step = _scale(data)
    count, mask = max(1, round(KEPT * len(base))), -(-len(base) // 8)
    plain = np.frombuffer(_inflated(data[4:], mask + count), np.uint8)
    chosen = np.unpackbits(plain[:mask], count=len(base)).astype(bool)
    if int(chosen.sum()) != count:
        raise CodecError(f"{int(chosen.sum())} weights are marked, where {count} are sent")
    new = base.copy()
    new[chosen] += step * plain[mask:].view(np.int8).astype(np.float32)
    return new


def _scale(data: bytes) -> np.float32:
    if len(data) < 4:
        raise CodecError(f"{len(data)} bytes are too few")
    step = np.frombuffer(data[:4], "<f4")[0]
    if not (np.isfinite(step) and step >= 0):
        raise CodecError(f"a step of {step}")
    return np.float32(step)


def _inflated(data: bytes, size: int) -> bytes:
    """Exactly `size` bytes; what would inflate to more is not inflated."""
    machine = zlib.decompressobj()
    try:
        plain = machine.decompress(data, size + 1)
    except zlib.error as error:
        raise CodecError(f"no deflated bytes: {error}") from None
    if len(plain) != size or not machine.eof or machine.unused_data:
        raise CodecError(f"they do not inflate to {size} bytes")
    return plain


CODECS: Final[dict[str, Codec]] = {
    codec.name: codec
    for codec in (
        Codec("none", "the weights as they are, four bytes each", _raw_encode, _raw_decode, lossy=False),
        Codec(
            "int8",
            "changes in 255 steps, deflated, with error feedback",
            _int8_encode,
            _int8_decode,
            lossy=True,
        ),
        Codec(
            "topk",
            f"the largest {KEPT:.0%} of the changes, with error feedback",
            _topk_encode,
            _topk_decode,
            lossy=True,
        ),
        Codec(
            "delta",
            "the bits that changed, deflated: nothing is lost",
            _delta_encode,
            _delta_decode,
            lossy=False,
        ),
    )
}


@dataclass
class Sender:
    """One side's memory of what its messages left out. A message is only settled once the other side has it:
    `settle` then; one that never arrives changes nothing."""

    codec: Codec
    left: Weights | None = None
    pending: Weights | None = None

    def encode(self, new: Weights, base: Weights) -> bytes:
        """The message that brings `base` to `new`, or as near as the codec gets."""
        if not self.codec.lossy:
            return self.codec.encode(new, base)
        wanted = new if self.left is None else new + self.left
        data = self.codec.encode(wanted, base)
        self.pending = wanted - self.codec.decode(data, base)
        return data

    def settle(self) -> None:
        """The last message was taken."""
        if self.pending is not None:
            self.left, self.pending = self.pending, None
