"""The rows of a pack while it is written, in blocks in any order; and what an item looks like before that.

A block's record says what came of it and carries a checksum, and images have their digests, so that a packing
that was killed goes on with the blocks whose rows are really in the files, whatever reached the disk first.
"""

from __future__ import annotations

import io
import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from safelight.data.fitting import profile_name
from safelight.data.images import FileReader, blamed, decode, height_width, open_image, orientation
from safelight.data.source import NOT_MASKED, BadItem, ImageReader, LeftOut

BLOCK = 64  # items at once, at most
BLOCK_BYTES = 1 << 24  # bytes of pixels at once, at most, unless one item has more


@dataclass(frozen=True)
class ArrayFile:
    """A .npy file of fixed length, whose rows are read and written without mapping it into memory."""

    path: Path
    dtype: str
    shape: tuple[int, ...]  # (N, ...)

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape[1:]) * np.dtype(self.dtype).itemsize

    def create(self) -> None:
        """Make the file, its rows zero; on most disks they take no place until they are written."""
        with self.path.open("wb") as file:
            npy.write_array_header_1_0(file, self._header())
            file.truncate(file.tell() + self.row * self.shape[0])

    def is_whole(self) -> bool:
        """Whether the file is there, as long as it should be."""
        size = self._start() + self.row * self.shape[0]
        return self.path.exists() and self.path.stat().st_size == size

    def write(self, start: int, rows: NDArray[Any]) -> None:
        """Put rows at their place."""
        content = np.ascontiguousarray(rows, self.dtype).data.cast("B")
        with self.path.open("r+b", buffering=0) as file:
            file.seek(self._start() + start * self.row)
            while content:  # an unbuffered write may be a short one
                content = content[file.write(content) :]

    def read(self, start: int, count: int) -> NDArray[Any]:
        """Some rows (count, ...); fewer where the file ends."""
        with self.path.open("rb") as file:
            file.seek(self._start() + start * self.row)
            content = file.read(count * self.row)
        whole = len(content) // self.row
        return np.frombuffer(content[: whole * self.row], self.dtype).reshape(whole, *self.shape[1:])

    def keep(
        self,
        items: NDArray[np.int64],
        shape: tuple[int, ...],
        change: Callable[[NDArray[Any], NDArray[np.int64]], NDArray[Any]],
    ) -> ArrayFile:
        """Only the rows of some items, ascending, in the same file.

        change: (rows, their items) -> rows of `shape`, no larger than they were. Killed halfway, rows no
        longer have their checksums, and are decoded again.
        """
        new = replace(self, shape=(len(items), *shape))
        for start in range(0, len(items), BLOCK):
            part = items[start : start + BLOCK]
            rows = self.read(int(part[0]), int(part[-1] - part[0]) + 1)
            new.write(start, change(rows[part - part[0]], part))
        with self.path.open("r+b") as file:
            npy.write_array_header_1_0(file, new._header())
            file.truncate(new._start() + new.row * len(items))
        return new

    def _header(self) -> dict[str, Any]:
        return {"descr": self.dtype, "fortran_order": False, "shape": self.shape}

    def _start(self) -> int:
        """Where the first row stands; NumPy leaves room in the header for the first axis to change."""
        header = io.BytesIO()
        npy.write_array_header_1_0(header, self._header())
        return header.tell()


@dataclass(frozen=True)
class BlockRecord:
    """What came of a block of items."""

    block: int
    checksum: int  # of its digests and masks
    bad: Mapping[int, str]  # item, reason
    colour: bool  # whether any image has colour
    classes: tuple[int, ...]  # class numbers in its masks
    white: bool  # whether a mask holds 0 and 255 and nothing else
    void: bool  # whether a mask holds 255 beside class numbers from 1
    left_out: Mapping[int, str]  # item, reason: by the recipe
    wholes: Mapping[int, tuple[int, int]]  # item, (H, W) of its file, where it has another size

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> BlockRecord:
        """Raises ValueError, KeyError or TypeError for a line that is torn."""
        record = json.loads(line)
        bad, left = ({int(item): str(reason) for item, reason in record[name].items()}
                     for name in ("bad", "left_out"))  # fmt: skip
        wholes = {int(item): (int(h), int(w)) for item, (h, w) in record["wholes"].items()}
        return cls(record["block"], record["checksum"], bad, record["colour"], tuple(record["classes"]),
                   record["white"], record["void"], left, wholes)  # fmt: skip


