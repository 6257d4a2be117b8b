"""tape/<session>-<step>.tape, films/<session>-<step>.reel: a stretch of frames; the first stands alone.

A first line, sealed JSON, names what a frame holds. Then frames are appended: a head of fixed length
(magic, step, length, checksum of the data, checksum of the head) and the data. The heads are the index, so
that there is none to be lost. A frame that a crash tore off at the end of a file was never there; later
sessions write files of their own, and their frames take the place of those from their first step on.

A reel holds pictures of the watched specimens, each a lossless WebP (measured on 64x64 skylines: see
docs/log.md). Writing frames changes no weight.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.config import UserError
from safelight.files import opened
from safelight.store import sealed
from safelight.store.durable import Announce, append, fsync_directory, mendable, silence

MAGIC = b"slfr"
HEAD = struct.Struct("<4sQQ8s")  # magic, step, bytes of data, their checksum; a CRC-32 of these follows
SIZE = HEAD.size + 4
LONGEST = 1 << 26  # bytes of a first line


@dataclass(frozen=True)
class Kind:
    """Where files of frames are kept, and how they end."""

    folder: str
    ending: str


TAPE, REEL = Kind("tape", ".tape"), Kind("films", ".reel")


@dataclass(frozen=True)
class FrameLocation:
    """Where a frame is."""

    path: Path
    number: int  # in its file, from 0; on a tape each but 0 is a difference from the one before it
    step: int
    offset: int  # of its data
    length: int
    check: bytes


@dataclass(frozen=True)
class Segment:
    """A file by its heads; its frames' data have not been read."""

    path: Path
    step: int  # of its first frame
    holds: Sequence[Any]  # what is in a frame, in its order
    places: Sequence[FrameLocation]
    damage: str = ""  # what cannot be read


def name(session: int, step: int, kind: Kind = TAPE) -> str:
    """What a session calls the file whose first frame is of a step."""
    return f"{session:04d}-{step:08d}{kind.ending}"


def first_line(holds: Sequence[Any]) -> bytes:
    """What a file begins with."""
    return sealed.line({"holds": holds})


def head(step: int, data: bytes) -> bytes:
    """What stands before the data of a frame."""
    fixed = HEAD.pack(MAGIC, step, len(data), checksum(data))
    return fixed + struct.pack("<I", zlib.crc32(fixed))


def checksum(data: bytes) -> bytes:
    """8 bytes that tell data apart."""
    return blake2b(data, digest_size=8).digest()


class Appender:
    """Appends the frames of one session to files of its own; hold the run's lock. Close it."""

    def __init__(self, run: Path, session: int, kind: Kind, announce: Announce = silence) -> None:
        self._folder, self._session, self._kind, self._announce = run / kind.folder, session, kind, announce
        self._file: IO[bytes] | None = None

    def append(self, step: int, data: bytes, holds: Sequence[Any]) -> int:
        """Write a frame through to the system, all or nothing; returns its bytes.

        holds: what the first line says, if this frame begins a file. Raises UserError where the disk cannot.
        """
        text = head(step, data) + data
        if self._file is None:
            text = first_line(holds) + text
        path = Path(self._file.name) if self._file else self._folder / name(self._session, step, self._kind)
        with mendable(path):
            if self._file is None:
                self._folder.mkdir(exist_ok=True)
                self._file = path.open("xb", buffering=0)
                fsync_directory(self._folder)
            self._announce(f"{self._kind.folder}.append")
            append(self._file.fileno(), text)
        return len(text)

    def sync(self) -> None:
        """Make the frames so far durable, for example before the checkpoint that makes them final."""
        if self._file is not None:
            with mendable(Path(self._file.name)):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Give the file back, its frames durable. The next frame begins another. May be called twice."""
        if self._file is not None:
            self.sync()
            self._file.close()
            self._file = None


def files(run: Path, kind: Kind = TAPE) -> list[Path]:
    """The files of a run's tape or films, in the order of their sessions and steps."""
    numbered = [(int(match[1]), int(match[2]), path) for path in (run / kind.folder).glob(f"*{kind.ending}")
                if (match := re.fullmatch(r"(\d{1,15})-(\d{1,15})", path.stem))]  # fmt: skip
    return [path for _, _, path in sorted(numbered)]


def scan(path: Path) -> Segment:
    """A file's heads. Damage is told in the segment; raises UserError where it cannot be read at all."""
    step = int(path.stem.partition("-")[2])
    with mendable(path), opened(path, links=False) as file:
        size = file.seek(0, 2)
        file.seek(0)
        line = file.readline(LONGEST)
        fields = sealed.unseal(line) if line.endswith(b"\n") else {"holds": []}  # torn: nothing follows
        if fields is None or not isinstance(fields.get("holds"), list):
            return lost(path)
        places, damage = _places(path, file, size)
    return Segment(path, step, fields["holds"], places, damage)


