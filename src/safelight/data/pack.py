"""Items decoded once into a directory of arrays, which training reads through memory maps.

A pack of N items holds
    images.npy               (N, H, W, C) uint8
    given-<condition>.npy    label (N,) int64; attributes (N, A) float32; mask (N, H, W) uint8 class numbers,
                             255 = of no class, or shares to 255; text (M, T) float32, a row for each caption
    present-<condition>.npy  (N,) bool, whether the item has it
    first-text.npy           (N + 1,) item i owns the rows first[i] to first[i + 1] of the text features
    digests.npy              (N, 2), a keyed hash of each item's pixels
    official.npy             (N,), 1 held out, 0 trained on, -1 left to the digest
    groups.npy               (N, 2), a hash of each item's group, otherwise its digest; absent without groups
    weights.npy              (N,) float32, how often each is drawn; absent where all are drawn alike
    texts.*                  captions, see `Texts`; absent where there are none
    names.json, manifest.json
Items are in the order of their sorted names.

The fingerprint hashes the shape, the conditions' kinds, and every item's pixels, conditions, captions and
official side in that order. Names do not enter, so renaming files without reordering them leaves it alone,
and so does moving the folder, or the share that is held out, which the recipe states.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from safelight.data.source import HELD_OUT, NOT_MASKED, UNDECIDED, Note

if TYPE_CHECKING:
    from safelight.types import Condition, DataSpec


FORMAT = 2  # of the files, and of how pixels are made from sources: a change of either makes packs anew


class Texts(Sequence[tuple[str, ...]]):
    """The captions of item i are texts[i], read from disk when they are used; there may be none.

    texts.bin holds them as UTF-8, one after another; texts.npy (M + 1,) where each begins;
    texts-first.npy (N + 1,) which of them is an item's first. Raises OSError or ValueError where damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.first = np.load(folder / "texts-first.npy")
        self._starts = np.load(folder / "texts.npy", mmap_mode="r")
        self._bytes = np.memmap(folder / "texts.bin", np.uint8, "r")
        if self._starts[-1] != len(self._bytes) or len(self._starts) != self.first[-1] + 1:
            raise ValueError(f"{folder}: captions are cut off")

    def __len__(self) -> int:
        return len(self.first) - 1

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, slice):
            return [self[index] for index in range(*item.indices(len(self)))]
        if not -len(self) <= item < len(self):
            raise IndexError(item)
        start = item % len(self)
        ends = self._starts[self.first[start] : self.first[start + 1] + 1].tolist()
        return tuple(self._bytes[begin:end].tobytes().decode() for begin, end in pairwise(ends))


def write_texts(folder: Path, texts: Sequence[Sequence[str]]) -> None:
    """Write captions, by item. There must be one at least."""
    first, starts, end = [0], [0], 0
    with (folder / "texts.bin").open("wb") as file:
        for captions in texts:
            for text in captions:
                end += file.write(text.encode())
                starts.append(end)
            first.append(len(starts) - 1)
    np.save(folder / "texts.npy", np.array(starts, np.int64))
    np.save(folder / "texts-first.npy", np.array(first, np.int64))


