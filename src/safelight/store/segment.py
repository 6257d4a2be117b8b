"""tape/<session>-<step>.tape: a stretch of frames, of which the first stands alone.

A first line, sealed JSON, names the tensors of a frame. Then frames are appended: a head of fixed length
(magic, step, length, checksum of the data, checksum of the head) and the data. The heads are the index, so
that there is none to be lost. A frame that a crash tore off at the end of a file was never there; later
sessions write files of their own, and their frames take the place of those from their first step on.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from safelight.config import UserError
from safelight.store import sealed
from safelight.store.durable import mendable

FOLDER = "tape"
MAGIC = b"slfr"
HEAD = struct.Struct("<4sQQ8s")  # magic, step, bytes of data, their checksum; a CRC-32 of these follows
SIZE = HEAD.size + 4


@dataclass(frozen=True)
class Place:
    """Where a frame is."""

    path: Path
    number: int  # in its file, from 0; each but 0 is a difference from the one before it
    step: int
    offset: int  # of its data
    length: int
    check: bytes


@dataclass(frozen=True)
class Segment:
    """A file of a tape by its heads; its frames' data have not been read."""

    path: Path
    step: int  # of its first frame
    tensors: Sequence[Any]  # [network, name, dtype, shape], in the order of a frame
    places: Sequence[Place]
    damage: str = ""  # what cannot be read


def name(session: int, step: int) -> str:
    """What a session calls the file whose first frame is of a step."""
    return f"{session:04d}-{step:08d}.tape"


def first_line(tensors: Sequence[Any]) -> bytes:
    """What a file begins with."""
    return sealed.line({"tensors": tensors})


def head(step: int, data: bytes) -> bytes:
    """What stands before the data of a frame."""
    fixed = HEAD.pack(MAGIC, step, len(data), checksum(data))
    return fixed + struct.pack("<I", zlib.crc32(fixed))


def checksum(data: bytes) -> bytes:
    """8 bytes that tell data apart."""
    return blake2b(data, digest_size=8).digest()


def files(run: Path) -> list[Path]:
    """The files of a run's tape, in the order of their sessions and steps."""
    numbered = [(int(found[1]), int(found[2]), path) for path in (run / FOLDER).glob("*.tape")
                if (found := re.fullmatch(r"(\d+)-(\d+)\.tape", path.name))]  # fmt: skip
    return [path for _, _, path in sorted(numbered)]


def scan(path: Path) -> Segment:
    """A file's heads. Damage is told in the segment; raises UserError where it cannot be read at all."""
    step = int(path.stem.partition("-")[2])
    with mendable(path), path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        line = file.readline()
        fields = sealed.unseal(line) if line.endswith(b"\n") else {"tensors": []}  # torn: nothing follows
        if fields is None:
            return Segment(path, step, [], [], f"{path}: its first line is damaged; its frames are lost")
        places, damage = _places(path, file, size)
    return Segment(path, step, fields["tensors"], places, damage)


def _places(path: Path, file: IO[bytes], size: int) -> tuple[list[Place], str]:
    """The frames from where the file stands, and what is wrong with the first that is damaged."""
    places: list[Place] = []
    while len(text := file.read(SIZE)) == SIZE:
        fixed = text[: HEAD.size]
        magic, step, length, check = HEAD.unpack(fixed)
        if magic != MAGIC or text != fixed + struct.pack("<I", zlib.crc32(fixed)):
            last = f"after that of step {places[-1].step}" if places else "from the first on"
            return places, f"{path}: the frames {last} are lost: a head is damaged"
        if file.tell() + length > size:
            break  # torn
        places.append(Place(path, len(places), step, file.tell(), length, check))
        file.seek(length, 1)
    return places, ""


def read_data(place: Place) -> bytes:
    """The data of a frame. Raises UserError naming the frame where they are not what was written."""
    with mendable(place.path), place.path.open("rb") as file:
        file.seek(place.offset)
        data = file.read(place.length)
    if checksum(data) != place.check:
        raise UserError(f"{place.path}: the frame of step {place.step} is damaged")
    return data
