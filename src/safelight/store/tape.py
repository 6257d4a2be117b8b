"""A tape: the averaged weights of a run in bfloat16 at every so many steps, for films of any sample.

Writing one changes no weight; `frames` has the files. A frame is what has changed since the one before:

    bits -> integers in the order of their values -> difference modulo 2**16 -> zigzag -> nibbles -> zstd

Averaged weights move by a few steps of bfloat16 between two frames, most of them by none: a difference below
15 is a nibble, so that two of them are one symbol to zstd. The others are listed behind, in byte planes. (A
fifth fewer bytes than planes alone; benchmarks/tape.py.) Every stage can be undone exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from safelight.config import Section, UserError
from safelight.store import frames
from safelight.store.durable import Announce, silence
from safelight.store.frames import FrameLocation, Segment
from safelight.store.journal import counts

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
    unpacked = _planes(now) if before is None else _nibbles(_zigzag(now - before))  # modulo 2**16: they wrap
    return zstandard.ZstdCompressor(level=level).compress(unpacked)


def decode(data: bytes, count: int, before: Bits | None) -> Bits:
    """The `count` integers that `encode` was given. Raises UserError for data that are none."""
    try:
        unpacked = zstandard.ZstdDecompressor().decompress(data, max_output_size=3 * count + 8)
    except zstandard.ZstdError as error:
        raise UserError(f"is no zstd data ({error})") from error
    values = _from_planes(unpacked) if before is None else _from_nibbles(unpacked, count)
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


def _from_nibbles(unpacked: bytes, count: int) -> Bits:
    """Raises UserError where there are too few nibbles, or others than the list behind them has."""
    pairs = np.frombuffer(unpacked, np.uint8, min(len(unpacked), (count + 1) // 2))
    values = np.empty(2 * len(pairs), np.uint16)
    values[::2], values[1::2] = pairs & 15, pairs >> 4
    values = values[:count]
    wide, behind = values == WIDE, _from_planes(unpacked[len(pairs) :])
    if np.count_nonzero(wide) != len(behind):
        raise UserError(f"lists {len(behind)} wide differences, not {np.count_nonzero(wide)}")
    values[wide] = behind
    return values


def _planes(values: Bits) -> bytes:
    """All low bytes, then all high ones."""
    return values.astype("<u2", copy=False).view(np.uint8).reshape(-1, 2).T.tobytes()


def _from_planes(unpacked: bytes) -> Bits:
    pairs = np.frombuffer(unpacked, np.uint8, len(unpacked) // 2 * 2).reshape(2, -1).T
    return np.ascontiguousarray(pairs).view("<u2").reshape(-1).astype(np.uint16, copy=False)


def _negative(bits: Bits) -> Bits:
    """All bits set where the highest one is, none elsewhere."""
    return (bits.view(np.int16) >> 15).view(np.uint16)


Weights = dict[str, dict[str, Tensor]]  # by network, as its state_dict has them


class Tape(Section):
    """[tape]: averaged weights, recorded every few steps, from which any sample can be filmed."""

    every: int = Field(0, ge=0)
    """Steps between two frames of averaged weights, in bfloat16; 0 = no tape."""
    networks: tuple[str, ...] = ()
    """Averaged networks to record; [] = all."""
    keyframe: int = Field(48, ge=1, le=1000)
    """Frames from one complete frame to the next; the others store differences."""


def rounded(tensor: Tensor) -> Tensor:
    """A tensor as a tape gives it back: rounded to bfloat16, to nearest even; integers as they are."""
    return tensor.to(torch.bfloat16).to(tensor.dtype) if tensor.is_floating_point() else tensor


class TapeWriter:
    """The writer of one session's frames; hold the run's lock. Close it."""

    def __init__(self, run: Path, session: int, announce: Announce = silence) -> None:
        self._file = frames.Appender(run, session, frames.TAPE, announce)
        self._tensors: list[Any] = []
        self._before: Bits | None = None
        self._count = 0  # of frames in the file
        self._last = -1  # step of the newest frame

    def append(self, step: int, networks: Mapping[str, nn.Module], keyframe: int) -> int:
        """Write a frame, steps in their order; returns its bytes. Raises UserError where the disk cannot.

        keyframe: frames in a file, at most.
        """
        if step <= self._last:
            raise ValueError(f"the frame of step {step} comes after that of step {self._last}")
        states = {name: net.state_dict() for name, net in networks.items()}
        tensors = [[network, name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
                   for network, state in states.items() for name, tensor in state.items()]  # fmt: skip
        if self._count >= keyframe or tensors != self._tensors:
            self.close()
            self._tensors, self._before, self._count = tensors, None, 0
        now, rest = _packed([tensor for state in states.values() for tensor in state.values()])
        data = encode(now, self._before)
        data = len(data).to_bytes(8, "little") + data + rest
        size = self._file.append(step, data, tensors)
        self._before, self._last = now, step
        self._count += 1
        return size

    def sync(self) -> None:
        """Make the frames so far durable, for example before the checkpoint that makes them final."""
        self._file.sync()

    def close(self) -> None:
        """Give the file back, its frames durable. May be called twice."""
        self._file.close()


class TapeReader:
    """The frames of a run as they are on disk when it is opened. Reading onwards is quick."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._segments: dict[Path, Segment] = {}
        self._places: dict[int, FrameLocation] = {}
        for path in frames.files(run):
            segment = frames.scan(path)
            if segment.places and not all(map(_is_tensor, segment.holds)):
                segment = Segment(
                    path, segment.step, [], [], f"{path}: its first line is damaged; its frames are lost"
                )
            if segment.places or segment.damage:  # what earlier sessions have from here on is superseded
                self._places = {step: place for step, place in self._places.items() if step < segment.step}
            self._segments[path] = segment
            self._places |= {place.step: place for place in segment.places}
        self._at: FrameLocation | None = None
        self._integers: Bits | None = None
        self._rest = b""

    def __contains__(self, step: int) -> bool:
        return step in self._places

    @property
    def steps(self) -> list[int]:
        """Steps of which there is a frame, increasing. Their data are not verified."""
        return sorted(self._places)

    @property
    def damage(self) -> list[str]:
        """One line for each file of which frames are known to be lost."""
        return [segment.damage for segment in self._segments.values() if segment.damage]

    def networks(self, step: int) -> list[str]:
        """The networks that the frame of a step holds."""
        tensors = self._segments[self._place(step).path].holds
        return list(dict.fromkeys(network for network, *_ in tensors))

    def read(self, step: int) -> Weights:
        """The weights at a step, as new tensors on the CPU in the dtypes they had, rounded to bfloat16.

        Raises UserError where there is no such frame, or naming the damaged one that it needs.
        """
        place = self._place(step)
        segment = self._segments[place.path]
        at = self._at
        begin = at.number + 1 if at and at.path == place.path and at.number <= place.number else 0
        if begin == 0:
            self._integers = None
        for following in segment.places[begin : place.number + 1]:
            self._at = None  # until it is decoded
            try:
                self._advance(following, segment)
            except UserError as error:
                needs = "" if following == place else f", and that of step {step} needs it"
                raise UserError(f"{error}{needs}") from None
        assert self._integers is not None
        try:
            return _unpacked(segment.holds, self._integers, self._rest)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{place.path}: the frame of step {step} is damaged ({error})") from error

    def _place(self, step: int) -> FrameLocation:
        if step not in self._places:
            raise UserError(f"{self.run.name}: its tape has no frame of step {step}")
        return self._places[step]

    def _advance(self, place: FrameLocation, segment: Segment) -> None:
        data = frames.read_data(place)
        split = 8 + int.from_bytes(data[:8], "little")
        count = sum(_numel(shape) for *_, dtype, shape in segment.holds if _is_floating(dtype))
        try:
            self._integers = decode(data[8:split], count, self._integers)
        except UserError as error:
            raise UserError(f"{place.path}: the frame of step {place.step} {error}") from None
        self._rest, self._at = data[split:], place