def lost(path: Path) -> Segment:
    """A file of which no frame can be read, as nothing says what is in them."""
    step = int(path.stem.partition("-")[2])
    return Segment(path, step, [], [], f"{path}: its first line is damaged; its frames are lost")


def _places(path: Path, file: IO[bytes], size: int) -> tuple[list[FrameLocation], str]:
    """The frames from where the file stands, and what is wrong with the first that is damaged."""
    places: list[FrameLocation] = []
    while len(text := file.read(SIZE)) == SIZE:
        fixed = text[: HEAD.size]
        magic, step, length, check = HEAD.unpack(fixed)
        if magic != MAGIC or text != fixed + struct.pack("<I", zlib.crc32(fixed)):
            last = f"after that of step {places[-1].step}" if places else "from the first on"
            return places, f"{path}: the frames {last} are lost: a head is damaged"
        if file.tell() + length > size:
            break  # torn
        places.append(FrameLocation(path, len(places), step, file.tell(), length, check))
        file.seek(length, 1)
    return places, ""


def read_data(place: FrameLocation) -> bytes:
    """The data of a frame. Raises UserError naming the frame where they are not what was written."""
    with mendable(place.path), opened(place.path, links=False) as file:
        file.seek(place.offset)
        data = file.read(place.length)
    if checksum(data) != place.check:
        raise UserError(f"{place.path}: the frame of step {place.step} is damaged")
    return data


Picture = NDArray[np.uint8]  # (H, W, C)


class ReelWriter:
    """The writer of one session's pictures; hold the run's lock. Close it."""

    def __init__(self, run: Path, session: int, announce: Announce = silence) -> None:
        self._file = Appender(run, session, REEL, announce)
        self._ids: list[str] = []

    def append(self, step: int, pictures: Mapping[str, Picture]) -> int:
        """Write the pictures of a step by the ids of their specimens; returns the bytes. Raises UserError."""
        if list(pictures) != self._ids:  # they were edited: another file
            self._file.close()
            self._ids = list(pictures)
        data = b"".join(len(text).to_bytes(4, "little") + text for text in map(_encoded, pictures.values()))
        return self._file.append(step, data, self._ids)

    def sync(self) -> None:
        """Make the pictures so far durable."""
        self._file.sync()

    def close(self) -> None:
        """Give the file back, its pictures durable. May be called twice."""
        self._file.close()


class ReelReader:
    """The pictures of a run's films as they are on disk when it is opened."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.damage: list[str] = []  # a line for each file of which pictures are known to be lost
        self._places: dict[tuple[int, str], tuple[FrameLocation, int]] = {}  # and its number in the frame
        for path in files(run, REEL):
            segment = scan(path)
            self.damage += [segment.damage] if segment.damage else []
            for place in segment.places:  # a later session's picture takes the place of an equal one
                self._places |= {(place.step, str(id)): (place, at) for at, id in enumerate(segment.holds)}

    def __contains__(self, at: tuple[int, str]) -> bool:
        return at in self._places

    def steps(self, id: str) -> list[int]:
        """Steps at which there is a picture of a specimen, increasing."""
        return sorted(step for step, there in self._places if there == id)

    def read(self, step: int, id: str) -> Picture:
        """The picture of a specimen at a step. Raises UserError where there is none, or it is damaged."""
        if (step, id) not in self._places:
            raise UserError(f"{self.run.name}: its films have no picture of {id} at step {step}")
        place, number = self._places[step, id]
        try:
            return _decoded(_split(read_data(place))[number])
        except (UserError, IndexError) as error:
            raise UserError(f"{place.path}: the frame of step {place.step} is damaged ({error})") from error


def _split(data: bytes) -> Sequence[bytes]:
    parts, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        parts.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return parts


def _encoded(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    picture = picture[:, :, :3]  # films are of what is seen
    grey = picture.shape[2] == 1
    buffer.write(bytes([picture.shape[2]]))
    Image.fromarray(picture[:, :, 0] if grey else picture).convert("RGB").save(
        buffer, "WEBP", lossless=True, quality=60, method=2
    )
    return buffer.getvalue()


def _decoded(data: bytes) -> Picture:
    try:
        with Image.open(io.BytesIO(data[1:]), formats=["WEBP"]) as image:
            return np.asarray(image.convert("RGB"))[:, :, : data[0]].copy()
    except (OSError, ValueError, IndexError, Image.DecompressionBombError) as error:
        raise UserError("is no picture") from error
