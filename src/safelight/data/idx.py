"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017), and the idx files they come in."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.config import UserError
from safelight.data.cache import cache_dir
from safelight.data.config import Data
from safelight.data.download import download
from safelight.data.image import fit
from safelight.data.source import Item, Items, Progress, Source, key, stamp
from safelight.types import Condition

UNSIGNED_BYTES = 0x08  # the only element type these files use
FILES = {  # by part of the data: images, labels
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
}


@dataclass(frozen=True)
class Published:
    """A data set as its authors published it."""

    name: str
    classes: tuple[str, ...]
    sums: tuple[tuple[str, str], ...]  # file, md5
    mirrors: tuple[str, ...]
    installed: tuple[Path, ...] = ()  # where a package of the system puts it


MNIST = Published(
    "mnist",
    tuple("0123456789"),
    (
        ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
    (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
)
FASHION_MNIST = Published(
    "fashion-mnist",
    ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    (
        ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
    (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    (Path("/usr/share/datasets/fashion-mnist"),),  # Debian's dataset-fashion-mnist
)


def published(data: Published, config: Data, progress: Progress | None = None) -> Source:
    """The published data set: from data.path, where the system has it, the cache, or its mirrors.

    Raises UserError where files are missing or cannot be downloaded.
    """
    paths = _find(data, config.path, progress)

    def items() -> Items:
        parts = {
            part: _read_part(paths[images], paths[labels], data) for part, (images, labels) in FILES.items()
        }
        height, width = config.height_width or parts["train"][0].shape[1:]
        shape = (height, width, config.channels or 1)
        places = [(part, index) for part, (_, labels) in parts.items() for index in range(len(labels))]

        def read(index: int) -> Item:
            part, place = places[index]
            images, labels = parts[part]
            given = {"label": np.int64(labels[place])} if config.labels else {}
            return Item(fit(Image.fromarray(images[place]), shape), given, held_out=part == "test")

        conditions = {"label": Condition("label", len(data.classes), data.classes)} if config.labels else {}
        return Items(shape, conditions, [f"{part}/{place:05d}" for part, place in places], read)

    choices = (config.height_width, config.channels, config.labels)
    stamps = tuple(stamp(path) for path in paths.values())
    return Source(data.name, key(data.name, choices, stamps), items)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an idx file of bytes, gzipped or not. Raises UserError naming the file."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except OSError as error:  # gzip's own complaints among them
        raise UserError(f"{path}: cannot be read ({error}); fetch it again") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: is damaged or cut off ({error}); fetch it again") from error
    dimensions = content[3] if len(content) >= 4 and content[:3] == bytes((0, 0, UNSIGNED_BYTES)) else 0
    header = 4 + 4 * dimensions
    if dimensions == 0 or len(content) < header:
        raise UserError(f"{path}: is not an idx file of bytes; fetch it again")
    shape = tuple(np.frombuffer(content, ">u4", dimensions, offset=4).tolist())
    if len(content) != header + math.prod(shape):
        raise UserError(
            f"{path}: holds {len(content) - header} bytes, but its header says {math.prod(shape)}; "
            "fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _find(data: Published, path: str | None, progress: Progress | None) -> dict[str, Path]:
    names = [name for pair in FILES.values() for name in pair]
    if path is not None:
        found = _in_folder(Path(path).expanduser().resolve(), names)
        missing = [name for name in names if name not in found]
        if missing:
            raise UserError(
                f"data.path: {path} does not hold {missing[0]}, which {data.name} needs; "
                "for images of your own set data.source=folder"
            )
        return found
    for folder in data.installed:
        found = _in_folder(folder, names)
        if len(found) == len(names):
            return found
    cache, sums = cache_dir("downloads", data.name), dict(data.sums)
    return {name: download(name, sums[name], data.mirrors, cache, progress) for name in names}


def _in_folder(folder: Path, names: list[str]) -> dict[str, Path]:
    """Those of the files that a folder holds, gzipped or unpacked."""
    candidates = {name: (folder / name, folder / name.removesuffix(".gz")) for name in names}
    return {name: path for name, pair in candidates.items() for path in pair[::-1] if path.is_file()}


def _read_part(images: Path, labels: Path, data: Published) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    pixels, classes = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or not pixels.size or classes.ndim != 1 or len(pixels) != len(classes):
        raise UserError(
            f"{images}: shape {pixels.shape} does not go with {labels.name} of shape {classes.shape}; "
            "expected (N, H, W) and (N,)"
        )
    if classes.max() >= len(data.classes):
        raise UserError(
            f"{labels}: has a label {classes.max()}, but {data.name} has {len(data.classes)} classes"
        )
    return pixels, classes
