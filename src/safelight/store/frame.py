"""How one frame of a tape is coded: bfloat16 weights, as what has changed since the frame before.

    bits -> integers in the order of their values -> difference modulo 2**16 -> zigzag -> nibbles -> zstd

Averaged weights move by a few steps of bfloat16 between two frames, most of them by none: a difference below
15 is a nibble, so that two of them are one symbol to zstd. The others are listed behind, in byte planes. (A
fifth fewer bytes than planes alone; benchmarks/tape.py.) Every stage can be undone exactly.
"""

from __future__ import annotations

import numpy as np
import zstandard
from numpy.typing import NDArray

from safelight.config import UserError

Bits = NDArray[np.uint16]

LEVEL = 1  # of zstd; benchmarks/tape.py has what others cost and bring
WIDE = 15  # the nibble of a difference that is listed behind


def ordered(bits: Bits) -> Bits:
    """bfloat16 bits as integers that order as their values do: neighbouring numbers differ by 1."""
    return bits ^ (_negative(bits) | np.uint16(0x8000))


def unordered(integers: Bits) -> Bits:
    """The bits of `ordered` integers."""
    return integers ^ (_negative(~integers) | np.uint16(0x8000))


def encode(now: Bits, before: Bits | None, level: int = LEVEL) -> bytes:
    """`ordered` integers (n,) as bytes; as they are, or as their differences from the frame before."""
    plain = _planes(now) if before is None else _nibbles(_zigzag(now - before))  # modulo 2**16: they wrap
    return zstandard.ZstdCompressor(level=level).compress(plain)


def decode(data: bytes, count: int, before: Bits | None) -> Bits:
    """The `count` integers that `encode` was given. Raises UserError for data that are none."""
    try:
        plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=3 * count + 8)
    except zstandard.ZstdError as error:
        raise UserError(f"is no zstd data ({error})") from error
    values = _from_planes(plain) if before is None else _from_nibbles(plain, count)
    if len(values) != count:
        raise UserError(f"holds {len(values)} weights, not {count}")
    return values if before is None else before + ((values >> 1) ^ -(values & 1))


def _zigzag(difference: Bits) -> Bits:
    """0, -1, 1, -2, ... modulo 2**16 as 0, 1, 2, 3, ..."""
    signed = difference.view(np.int16)
    return ((signed << 1) ^ (signed >> 15)).view(np.uint16)


def _nibbles(values: Bits) -> bytes:
    small = np.zeros(len(values) + len(values) % 2, np.uint8)
    small[: len(values)] = np.minimum(values, WIDE)
    return (small[::2] | small[1::2] << 4).tobytes() + _planes(values[values >= WIDE])


def _from_nibbles(plain: bytes, count: int) -> Bits:
    """Raises UserError where there are too few nibbles, or others than the list behind them has."""
    pairs = np.frombuffer(plain, np.uint8, min(len(plain), (count + 1) // 2))
    values = np.empty(2 * len(pairs), np.uint16)
    values[::2], values[1::2] = pairs & 15, pairs >> 4
    values = values[:count]
    wide, behind = values == WIDE, _from_planes(plain[len(pairs) :])
    if np.count_nonzero(wide) != len(behind):
        raise UserError(f"lists {len(behind)} wide differences, not {np.count_nonzero(wide)}")
    values[wide] = behind
    return values


def _planes(values: Bits) -> bytes:
    """All low bytes, then all high ones."""
    return values.astype("<u2", copy=False).view(np.uint8).reshape(-1, 2).T.tobytes()


def _from_planes(plain: bytes) -> Bits:
    pairs = np.frombuffer(plain, np.uint8, len(plain) // 2 * 2).reshape(2, -1).T
    return np.ascontiguousarray(pairs).view("<u2").reshape(-1).astype(np.uint16, copy=False)


def _negative(bits: Bits) -> Bits:
    """All bits set where the highest one is, none elsewhere."""
    return (bits.view(np.int16) >> 15).view(np.uint16)