@dataclass(frozen=True)
class Slots:
    """Images, masks and digests of N items in a folder."""

    folder: Path
    count: int
    shape: tuple[int, int, int]  # (H, W, C) of a slot; grey images take three channels where C was left open
    masked: bool

    @property
    def images(self) -> ArrayFile:
        return ArrayFile(self.folder / "images.npy", "|u1", (self.count, *self.shape))

    @property
    def masks(self) -> ArrayFile:
        return ArrayFile(self.folder / "given-mask.npy", "|u1", (self.count, *self.shape[:2]))

    @property
    def digests(self) -> ArrayFile:
        return ArrayFile(self.folder / "digests.npy", "<u8", (self.count, 2))

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return sum(file.row * file.shape[0] for file in self.files)

    @property
    def files(self) -> tuple[ArrayFile, ...]:
        return (self.images, self.digests, self.masks) if self.masked else (self.images, self.digests)

    @property
    def block(self) -> int:
        """Items in a block."""
        return max(1, min(BLOCK, BLOCK_BYTES // self.images.row))

    @property
    def blocks(self) -> int:
        return math.ceil(self.count / self.block)

    def items(self, block: int) -> range:
        """The items of a block."""
        return range(block * self.block, min((block + 1) * self.block, self.count))

    def fill(
        self, block: int, reader: ImageReader, tick: Callable[[int], None] = lambda item: None
    ) -> BlockRecord:
        """Decode a block into its slots. tick: called after each item.

        Raises UserError where the disk is at fault.
        """
        items = self.items(block)
        images = np.zeros((len(items), *self.shape), np.uint8)
        masks = np.full((len(items) * self.masked, *self.shape[:2]), NOT_MASKED, np.uint8)
        digests = np.zeros((len(items), 2), np.uint64)
        bad, colour, white, void, seen = {}, False, False, False, np.zeros(256, bool)
        left, wholes = dict[int, str](), dict[int, tuple[int, int]]()
        for place, item in enumerate(items):
            try:
                pixels = reader.read(item)
            except LeftOut as reason:
                left[item] = str(reason)
            except BadItem as reason:
                bad[item] = str(reason)
            else:
                if pixels.whole is not None and pixels.whole != self.shape[:2]:
                    wholes[item] = pixels.whole
                images[place] = pixels.image
                digests[place] = np.frombuffer(digest(images[place]), "<u8")
                colour |= pixels.image.shape[2] > 1
                if pixels.mask is not None:
                    masks[place] = pixels.mask
                    held = np.bincount(pixels.mask.ravel(), minlength=256) > 0
                    seen |= held
                    void |= bool(held[255] and held[1:255].any())
                    white |= bool(held[0] and held[255] and not held[1:255].any())
            tick(item)
        self.images.write(items.start, images)
        self.digests.write(items.start, digests)
        if self.masked:
            self.masks.write(items.start, masks)
        classes = tuple(np.flatnonzero(seen).tolist())
        return BlockRecord(
            block, _checksum(digests, masks), bad, bool(colour), classes, white, void, left, wholes
        )

    def holds(self, record: BlockRecord) -> bool:
        """Whether the rows of a record's block are in the files."""
        items = self.items(record.block)
        digests = self.digests.read(items.start, len(items))
        masks = self.masks.read(items.start, len(items)) if self.masked else np.zeros(0, np.uint8)
        if _checksum(digests, masks) != record.checksum:
            return False
        rows = zip(items, self.images.read(items.start, len(items)), digests, strict=True)
        return all(
            item in record.bad or item in record.left_out or digest(image) == stored.tobytes()
            for item, image, stored in rows
        )


def _checksum(digests: NDArray[np.uint64], masks: NDArray[np.uint8]) -> int:
    return zlib.crc32(masks.tobytes(), zlib.crc32(digests.tobytes()))


def digest(image: NDArray[np.uint8]) -> bytes:
    """16 bytes that stand for the pixels alone; their first eight place the item in the split."""
    content = np.ascontiguousarray(image).data
    return blake2b(content, digest_size=16, person=b"safelight split").digest()


@dataclass(frozen=True)
class Look:
    """An item before it is brought to one size. `bad`: why it cannot be decoded, "" where it can."""

    height: int
    width: int
    mode: str  # Pillow's: L, RGB, RGBA, I;16, CMYK ...
    format: str  # PNG, JPEG ...; "" for arrays
    digest: str  # of the pixels upright, so that copies are found whatever their file
    classes: tuple[int, ...] = ()  # class numbers in its mask
    bad: str = ""
    profile: str = ""  # colour profile, converted to sRGB
    left_out: bool = False  # by the recipe; `bad` is the reason


def look(reader: ImageReader, item: int) -> Look:
    """Decode an item at its own size, and its mask. Raises UserError where the disk is at fault."""
    try:
        if isinstance(reader, FileReader):
            return _look_at_file(reader, item)
        pixels = reader.read(item)
    except BadItem as reason:
        return Look(0, 0, "", "", "", bad=str(reason))
    height, width, channels = pixels.image.shape
    return Look(height, width, "L" if channels == 1 else "RGB", "", digest(pixels.image).hex(),
                _classes(pixels.mask))  # fmt: skip


def _look_at_file(reader: FileReader, item: int) -> Look:
    name = reader.files[item]
    try:
        with reader.tree.open(name) as file, open_image(file) as image:
            turned, mode, kind = orientation(image), image.mode, image.format or ""
            size = height_width(image, turned)
            profile = profile_name(image) if reader.how.profiles else ""
            if min(size) < reader.how.smallest:
                reason = f"below data.smallest={reader.how.smallest}"
                return Look(*size, mode, kind, "", bad=reason, left_out=True)
            pixels = decode(image, turned, size, 0, reader.how)
    except Exception as error:
        raise blamed(error, name) from error
    classes = _classes(reader.mask(item, size, size))
    return Look(*size, mode, kind, digest(pixels).hex(), classes, profile=profile)


def _classes(mask: NDArray[np.uint8] | None) -> tuple[int, ...]:
    return () if mask is None else tuple(np.unique(mask).tolist())
