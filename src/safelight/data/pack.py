"""Items decoded once into a directory of arrays, which training reads through memory maps.

A pack holds images.npy (N, H, W, C) uint8 and given-<condition>.npy (N, ...), whose rows count where
given.npy (N,) is true; digests.npy (N, 2), a keyed hash of each item's pixels; official.npy (N,), 1 held
out, 0 trained on, -1 left to the digest; names.json; and manifest.json. Items are in the order of their
sorted names.

The fingerprint hashes the shape, the conditions' kinds, and every item's pixels, conditions and official
side in that order. Names do not enter, so renaming files without reordering them leaves it alone, and so
does moving the folder, or the share that is held out, which the recipe states.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.types import Condition, DataSpec

FORMAT = 1  # of the files, and of how pixels are made from sources: a change of either makes packs anew
TRAIN, HELD_OUT, UNDECIDED = 0, 1, -1


@dataclass(frozen=True, eq=False)
class Pack:
    """Decoded data, and which of it is trained on."""

    folder: Path
    name: str
    fingerprint: str
    images: NDArray[np.uint8]  # (N, H, W, C), a read-only memory map
    given: Mapping[str, NDArray[Any]]  # by condition (N, ...), a read-only memory map
    present: NDArray[np.bool_]  # (N,) whether the item has its conditions
    train: NDArray[np.int64]  # items trained on, ascending
    held_out: NDArray[
        np.int64
    ]  # items held out, in the order of their digests: mixed, and the same for every run
    conditions: Mapping[str, Condition]
    bad: tuple[str, ...]  # items left out, each with the reason

    def __len__(self) -> int:
        return len(self.images)

    @property
    def spec(self) -> DataSpec:
        """The data as pixels: (C, H, W) and conditions."""
        height, width, channels = self.images.shape[1:]
        return DataSpec((channels, height, width), self.conditions)

    @cached_property
    def names(self) -> list[str]:
        """The items' names: paths below the folder, or split and number."""
        names: list[str] = json.loads((self.folder / "names.json").read_text(encoding="utf-8"))
        return names


def load(folder: Path, held_out: float) -> Pack | None:
    """The pack in a directory; None where there is no whole pack of this format."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            return None
        conditions = {name: Condition(c["kind"], c["size"], tuple(c["names"]))
                      for name, c in manifest["conditions"].items()}  # fmt: skip
        images, present, digests, official = (
            np.load(folder / f"{name}.npy", mmap_mode="r")
            for name in ("images", "given", "digests", "official")
        )
        given = {name: np.load(folder / f"given-{name}.npy", mmap_mode="r") for name in conditions}
    except (OSError, ValueError, KeyError, TypeError):  # absent, cut off, or not what it was written as
        return None
    held = split(digests, official, held_out)
    train, kept = np.flatnonzero(~held), np.flatnonzero(held)
    return Pack(
        folder=folder,
        name=manifest["name"],
        fingerprint=manifest["fingerprint"],
        images=images,
        given=given,
        present=np.array(present),
        train=train,
        held_out=kept[np.lexsort((digests[kept, 1], digests[kept, 0]))],
        conditions=conditions,
        bad=tuple(manifest["bad"]),
    )


def digest(image: NDArray[np.uint8]) -> bytes:
    """16 bytes that stand for the pixels alone; their first eight place the item in the split."""
    return blake2b(image.tobytes(), digest_size=16, person=b"safelight split").digest()


def split(digests: NDArray[np.uint64], official: NDArray[np.int8], share: float) -> NDArray[np.bool_]:
    """(N,) which items are held out: an official side where there is one, otherwise a digest below the share.

    An item's side depends on nothing but its own pixels, so it stays when others are added, and copies
    go together. Where chance leaves a side empty, the smallest (largest) digest is moved to it; only a
    handful of images comes to that. A share of 0 holds out nothing.
    """
    digests = np.asarray(digests)
    place = digests[:, 0].astype(np.float64) * 2.0**-64
    if np.any(official != UNDECIDED):
        return np.asarray(np.where(official == UNDECIDED, place < share, official == HELD_OUT))
    held = np.asarray(place < share)
    if share > 0 and len(np.unique(digests[:, 0])) > 1:
        if not held.any():
            held = digests[:, 0] == digests[:, 0].min()
        elif held.all():
            held = digests[:, 0] != digests[:, 0].max()
    return held
