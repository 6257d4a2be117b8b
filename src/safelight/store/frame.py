"""How one frame of a tape is coded: bfloat16 weights, as what has changed since the frame before.

    bits -> integers in the order of their values -> difference modulo 2**16 -> zigzag -> byte planes -> zstd

Averaged weights move by a few steps of bfloat16 between two frames, most of them by none, so that one plane
is nearly all zeros and the other has few values. Every stage can be undone exactly.
"""

from __future__ import annotations

import numpy as np
import zstandard
from numpy.typing import NDArray

from safelight.config import UserError

Bits = NDArray[np.uint16]

LEVEL = 3  # of zstd; benchmarks/tape.py has what others cost and bring


def ordered(bits: Bits) -> Bits:
    """bfloat16 bits as integers that order as their values do: neighbouring numbers differ by 1."""
    return bits ^ (_negative(bits) | np.uint16(0x8000))


def unordered(integers: Bits) -> Bits:
    """The bits of `ordered` integers."""
    return integers ^ (_negative(~integers) | np.uint16(0x8000))


def encode(now: Bits, before: Bits | None, level: int = LEVEL) -> bytes:
    """`ordered` integers (n,) as bytes; as they are, or as their differences from the frame before."""
    if before is not None:
        difference = (now - before).view(np.int16)  # modulo 2**16: unsigned numbers wrap
        now = ((difference << 1) ^ (difference >> 15)).view(np.uint16)
    planes = np.ascontiguousarray(now.astype("<u2", copy=False).view(np.uint8).reshape(-1, 2).T)
    return zstandard.ZstdCompressor(level=level).compress(planes.data)


def decode(data: bytes, count: int, before: Bits | None) -> Bits:
    """The `count` integers that `encode` was given. Raises UserError for data that are none."""
    try:
        planes = zstandard.ZstdDecompressor().decompress(data, max_output_size=2 * count)
    except zstandard.ZstdError as error:
        raise UserError(f"is no zstd data ({error})") from error
    if len(planes) != 2 * count:
        raise UserError(f"holds {len(planes) // 2} weights, not {count}")
    pairs = np.frombuffer(planes, np.uint8).reshape(2, count).T
    now = np.ascontiguousarray(pairs).view("<u2").reshape(count).astype(np.uint16, copy=False)
    if before is None:
        return now
    difference = (now >> 1) ^ (-(now & 1).astype(np.int16)).view(np.uint16)
    return before + difference


def _negative(bits: Bits) -> Bits:
    """All bits set where the highest one is, none elsewhere."""
    return (bits.view(np.int16) >> 15).view(np.uint16)
