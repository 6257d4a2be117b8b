"""From decoded rows to a pack: bad items removed, channels and mask classes decided, the rest added."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.data.blocks import ArrayFile, BlockRecord, Slots, digest
from safelight.data.columns import ConditionColumn
from safelight.data.images import FileReader
from safelight.data.masks import numbering
from safelight.data.pack import FORMAT, write_texts
from safelight.data.source import UNDECIDED, Items, Masks, Note

CHUNK = 256  # rows read at once


def finish(name: str, items: Items, slots: Slots, records: Sequence[BlockRecord]) -> None:
    """Make a pack of filled slots, in their folder, each file flushed to the disk, the manifest last.

    Raises UserError where the masks hold no class numbers.
    """
    folder = slots.folder
    bad = {item: reason for record in records for item, reason in record.bad.items()}
    left = {item: reason for record in records for item, reason in record.left_out.items()}
    kept = np.array([item for item in range(slots.count) if item not in bad and item not in left], np.int64)
    images, digests = _images(items, slots, records, kept)
    columns = {condition: kept_rows(column, kept) for condition, column in items.columns.items()}
    described: dict[str, tuple[str, int, tuple[str, ...]]] = {
        condition: (column.kind, column.size, column.names) for condition, column in columns.items()
    }
    present = {condition: column.present for condition, column in columns.items()}
    masks = None
    if items.masks:
        masks, classes = _masks(items.masks, slots, records, kept)
        described["mask"] = ("mask", classes, items.masks.names)
        present["mask"] = items.masks.present[kept]
    for condition, column in columns.items():
        np.save(folder / f"given-{condition}.npy", column.values)
        if column.first is not None:
            np.save(folder / f"first-{condition}.npy", column.first)
    for condition, there in present.items():
        np.save(folder / f"present-{condition}.npy", there)
    official = np.full(len(kept), UNDECIDED, np.int8) if items.official is None else items.official[kept]
    np.save(folder / "official.npy", official)
    weights = None if items.weights is None else np.asarray(items.weights[kept], np.float32)
    if weights is not None:
        np.save(folder / "weights.npy", weights)
    groups = _groups(items.groups, kept, digests) if any(items.groups) else None
    if groups is not None:
        np.save(folder / "groups.npy", groups)
    texts = [items.texts[item] for item in kept] if items.texts else []
    if any(texts):
        write_texts(folder, texts)
    names = [items.names[item] for item in kept]
    (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    sizes = sorted((condition, kind, size) for condition, (kind, size, _) in described.items())
    head = repr((images.shape[1:], sizes, *([items.crop] if items.crop else []))).encode()
    manifest = {
        "format": FORMAT,
        "name": name,
        "fingerprint": _fingerprint(head, digests, masks, columns, present, official, texts, weights, groups),
        "count": len(kept),
        "conditions": {condition: {"kind": kind, "size": size, "names": classes}
                       for condition, (kind, size, classes) in described.items()},
        "texts": any(texts),
        "weights": weights is not None,
        "groups": groups is not None,
        "crop": items.crop,
        "layout": items.layout,
        "notes": [asdict(note) for note in (*items.notes, *_fit_notes(items, slots, records, left))],
        "bad": sorted([*items.bad, *(f"{items.names[item]} ({reason})" for item, reason in bad.items())]),
    }  # fmt: skip
    for path in folder.iterdir():
        _flush(path)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    _flush(folder / "manifest.json")


def _fit_notes(
    items: Items, slots: Slots, records: Sequence[BlockRecord], left: Mapping[int, str]
) -> Iterator[Note]:
    """What was left out, cut and enlarged."""
    if left:
        item = min(left)
        yield Note("image left out", len(left), f"{items.names[item]}, which {left[item]}")
    if isinstance(items.reader, FileReader):
        wholes = {item: whole for record in records for item, whole in record.wholes.items()}
        yield from items.reader.how.notes(items.names, wholes, slots.shape[:2])


def _images(
    items: Items, slots: Slots, records: Sequence[BlockRecord], kept: NDArray[np.int64]
) -> tuple[ArrayFile, ArrayFile]:
    """The files of images and digests, of the items kept, in one channel where none has colour."""
    colour = items.shape[2] >= 3 or any(record.colour for record in records)
    channels = slots.shape[2] if colour else 1
    if len(kept) == slots.count and channels == slots.shape[2]:
        return slots.images, slots.digests
    images = slots.images.keep(kept, (*slots.shape[:2], channels), lambda rows, items: rows[..., :channels])
    hashes = b"".join(digest(image) for image in _each(images))
    digests = replace(slots.digests, shape=(len(kept), 2))
    np.save(digests.path, np.frombuffer(hashes, "<u8").reshape(-1, 2))
    return images, digests


def _masks(
    masks: Masks, slots: Slots, records: Sequence[BlockRecord], kept: NDArray[np.int64]
) -> tuple[ArrayFile, int]:
    """The file of masks of the items kept, and how many classes they have."""
    seen = {number for record in records for number in record.classes}
    mixed = any(record.white for record in records) and not any(record.void for record in records)
    classes, numbers = numbering(seen, mixed, masks.classes, masks.values)
    if len(kept) == slots.count and numbers is None:
        return slots.masks, classes

    def renumber(rows: NDArray[Any], items: NDArray[np.int64]) -> NDArray[Any]:
        return rows if numbers is None else np.where(masks.present[items, None, None], numbers[rows], rows)

    return slots.masks.keep(kept, slots.shape[:2], renumber), classes


def _groups(names: Sequence[str | None], kept: NDArray[np.int64], digests: ArrayFile) -> NDArray[np.uint64]:
    """(N, 2), a digest of each item's group; of an item without one its own."""
    rows = np.concatenate([*(digests.read(start, CHUNK) for start in range(0, len(kept), CHUNK))])
    for place, item in enumerate(kept.tolist()):
        if (name := names[item]) is not None:
            rows[place] = np.frombuffer(
                digest(np.frombuffer(name.encode("utf-8", "surrogatepass"), np.uint8)), "<u8"
            )
    return rows