@dataclass(frozen=True, eq=False)
class Pack:
    """Decoded data, and which of it is trained on."""

    folder: Path
    name: str
    fingerprint: str
    images: NDArray[np.uint8]  # (N, H, W, C), a read-only memory map
    given: Mapping[str, NDArray[Any]]  # by condition (N, ...), text (M, T): read-only memory maps
    covered: Mapping[str, NDArray[np.bool_]]  # by condition (N,): whether the item has this one
    first: NDArray[np.int64] | None  # (N + 1,): item i owns the text features first[i] to first[i + 1]
    train: NDArray[np.int64]  # items trained on, ascending
    held_out: NDArray[np.int64]  # items held out, in the order of their digests, the same for every run
    described: Mapping[str, tuple[Any, int, tuple[str, ...]]]  # by condition: kind, size, names
    texts: Sequence[tuple[str, ...]]  # captions by item, or empty where there are none at all
    bad: tuple[str, ...]  # items left out, each with the reason
    notes: tuple[Note, ...] = ()  # what was passed over, and how things were read
    weights: NDArray[np.float32] | None = None  # (N,) how often each item is drawn
    layout: str = ""  # of files: how they were read, in words
    groups: NDArray[np.uint64] | None = None  # (N,) equal for items of one group
    buckets: tuple[Pack, ...] = ()  # with data.buckets a pack for each shape, this one first
    # of random crops "images" and "mask" with their margins, of whose centres the others are views
    whole: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def parts(self) -> tuple[Pack, ...]:
        """The packs of all images: of each bucket, or this one."""
        return self.buckets or (self,)

    @property
    def trained(self) -> int:
        """Images trained on, in all buckets."""
        return sum(len(part.train) for part in self.parts)

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """(N,) whether the item has every one of the conditions; False throughout where there are none."""
        covered = np.array([*self.covered.values()], bool).reshape(len(self.covered), len(self))
        return np.asarray(covered.all(0) & bool(len(covered)))

    def description(self) -> str:
        """One line of what was read: images, how, and the conditions."""
        shapes = ["x".join(map(str, part.images.shape[1:3])) for part in self.parts]
        sizes = ", ".join(f"{shape} ({len(part):,})" for shape, part in zip(shapes, self.parts, strict=True))
        kept = "x".join(map(str, self.whole["images"].shape[1:3])) if self.whole else ""
        of = (
            f"in buckets {sizes}"
            if self.buckets
            else f"of {shapes[0]}" + (f" out of {kept}, at random" if kept else "")
        )
        words = [f"{sum(map(len, self.parts)):,} images {of}", *([self.layout] if self.layout else [])]
        for name, (kind, size, names) in self.described.items():
            what = {"label": f"{size} classes", "mask": f"{size} classes" if size > 1 else "soft",
                    "attributes": ", ".join(names), "text": f"{size} features"}[kind]  # fmt: skip
            words.append(f"{name} ({what}) on {sum(int(part.covered[name].sum()) for part in self.parts):,}")
        if self.groups is not None:
            groups = np.concatenate([part.groups for part in self.parts if part.groups is not None])
            words.append(f"{len(np.unique(groups)):,} groups")
        if captioned := sum(map(bool, (texts for part in self.parts for texts in part.texts))):
            words.append(f"captions on {captioned:,}")
        return "; ".join(words)

    @property
    def mask_classes(self) -> int:
        """Classes of the masks; 0 where there are none, 2 of soft ones."""
        size = self.described["mask"][1] if "mask" in self.described else 0
        return 2 if size == 1 else size

    def mask_numbers(self, items: NDArray[np.int64] | slice | int) -> NDArray[np.uint8]:
        """The class numbers of items' masks (n, H, W), 255 of no class; of soft ones 1 from one half on."""
        rows = np.asarray(self.given["mask"][items])
        if self.described["mask"][1] > 1:
            return rows
        there = np.asarray(self.covered["mask"][items])[..., None, None]
        return np.where(there, rows >= 128, NOT_MASKED).astype(np.uint8)

    @cached_property
    def conditions(self) -> dict[str, Condition]:
        """What the conditions are. Only this and `spec` import torch, which packing does without."""
        from safelight.types import Condition

        return {name: Condition(*described) for name, described in self.described.items()}

    @property
    def spec(self) -> DataSpec:
        """The data as pixels: (C, H, W) and conditions."""
        from safelight.types import DataSpec

        height, width, channels = self.images.shape[1:]
        return DataSpec((channels, height, width), self.conditions, channels == 4)

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
        described = {name: (c["kind"], int(c["size"]), tuple(c["names"]))
                     for name, c in manifest["conditions"].items()}  # fmt: skip
        images, digests, official = (_mapped(folder, name) for name in ("images", "digests", "official"))
        given = {name: _mapped(folder, f"given-{name}") for name in described}
        covered = {name: np.load(folder / f"present-{name}.npy") for name in described}
        first = np.load(folder / "first-text.npy") if "text" in described else None
        texts: Sequence[tuple[str, ...]] = Texts(folder) if manifest["texts"] else ()
        weights = np.load(folder / "weights.npy") if manifest.get("weights") else None
        groups = np.load(folder / "groups.npy") if manifest.get("groups") else None
        crop, whole = manifest.get("crop"), {}
        if crop:
            whole = {"images": images} | ({"mask": given["mask"]} if "mask" in given else {})
            images = centre(images, *crop)
            given |= {name: centre(given[name], *crop) for name in whole if name in given}
        notes = tuple(Note(**note) for note in manifest.get("notes", ()))
    except (OSError, ValueError, KeyError, TypeError, EOFError):  # absent, cut off, or not what was written
        return None
    train, held = _sides(split(digests if groups is None else groups, official, held_out), digests)
    return Pack(
        folder, manifest["name"], manifest["fingerprint"], images, given, covered, first, train, held,
        described=described, texts=texts, bad=tuple(manifest["bad"]), notes=notes, weights=weights,
        layout=str(manifest.get("layout", "")), groups=None if groups is None else groups[:, 0], whole=whole,
    )  # fmt: skip


def split_together(packs: Sequence[Pack], share: float) -> list[Pack]:
    """The packs of one source with one split for all, so that a group in several of them has one side."""
    marks = [_mapped(pack.folder, "digests")[:, :1] if pack.groups is None else pack.groups[:, None]
             for pack in packs]  # fmt: skip
    official = [_mapped(pack.folder, "official") for pack in packs]
    held = split(np.concatenate(marks), np.concatenate(official), share)
    each = np.split(held, np.cumsum([len(pack) for pack in packs])[:-1])
    sides = [_sides(part, _mapped(pack.folder, "digests")) for pack, part in zip(packs, each, strict=True)]
    return [replace(pack, train=train, held_out=kept)
            for pack, (train, kept) in zip(packs, sides, strict=True)]  # fmt: skip


def _sides(
    held: NDArray[np.bool_], digests: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The items trained on, and those held out in the order of their digests."""
    kept = np.flatnonzero(held)
    return np.flatnonzero(~held), kept[np.lexsort((digests[kept, 1], digests[kept, 0]))]


def split(digests: NDArray[np.uint64], official: NDArray[np.int8], share: float) -> NDArray[np.bool_]:
    """(N,) which items are held out: an official side where there is one, otherwise a digest below the share.

    An item's side depends on nothing but its own pixels, or its group's name, so it stays when others are
    added, and copies, or groups, go together. Where chance leaves a side empty, the smallest (largest) digest
    is moved to it; only a handful of images comes to that. A share of 0 holds out nothing.
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


def centre(rows: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """The centres (N, H, W, ...) of larger rows, as a view."""
    down, across = ((have - want) // 2 for have, want in zip(rows.shape[1:3], (height, width), strict=True))
    return rows[:, down : down + height, across : across + width]


def _mapped(folder: Path, name: str) -> NDArray[Any]:
    array: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r")
    return array
