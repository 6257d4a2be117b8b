"""idx files, the format of MNIST (LeCun et al. 1998): a user's, and MNIST and Fashion-MNIST as published."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data import columns
from safelight.data.arrays import ArrayReader, check_images, shape_of
from safelight.data.cache import cache_dir, download
from safelight.data.config import Data
from safelight.data.source import HELD_OUT, TRAIN, Items, Progress, Source, key, stamp
from safelight.files import opened

UNSIGNED_BYTES = 0x08  # the only element type these files use
MOST_DIMENSIONS = 4
DEFLATE = 1040  # times smaller, at most, that gzip makes anything


@dataclass(frozen=True)
class Published:
    """A data set as its authors published it, in the four files of MNIST."""

    name: str
    classes: tuple[str, ...]
    sums: tuple[str, str, str, str]  # md5 of FILES
    mirrors: tuple[str, ...]
    installed: tuple[Path, ...] = ()  # where a package of the system puts it


PARTS = {  # images, labels
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
}
FILES = [name for part in PARTS.values() for name in part]
MNIST = Published(  # LeCun et al. 1998
    "mnist",
    tuple("0123456789"),
    ("9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c",
     "f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432"),
    ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
)  # fmt: skip
FASHION_MNIST = Published(  # Xiao et al. 2017
    "fashion-mnist",
    ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310",
     "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
    ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
     "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
    (Path("/usr/share/datasets/fashion-mnist"),),  # Debian's dataset-fashion-mnist
)  # fmt: skip


def idx(config: Data) -> Source:
    """Images from an idx file, or every one in a folder; labels from the file beside it of that name.

    train-images-idx3-ubyte has its labels in train-labels-idx1-ubyte. Where some files are named test or
    t10k and others are not, those are the official split. Raises UserError.
    """
    assert config.place
    root = Path(config.place)
    paths = sorted(path for path in root.iterdir() if _is_images(path)) if root.is_dir() else [root]
    if not paths:
        raise UserError(f"data.path: {root} holds no idx file with images in its name")
    files = {
        path.name.removesuffix(".gz"): (path, _labels_of(path) if config.labels else None) for path in paths
    }
    stamps = tuple(stamp(path) for path in (*paths, *(labels for _, labels in files.values())) if path)
    choices = (config.height_width, config.channels, config.labels)
    name = root.name.removesuffix(".gz")
    return Source(name, key("idx", choices, stamps), lambda: _items(files, config, digits=7))


def published(data: Published, config: Data, progress: Progress | None = None) -> Source:
    """The published data set: from data.path, where the system has it, the cache, or its mirrors.

    Raises UserError where files are missing or cannot be downloaded.
    """
    paths = _find(data, config.place or None, progress)
    files = {part: (paths[images], paths[labels] if config.labels else None)
             for part, (images, labels) in PARTS.items()}  # fmt: skip
    choices = (config.height_width, config.channels, config.labels)
    stamps = tuple(stamp(path) for path in paths.values())
    return Source(
        data.name, key(data.name, choices, stamps), lambda: _items(files, config, digits=5, known=data)
    )


def _items(
    files: Mapping[str, tuple[Path, Path | None]], config: Data, digits: int, known: Published | None = None
) -> Items:
    """Items of image files with their files of labels. files: by the first part of the items' names."""
    parts = {part: read_idx(path) for part, (path, _) in files.items()}
    labels = []
    for part, (path, path_of_labels) in files.items():
        check_images(str(path), parts[part])
        if path_of_labels is not None:
            labels.append(_read_labels(path, parts[part], path_of_labels, known))
    label = None
    if len(labels) == len(files):  # none unless each file has its own
        classes = np.concatenate(labels)
        where = str(next(iter(files.values()))[0])
        label = columns.label(classes, known.classes) if known else columns.classes_of(classes, where)
    shape = shape_of([*parts.values()], config)
    tests = {part: part.startswith("t10k") or "test" in part.lower() for part in parts}
    rows = [(part, row) for part, images in parts.items() for row in range(len(images))]
    sides = np.array([HELD_OUT if tests[part] else TRAIN for part, _ in rows], np.int8)
    return Items(
        names=[f"{part}/{row:0{digits}d}" for part, row in rows],
        shape=shape,
        reader=ArrayReader([*parts.values()], shape),
        columns={"label": label} if label else {},
        official=sides if len({*tests.values()}) == 2 else None,
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


def _read_labels(
    path: Path, images: NDArray[np.uint8], labels: Path, known: Published | None
) -> NDArray[np.uint8]:
    classes = read_idx(labels)
    if classes.shape != images.shape[:1]:
        raise UserError(
            f"{path}: shape {images.shape} does not go with {labels.name} of shape {classes.shape}; "
            "expected (N, H, W) and (N,)"
        )
    if known and classes.max() >= len(known.classes):
        raise UserError(
            f"{labels}: has a label {classes.max()}, but {known.name} has {len(known.classes)} classes"
        )
    return classes


def _is_images(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return "images" in name and name.endswith(("ubyte", ".idx")) and path.is_file()


def _labels_of(path: Path) -> Path | None:
    """The file of labels beside a file of images, gzipped or not."""
    name = path.name.removesuffix(".gz").replace("images", "labels")
    name = name.replace("idx3", "idx1").replace("idx4", "idx1")
    candidates = [path.with_name(name), path.with_name(f"{name}.gz")]
    return next((labels for labels in candidates if labels.name != path.name and labels.is_file()), None)


def _find(data: Published, path: str | None, progress: Progress | None) -> dict[str, Path]:
    if path is not None:
        paths = _in_folder(Path(path).expanduser().resolve())
        if missing := [name for name in FILES if name not in paths]:
            raise UserError(
                f"data.path: {path} does not hold {missing[0]}, which {data.name} needs; "
                "for images of your own set data.source=folder"
            )
        return paths
    for folder in data.installed:
        paths = _in_folder(folder)
        if len(paths) == len(FILES):
            return paths
    cache = cache_dir("downloads", data.name)
    sums = zip(FILES, data.sums, strict=True)
    return {name: download(name, md5, data.mirrors, cache, progress) for name, md5 in sums}


def _in_folder(folder: Path) -> dict[str, Path]:
    """Those of the files that a folder holds, gzipped or unpacked."""
    return {name: path for name in FILES for path in (folder / name.removesuffix(".gz"), folder / name)
            if path.is_file()}  # fmt: skip
