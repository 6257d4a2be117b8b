"""idx files, the format of MNIST (LeCun et al. 1998): their arrays, and data in files of one's own."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data import columns
from safelight.data.arrays import ArrayReader, check_images, joined, shape_of
from safelight.data.cache import cache_dir, download
from safelight.data.columns import ConditionColumn
from safelight.data.config import Data
from safelight.data.npz import Array
from safelight.data.source import HELD_OUT, TRAIN, Items, Progress, Source, key, stamp
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


def _label(paths: list[Path | None]) -> dict[str, ConditionColumn]:
    """The classes of all files; none unless each has its own."""
    known = [read_idx(path) for path in paths if path is not None]
    if len(known) < len(paths):
        return {}
    return {"label": columns.classes_of(np.concatenate(known), str(paths[0]))}


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


# --- MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017), as their authors published them ---

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
    ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
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
        shape = shape_of(parts["train"][0], config)
        classes = np.concatenate([labels for _, labels in parts.values()])
        sides = [
            TRAIN if part == "train" else HELD_OUT for part, (images, _) in parts.items() for _ in images
        ]
        return Items(
            names=[f"{part}/{row:05d}" for part, (images, _) in parts.items() for row in range(len(images))],
            shape=shape,
            reader=joined([ArrayReader(images, shape) for images, _ in parts.values()]),
            columns={"label": columns.label(classes, data.classes)} if config.labels else {},
            official=np.array(sides, np.int8),
        )

    choices = (config.height_width, config.channels, config.labels)
    stamps = tuple(stamp(path) for path in paths.values())
    return Source(data.name, key(data.name, choices, stamps), items)


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


def _read_part(images: Path, labels: Path, data: Published) -> tuple[Array, Array]:
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
