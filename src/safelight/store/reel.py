"""A reel: pictures of the watched specimens, taken every few steps while a run trains.

Each picture is a lossless WebP, alone (measured on 64x64 skylines: see docs/log.md); files and their heads
are those of `segment`. Writing one changes no weight.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.config import UserError
from safelight.store import segment
from safelight.store.durable import Announce, silence
from safelight.store.segment import Place

Picture = NDArray[np.uint8]  # (H, W, C)


class ReelWriter:
    """The writer of one session's pictures; hold the run's lock. Close it."""

    def __init__(self, run: Path, session: int, announce: Announce = silence) -> None:
        self._file = segment.Appender(run, session, segment.REEL, announce)
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
        self._places: dict[tuple[int, str], tuple[Place, int]] = {}  # and its number in the frame
        for path in segment.files(run, segment.REEL):
            own = segment.scan(path)
            self.damage += [own.damage] if own.damage else []
            for place in own.places:  # a later session's picture takes the place of an equal one
                self._places |= {(place.step, str(one)): (place, at) for at, one in enumerate(own.holds)}

    def __contains__(self, at: tuple[int, str]) -> bool:
        return at in self._places

    def steps(self, one: str) -> list[int]:
        """Steps at which there is a picture of a specimen, increasing."""
        return sorted(step for step, own in self._places if own == one)

    def read(self, step: int, one: str) -> Picture:
        """The picture of a specimen at a step. Raises UserError where there is none, or it is damaged."""
        if (step, one) not in self._places:
            raise UserError(f"{self.run.name}: its films have no picture of {one} at step {step}")
        place, number = self._places[step, one]
        try:
            return _decoded(_split(segment.read_data(place))[number])
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
