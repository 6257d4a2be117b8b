"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017), as their authors published them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from safelight.config import UserError
from safelight.data import condition
from safelight.data.arrays import ArrayReader, joined, shape_of
from safelight.data.cache import cache_dir
from safelight.data.config import Data
from safelight.data.download import download
from safelight.data.idx import read_idx
from safelight.data.npz import Array
from safelight.data.source import HELD_OUT, TRAIN, Items, Progress, Source, key, stamp

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
        shape = shape_of(parts["train"][0], config)
        classes = np.concatenate([labels for _, labels in parts.values()])
        sides = [
            TRAIN if part == "train" else HELD_OUT for part, (images, _) in parts.items() for _ in images
        ]
        return Items(
            names=[f"{part}/{row:05d}" for part, (images, _) in parts.items() for row in range(len(images))],
            shape=shape,
            reader=joined([ArrayReader(images, shape) for images, _ in parts.values()]),
            columns={"label": condition.label(classes, data.classes)} if config.labels else {},
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
