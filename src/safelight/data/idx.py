"""idx files, the format of MNIST (LeCun et al. 1998): their arrays, and data in files of one's own."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data import condition
from safelight.data.arrays import ArrayReader, check_images, joined, shape_of
from safelight.data.condition import Column
from safelight.data.config import Data
from safelight.data.source import HELD_OUT, TRAIN, Items, Source, key, stamp
from safelight.files import opened

UNSIGNED_BYTES = 0x08  # the only element type these files use
MOST_DIMENSIONS = 4
DEFLATE = 1040  # times smaller, at most, that gzip makes anything


def idx(config: Data) -> Source:
    """Images from an idx file, or every one in a folder; labels from the file beside it of that name.

    train-images-idx3-ubyte has its labels in train-labels-idx1-ubyte. Where some files are named test or
    t10k and others are not, those are the official split. Raises UserError.
    """
    assert config.path is not None
    root = Path(config.path)
    paths = sorted(path for path in root.iterdir() if _is_images(path)) if root.is_dir() else [root]
    if not paths:
        raise UserError(f"data.path: {root} holds no idx file with images in its name")
    labels = [_labels_of(path) if config.labels else None for path in paths]
    try:
        stamps = tuple(stamp(path) for path in (*paths, *labels) if path)
    except OSError as error:
        raise UserError(f"data.path: {error.filename} cannot be read ({error.strerror})") from error
    choices = (config.height_width, config.channels, config.labels)

    def items() -> Items:
        return items_of([*zip(paths, labels, strict=True)], config)

    return Source(root.name.removesuffix(".gz"), key("idx", choices, stamps), items)


def items_of(files: list[tuple[Path, Path | None]], config: Data) -> Items:
    """Items of image files, each with its file of labels, in the order of their names."""
    parts = []
    for path, labels in files:
        images = read_idx(path)
        check_images(str(path), images)
        if labels is not None:
            _check_pair(path, images, labels)
        parts.append(images)
    if len({images.shape[1:] for images in parts}) > 1 and not config.height_width:
        raise UserError(f"data.size: is needed, as the files of {config.path} have images of different sizes")
    shape = shape_of(parts[0], config)
    stems = [path.name.removesuffix(".gz") for path, _ in files]
    tests = [stem.startswith("t10k") or "test" in stem.lower() for stem in stems]
    sides = [HELD_OUT if test else TRAIN for test, images in zip(tests, parts, strict=True) for _ in images]
    return Items(
        names=[
            f"{stem}/{row:07d}"
            for stem, images in zip(stems, parts, strict=True)
            for row in range(len(images))
        ],
        shape=shape,
        reader=joined([ArrayReader(images, shape) for images in parts]),
        columns=_label([labels for _, labels in files]),
        official=np.array(sides, np.int8) if len(set(tests)) == 2 else None,
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an idx file of bytes, gzipped or not; one that is not stays on disk.

    Raises UserError naming the file.
    """
    try:
        with opened(path) as file:
            packed = file.read(2) == b"\x1f\x8b"
        size = path.stat().st_size
        with gzip.open(path) if packed else path.open("rb") as file:
            shape, header = _header(path, file.read(4 + 4 * MOST_DIMENSIONS))
            count = math.prod(shape)
            if packed:
                file.seek(header)
                held = file.read(count + 1) if count <= size * DEFLATE else b""
                array = np.frombuffer(held, np.uint8)
                length = len(held)
            else:
                length = size - header
                array = np.memmap(file, np.uint8, "r", header) if length else np.zeros(0, np.uint8)
    except OSError as error:  # gzip's own complaints among them
        raise UserError(f"{path}: cannot be read ({error}); fetch it again") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: is damaged or cut off ({error}); fetch it again") from error
    if length != count:
        raise UserError(f"{path}: holds {length} bytes, but its header says {count}; fetch it again")
    return array.reshape(shape)


def _header(path: Path, content: bytes) -> tuple[tuple[int, ...], int]:
    """Shape, and bytes that the header takes."""
    dimensions = content[3] if len(content) >= 4 and content[:3] == bytes((0, 0, UNSIGNED_BYTES)) else 0
    header = 4 + 4 * dimensions
    if not 0 < dimensions <= MOST_DIMENSIONS or len(content) < header:
        raise UserError(f"{path}: is not an idx file of bytes; fetch it again")
    return tuple(np.frombuffer(content, ">u4", dimensions, offset=4).tolist()), header


def _check_pair(path: Path, images: NDArray[np.uint8], labels: Path) -> None:
    classes = read_idx(labels)
    if classes.shape != images.shape[:1]:
        raise UserError(
            f"{path}: shape {images.shape} does not go with {labels.name} of shape {classes.shape}; "
            "expected (N, H, W) and (N,)"
        )


def _label(paths: list[Path | None]) -> dict[str, Column]:
    """The classes of all files; none unless each has its own."""
    known = [read_idx(path) for path in paths if path is not None]
    if len(known) < len(paths):
        return {}
    return {"label": condition.classes_of(np.concatenate(known), str(paths[0]))}


def _is_images(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return "images" in name and name.endswith(("ubyte", ".idx")) and path.is_file()


def _labels_of(path: Path) -> Path | None:
    """The file of labels beside a file of images, gzipped or not."""
    name = (
        path.name.removesuffix(".gz")
        .replace("images", "labels")
        .replace("idx3", "idx1")
        .replace("idx4", "idx1")
    )
    there = [path.with_name(name), path.with_name(f"{name}.gz")]
    return next((labels for labels in there if labels.name != path.name and labels.is_file()), None)