@torch.no_grad()
def _packed(tensors: list[Tensor]) -> tuple[Bits, bytes]:
    """Floating-point tensors as `ordered` integers, in one row; the bytes of the others."""
    floating = [tensor.reshape(-1) for tensor in tensors if tensor.is_floating_point()]
    others = [tensor.cpu().contiguous() for tensor in tensors if not tensor.is_floating_point()]
    row = torch.cat([tensor.to(torch.bfloat16) for tensor in floating]) if floating else torch.empty(0)
    bits = row.to(torch.bfloat16).view(torch.int16).cpu().numpy().view(np.uint16)
    return ordered(bits), b"".join(tensor.numpy().tobytes() for tensor in others)


def _unpacked(tensors: Sequence[Any], integers: Bits, rest: bytes) -> Weights:
    row = torch.from_numpy(unordered(integers).view(np.int16)).view(torch.bfloat16)
    weights: Weights = {}
    at = offset = 0
    for network, name, dtype, shape in tensors:
        kind, count = getattr(torch, dtype), _numel(shape)
        if kind.is_floating_point:
            tensor, at = row[at : at + count].to(kind), at + count
        else:
            tensor = torch.frombuffer(bytearray(rest), dtype=kind, count=count, offset=offset)
            offset += count * kind.itemsize
        weights.setdefault(network, {})[name] = tensor.reshape(shape)
    return weights


def _is_tensor(held: Any) -> bool:
    """Whether a first line says of something in its frames what a tensor is."""
    match held:
        case [str(), str(), str(dtype), list(shape)]:
            return isinstance(getattr(torch, dtype, None), torch.dtype) and all(map(counts, shape))
    return False


def _is_floating(dtype: str) -> bool:
    kind: torch.dtype = getattr(torch, dtype)
    return kind.is_floating_point


def _numel(shape: list[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))
