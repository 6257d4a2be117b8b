"""Classes for images that have none: k-means of the images, averaged down.

A generator that is told the cluster of each image learns faster and better than one that is told nothing
(Bao et al. 2022, Hu et al. 2023), and unconditional samples are those of clusters drawn as often as they
occur. All sums are of integers that float64 holds exactly, so every machine finds the same clusters.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data.pack import Pack
from safelight.data.source import key
from safelight.store.durable import publish

SIDE = 16  # cells a side at most
FEW = 20_000  # images that the centres are made from
ROUNDS = 20
CHUNK = 4096  # images at once


def with_clusters(pack: Pack, count: int) -> Pack:
    """The pack with `count` clusters as its classes; made once, and kept with it. Raises UserError."""
    if "label" in pack.described:
        raise UserError("data.clusters: the images have classes; set data.labels=false, or remove the key")
    if len(pack.train) < 2 * count:
        raise UserError(f"data.clusters: {count} of {len(pack.train)} images; set at most half as many")
    path = pack.folder / f"clusters-{count}-{key(pack.train.tobytes())[:12]}.npy"
    try:
        labels = np.load(path)
    except (OSError, ValueError, EOFError):  # not made yet, or cut off
        labels = clusters(pack.images, pack.train, count)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.save(file, labels)
        publish(partial, path)
    return replace(
        pack,
        fingerprint=key(pack.fingerprint, "clusters", labels.tobytes()),
        given={**pack.given, "label": labels},
        covered={**pack.covered, "label": np.ones(len(pack), bool)},
        described={**pack.described, "label": ("label", count, tuple(map(str, range(count))))},
    )


def clusters(images: NDArray[np.uint8], train: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The cluster (N,) of each of images (N, H, W, C): the nearest of centres made from those trained on."""
    few = cells(images[train[np.linspace(0, len(train) - 1, min(FEW, len(train))).astype(np.int64)]])
    centres = few[np.linspace(0, len(few) - 1, count).astype(np.int64)]
    for _ in range(ROUNDS):
        nearest = _nearest(few, centres)
        ends = np.cumsum(np.bincount(nearest, minlength=count))[:-1]
        groups = np.split(few[np.argsort(nearest, kind="stable")], ends)
        means = [
            np.rint(group.mean(0)) if len(group) else old for group, old in zip(groups, centres, strict=True)
        ]
        centres = np.stack(means)
    chunks = (cells(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK))
    return np.concatenate([_nearest(chunk, centres) for chunk in chunks])


def cells(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Images (N, H, W, C) as whole numbers (N, D): sums of square cells, at most SIDE in each direction."""
    n, height, width, channels = images.shape
    cell = -(-max(height, width) // SIDE)
    rows, columns = max(1, height // cell), max(1, width // cell)
    cut = images[:, : rows * cell, : columns * cell].reshape(n, rows, -1, columns, min(cell, width), channels)
    return np.asarray(cut.sum((2, 4), dtype=np.int64) // cell**2, np.float64).reshape(n, -1)


def _nearest(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """The nearest centre of each point, the first of equally near ones."""
    parts = [points[start : start + CHUNK] for start in range(0, len(points), CHUNK)]
    squares = (centres * centres).sum(1)
    return np.concatenate([(squares - 2 * (part @ centres.T)).argmin(1) for part in parts])
