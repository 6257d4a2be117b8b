"""Features of real images, computed once: cached by the data's content and the extractor's hash."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from safelight.data.cache import cache_dir, move_into_place
from safelight.data.pack import Pack
from safelight.data.source import Progress, key
from safelight.draw import permutation
from safelight.evaluate.features import BATCH, Extractor, Features, extract

BLOCK = 1000  # items a file: a larger reference reuses the smaller one's, an interrupted one goes on


def reference_items(pack: Pack, count: int) -> NDArray[np.int64]:
    """At most `count` training items in a keyed order, of which a smaller count takes the first."""
    return pack.train[permutation(len(pack.train), "reference")][:count]


def real_features(
    extractor: Extractor, pack: Pack, items: NDArray[np.int64], progress: Progress | None = None
) -> Features:
    """Features of items of a pack, in their order."""
    folder = cache_dir("features", key(pack.fingerprint, extractor.hash, extractor.rule)[:24])
    done: list[Features] = []
    for start in range(0, len(items), BLOCK):
        block = items[start : start + BLOCK]
        name = blake2b(np.ascontiguousarray(block).tobytes(), digest_size=12).hexdigest()
        path = folder / f"{name}.safetensors"
        own = _load(path)
        if own is None:
            own = extract(extractor, (pack.images[block[i : i + BATCH]] for i in range(0, len(block), BATCH)))
            _save(path, own)
        done.append(Features(own.values.to(extractor.home), own.classes))
        if progress:
            progress("features of real images", start + len(block), len(items))
    return joined(done)


def joined(parts: list[Features]) -> Features:
    """Features of several sets of images, one after another."""
    classes = [part.classes for part in parts if part.classes is not None]
    return Features(torch.cat([part.values for part in parts]), torch.cat(classes) if classes else None)


def _load(path: Path) -> Features | None:
    try:
        tensors = load_file(path)
    except (OSError, safetensors.SafetensorError):
        return None  # absent, or cut off: computed anew
    return Features(tensors["values"], tensors.get("classes"))


def _save(path: Path, features: Features) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    tensors = {"values": features.values.cpu()}
    if features.classes is not None:
        tensors["classes"] = features.classes.cpu()
    save_file(tensors, partial)
    move_into_place(partial, path)
