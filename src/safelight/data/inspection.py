"""Inspect the data of a recipe before training: every image is decoded once, nothing is written."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data import buckets, find_source
from safelight.data.blocks import Look, Slots
from safelight.data.columns import ConditionColumn
from safelight.data.config import Data
from safelight.data.fitting import Fit
from safelight.data.images import FileReader
from safelight.data.masks import numbering
from safelight.data.packing import PackingPlan, results
from safelight.data.source import HELD_OUT, NOT_MASKED, TRAIN, BadItem, Items, Masks, Note, Pixels, Progress
from safelight.terminal import plain

COPIES_NAMED = 5
PROPOSED = 6  # buckets at most, where none are stated
FITS: tuple[Fit, ...] = ("crop", "contain", "pad", "stretch")
LARGEST_CELL = 128  # pixels: images alike and no larger are shown as they are ...
CELL = 96  # ... others cropped to squares of so many


@dataclass(frozen=True, eq=False)
class Inspection:
    """Items and the look of each."""

    name: str
    items: Items
    looks: Sequence[Look]
    notes: Sequence[Note] = ()
    config: Data = field(default_factory=Data)

    @property
    def usable(self) -> NDArray[np.int64]:
        """Items that can be decoded."""
        return np.flatnonzero([not look.bad for look in self.looks])

    def facts(self) -> dict[str, Any]:
        """Everything in plain values, for the terminal and for JSON."""
        usable = self.usable
        looks = [self.looks[item] for item in usable]
        sizes = Counter((look.height, look.width) for look in looks)
        bad = [f"{self.items.names[item]} ({look.bad})"
               for item, look in enumerate(self.looks) if look.bad and not look.left_out]  # fmt: skip
        conditions, covered = self._conditions(usable)
        texts = [len(self.items.texts[item]) for item in usable] if self.items.texts else []
        return {
            "name": self.name,
            "layout": self.items.layout,
            "images": len(usable),
            "sizes": [{"height": h, "width": w, "images": count} for (h, w), count in sizes.most_common()],
            "modes": dict(Counter(look.mode for look in looks).most_common()),
            "formats": dict(Counter(look.format for look in looks if look.format).most_common()),
            "profiles": dict(Counter(look.profile for look in looks if look.profile).most_common()),
            "fit": self._fit(usable),
            "conditions": conditions,
            "with_all_conditions": int(np.all(covered, axis=0).sum()) if covered else 0,
            "captions": {"captions": sum(texts), "images": sum(count > 0 for count in texts)},
            "split": self._split(usable),
            "groups": self._groups(usable),
            "copies": self._copies(usable),
            "bad": [*self.items.bad, *bad],
            "notes": [asdict(note) for note in (*self.notes, *self._fit_notes(usable))],
        }

    def _fit(self, usable: NDArray[np.int64]) -> dict[str, Any] | None:
        """What each way to fit would do at the size, or at a proposed one; None where all have one size.

        The proposal: the largest power of two up to the median of shorter sides, from 8 to 256.
        """
        reader, wholes = (
            self.items.reader,
            [(self.looks[item].height, self.looks[item].width) for item in usable],
        )
        if not isinstance(reader, FileReader) or len({*wholes, *([] if reader.like else [reader.size])}) < 2:
            return None
        middle = int(np.median([min(whole) for whole in wholes]))
        proposed = 1 << max(3, min(8, middle.bit_length() - 1))
        size = (proposed, proposed) if reader.like else reader.size
        ways = {}
        for way in FITS:
            effects = np.array([replace(reader.how, fit=way).effect(*whole, size) for whole in wholes])
            kept = self.items.names[usable[int(effects[:, 0].argmax())]] if effects[:, 0].max() > 0 else ""
            small = self.items.names[usable[int(effects[:, 2].argmax())]] if effects[:, 2].max() > 1 else ""
            ways[way] = {
                "cut": float(effects[:, 0].mean()), "most_cut": float(effects[:, 0].max()),
                "most_cut_is": kept,
                "padded": float(effects[:, 1].mean()), "enlarged": int((effects[:, 2] > 1).sum()),
                "most_enlarged": float(effects[:, 2].max()), "most_enlarged_is": small,
            }  # fmt: skip
        return {"size": list(size), "median": middle, "fit": reader.how.fit, "ways": ways,
                "buckets": self._buckets(usable, np.array(wholes), size)}  # fmt: skip

    def _buckets(
        self, usable: NDArray[np.int64], wholes: NDArray[np.int64], size: tuple[int, int]
    ) -> list[dict[str, Any]]:
        """The buckets that images would be in, as stated or PROPOSED at most, and what crops to them cut."""
        multiple = self.config.bucket_multiple or buckets.MULTIPLE
        if self.config.buckets is None and not buckets.candidates(prod(size), multiple):
            return []
        shapes = buckets.chosen(self.config.buckets or PROPOSED, wholes, size, multiple)
        which, cut = buckets.nearest(wholes, shapes), buckets.cuts(wholes, shapes)
        rows = []
        for place, (height, width) in enumerate(shapes):
            members = np.flatnonzero(which == place)
            worst = members[cut[members].argmax()]
            rows.append({
                "height": height, "width": width, "images": len(members), "cut": float(cut[members].mean()),
                "most_cut": float(cut[worst]), "most_cut_is": self.items.names[usable[worst]],
            })  # fmt: skip
        return rows

    def _fit_notes(self, usable: NDArray[np.int64]) -> Iterator[Note]:
        left = [item for item, look in enumerate(self.looks) if look.left_out]
        if left:
            first = self.looks[left[0]]
            why = f"{self.items.names[left[0]]}, which is {first.height}x{first.width}, {first.bad}"
            yield Note("image left out", len(left), why)
        reader = self.items.reader
        if isinstance(reader, FileReader) and not reader.like and not self.config.buckets:
            wholes = {int(item): (self.looks[item].height, self.looks[item].width) for item in usable}
            yield from reader.how.notes(self.items.names, wholes, reader.size)

    def _conditions(self, usable: NDArray[np.int64]) -> tuple[dict[str, Any], list[NDArray[np.bool_]]]:
        """The facts of each condition, and which of the usable items have it."""
        facts: dict[str, Any] = {}
        covered = []
        for name, column in self.items.columns.items():
            covered.append(present := column.present[usable])
            facts[name] = {"images": int(present.sum()), **_column_facts(column, usable[present])}
        if self.items.masks:
            covered.append(present := self.items.masks.present[usable])
            held = {self.looks[item].classes for item in usable[present]}
            facts["mask"] = {"images": int(present.sum()), **_mask_facts(held, self.items.masks)}
        return facts, covered

    def _split(self, usable: NDArray[np.int64]) -> dict[str, int] | None:
        """Images on each side of an official split; None where there is none."""
        if self.items.official is None:
            return None
        sides = self.items.official[usable]
        return {"train": int((sides == TRAIN).sum()), "held_out": int((sides == HELD_OUT).sum())}

    def _groups(self, usable: NDArray[np.int64]) -> dict[str, Any] | None:
        """How many groups data.group makes, and the largest; None where it is not stated."""
        if not self.items.groups:
            return None
        named = Counter(name for item in usable if (name := self.items.groups[item]) is not None)
        (largest, most), *_ = named.most_common(1) or [("", 0)]
        return {"groups": len(named), "largest": plain(largest.replace("\0", " ")), "images": most}

    def _copies(self, usable: NDArray[np.int64]) -> dict[str, Any]:
        """Images with equal pixels: how many beyond the first of each set, and the names of a few sets."""
        alike: dict[str, list[int]] = defaultdict(list)
        for item in usable.tolist():
            alike[self.looks[item].digest].append(item)
        sets = [items for items in alike.values() if len(items) > 1]
        names = [[self.items.names[item] for item in items] for items in sets[:COPIES_NAMED]]
        return {"images": sum(len(items) - 1 for items in sets), "of": len(sets), "first": names}

    def examples(self, count: int) -> tuple[NDArray[np.uint8], list[str]]:
        """Some items from first to last, as they would be cropped: images (n, H, W, 3), and a label for each.

        An item with a mask is followed by it, in greys. Raises UserError where there is nothing to show.
        """
        usable = self.usable
        if not len(usable):
            raise UserError(f"{self.name}: has no image to show")
        chosen = usable[
            np.unique(np.linspace(0, len(usable) - 1, min(count, len(usable))).round().astype(int))
        ]
        reader = self.items.reader
        if isinstance(reader, FileReader):
            reader = replace(reader, size=self._cell(reader), like=None)
        label = self.items.columns.get("label")
        images, words = [], []
        for item in chosen.tolist():
            try:
                pixels = reader.read(item)
            except BadItem:  # gone since it was looked at
                continue
            images.append(np.broadcast_to(pixels.image[..., :3], (*pixels.image.shape[:2], 3)))
            words.append(label.names[label.values[item]] if label and label.present[item] else "")
            if self.items.masks:
                images.append(_mask_picture(pixels, self.items.masks.values == "soft"))
                words.append("mask" if pixels.mask is not None else "no mask")
        return np.stack(images), [plain(word) for word in words] if any(words) else []

    def _cell(self, reader: FileReader) -> tuple[int, int]:
        """(H, W) to show images at."""
        sizes = {(look.height, look.width) for look in self.looks if not look.bad}
        if reader.like is None and max(reader.size) <= LARGEST_CELL:
            return reader.size
        size = next(iter(sizes))
        return size if len(sizes) == 1 and max(size) <= LARGEST_CELL else (CELL, CELL)


def inspect(config: Data, progress: Progress | None = None, processes: int | str | None = None) -> Inspection:
    """Find the data and decode every item once. Raises UserError where there is none."""
    source = find_source(config, progress)
    items = source.items()
    looks: list[Look | None] = [None] * len(items.names)
    with TemporaryDirectory(prefix="safelight-") as folder:
        slots = Slots(Path(folder), len(looks), (*items.shape[:2], 3), items.masks is not None)
        plan = PackingPlan(items.reader, slots)
        what = f"looking at {plain(source.name)}"
        with closing(results(plan, "look", range(slots.blocks), processes, progress, what)) as lines:
            for block, line in lines:
                for item, facts in zip(slots.items(block), json.loads(line), strict=True):
                    looks[item] = Look(**{**facts, "classes": tuple(facts["classes"])})
    notes = (*source.notes, *items.notes)
    return Inspection(source.name, items, [look for look in looks if look is not None], notes, config)


def _column_facts(column: ConditionColumn, items: NDArray[np.int64]) -> dict[str, Any]:
    """The classes and their counts, or each attribute's range; items: those that have the condition."""
    if column.kind == "label":
        counts = np.bincount(column.values[items], minlength=column.size)
        return {"classes": {name: int(count) for name, count in zip(column.names, counts, strict=True)}}
    if column.kind == "attributes":
        rows = column.values[items].astype(np.float64)
        ranges = zip(column.names, rows.T, strict=True) if len(rows) else ()
        return {
            "attributes": {
                name: {"least": float(row.min()), "mean": float(row.mean()), "most": float(row.max())}
                for name, row in ranges
            }
        }
    return {"features": column.size, "rows": len(column.values)}


def _mask_facts(held: set[tuple[int, ...]], masks: Masks) -> dict[str, Any]:
    """held: the numbers of each mask."""
    seen = {number for numbers in held for number in numbers}
    mixed = (0, 255) in held and not any(255 in numbers and {*numbers} - {0, 255} for numbers in held)
    try:
        return {"classes": numbering(seen, mixed, masks.classes, masks.values)[0], "numbers": sorted(seen)}
    except UserError as error:
        return {"classes": None, "numbers": sorted(seen), "problem": str(error)}


def _mask_picture(pixels: Pixels, soft: bool = False) -> NDArray[np.uint8]:
    """A mask in greys from black to white, what belongs to no class in red."""
    mask = pixels.mask if pixels.mask is not None else np.full(pixels.image.shape[:2], NOT_MASKED, np.uint8)
    binary = (soft and pixels.mask is not None) or set(np.unique(mask).tolist()) == {0, NOT_MASKED}
    most = max(1, int(mask[mask != NOT_MASKED].max(initial=1)))
    grey = mask if binary else (mask.astype(int) * 255 // most).clip(0, 255).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, -1)
    if not binary:
        picture[mask == NOT_MASKED] = (120, 20, 20)
    return picture