def kept_rows(column: ConditionColumn, kept: NDArray[np.int64]) -> ConditionColumn:
    """A condition of some items, ascending."""
    present = column.present[kept]
    if column.first is None:
        return replace(column, values=column.values[kept], present=present)
    counts = np.diff(column.first)
    whose = np.repeat(np.arange(len(counts)), counts)
    first = np.concatenate([[0], np.cumsum(counts[kept])]).astype(np.int64)
    return replace(column, values=column.values[np.isin(whose, kept)], present=present, first=first)


def _fingerprint(
    head: bytes, digests: ArrayFile, masks: ArrayFile | None, columns: Mapping[str, ConditionColumn],
    present: Mapping[str, NDArray[np.bool_]], official: NDArray[np.int8], texts: Sequence[Sequence[str]],
    weights: NDArray[np.float32] | None, groups: NDArray[np.uint64] | None,
) -> str:  # fmt: skip
    """Of the shape and conditions, which are the head, and of every item; see pack.py."""
    hashed = blake2b(head, digest_size=16, person=b"safelight data")
    names = sorted(present)
    flags = np.array([present[name] for name in names], bool).reshape(len(names), len(official))
    complete = flags.all(0) if names else np.zeros(len(official), bool)
    sides, whole, each = official.tobytes(), complete.tobytes(), np.ascontiguousarray(flags.T)
    every_mask = iter(_each(masks)) if masks else None
    for item, pixels in enumerate(_each(digests)):
        hashed.update(pixels.data)
        hashed.update(sides[item : item + 1])
        hashed.update(whole[item : item + 1])
        if len(names) > 1:
            hashed.update(each[item].data)
        for name in names:
            if name == "mask" and every_mask:
                hashed.update(next(every_mask).tobytes())
            else:
                hashed.update(_of_item(columns[name], item))
        if texts:
            hashed.update(json.dumps(texts[item]).encode())
        if weights is not None:
            hashed.update(weights[item : item + 1].data)
        if groups is not None:
            hashed.update(groups[item].data)
    return hashed.hexdigest()


def _of_item(column: ConditionColumn, item: int) -> bytes:
    rows = item if column.first is None else slice(column.first[item], column.first[item + 1])
    return np.asarray(column.values[rows]).tobytes()


def _each(rows: ArrayFile) -> Iterable[NDArray[Any]]:
    chunks = (rows.read(start, CHUNK) for start in range(0, rows.shape[0], CHUNK))
    return (row for chunk in chunks for row in chunk)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
