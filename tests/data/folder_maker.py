"""Six small pictures, known by their grey levels, and texts beside them, written in the manner of a quirk."""

from __future__ import annotations

import json
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

COUNT = 6
SIDE = 8
WORDS = ("a red, round thing", "un café", "a house", "ein Haus", "a tree: tall", "猫")


@dataclass
class Said:
    """What a layout says of its pictures, by picture."""

    labels: tuple[str | None, ...] = ()
    order: tuple[str, ...] = ()  # of the classes, where it is not that of their names
    captions: tuple[tuple[str, ...], ...] = ()
    masked: bool = False
    over: int = 0  # the class that is in a mask where class 1 is not
    attributes: dict[str, tuple[float, ...]] = field(default_factory=dict)
    held_out: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    keys: dict[str, object] = field(default_factory=dict)


@dataclass
class Maker:
    """Writes pictures and texts into a folder, in the manner of a quirk."""

    folder: Path
    suffix: str = ".png"
    stem: str = "p{}"
    ends: str = "\n"
    encoding: str = "utf-8"

    def name(self, number: int, tail: str = "") -> str:
        return f"{self.stem.format(number)}{tail}{self.suffix}"

    def place(self, path: str) -> Path:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        return self.folder / path

    def picture(self, number: int, below: str = "") -> str:
        path = f"{below}{self.name(number)}"
        Image.fromarray(np.full((SIDE, SIDE), level(number), np.uint8)).save(self.place(path), "PNG")
        return path

    def pictures(self, below: str = "") -> list[str]:
        return [self.picture(number, below) for number in range(COUNT)]

    def mask(self, number: int, path: str) -> str:
        Image.fromarray(mask(number)).save(self.place(path), "PNG")
        return path

    def text(self, path: str, content: str) -> None:
        self.place(path).write_bytes(content.replace("\n", self.ends).encode(self.encoding))

    def json(self, path: str, content: object) -> None:
        self.text(path, json.dumps(content, indent=1))


def level(number: int) -> int:
    return min(20 + 30 * number, 255)


def mask(number: int) -> np.ndarray:
    """Class 1 in as many rows as the number and one more."""
    return (np.arange(SIDE)[:, None] <= number).repeat(SIDE, 1).astype(np.uint8)


def packed_tar(folder: Path, out: Path, mode: str = "w", prefix: str = "") -> Path:
    with tarfile.open(out, mode) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.add(path, prefix + path.relative_to(folder).as_posix())
    return out


def packed_zip(folder: Path, out: Path, prefix: str = "", slash: str = "/") -> Path:
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = zipfile.ZipInfo("x")
                name.filename = prefix + path.relative_to(folder).as_posix().replace("/", slash)
                archive.writestr(name, path.read_bytes())
    return out
