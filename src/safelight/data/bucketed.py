"""Packs of images in aspect ratio buckets: one for each shape, that of most images with all others in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data import buckets
from safelight.data.buckets import MULTIPLE, Shape, Sizes
from safelight.data.cache import cache_dir
from safelight.data.config import Data, with_margin
from safelight.data.finish import kept_rows
from safelight.data.images import FileReader, blamed, height_width, open_image, orientation, quiet
from safelight.data.pack import Pack, split_together
from safelight.data.packing import open_pack, require_good
from safelight.data.source import Items, Progress, Source, key
from safelight.store.durable import publish
from safelight.terminal import plain


def open_buckets(
    source: Source, config: Data, progress: Progress | None = None, processes: int | str | None = None
) -> Pack:
    """The pack of the most populated bucket, with every bucket's in `Pack.buckets`. Raises UserError.

    A picture that cannot be opened, or is left out, is counted in the first bucket.
    """
    assert config.buckets is not None
    items = cache(source.items)
    sizes = _sizes(source, items, config.smallest or 0, progress)
    known, size = sizes[sizes[:, 0] > 0], config.height_width
    if not len(known) or size is None:
        return open_pack(source, config.held_out, config.skip_bad, progress, processes)  # which says why
    shapes = buckets.chosen(config.buckets, known, size, config.bucket_multiple or MULTIPLE)
    which = np.zeros(len(sizes), np.int64)
    which[sizes[:, 0] > 0] = buckets.nearest(known, shapes)
    packs = []
    for place, shape in enumerate(shapes):
        chosen = np.flatnonzero(which == place)
        part = Source(
            f"{source.name} {shape[0]}x{shape[1]}",
            key(source.key, "bucket", shape, shapes),
            partial(_part, items, chosen, shape),
        )
        packs.append(open_pack(part, config.held_out, True, progress, processes))
    packs = split_together(packs, config.held_out)
    if not len(packs[0].train):
        raise UserError(
            f"data.buckets: {packs[0].name} has most images, none to train on; state other shapes"
        )
    return _joined(source, packs, config.skip_bad)


def _joined(source: Source, packs: list[Pack], skip_bad: bool) -> Pack:
    """The first pack with the others in it; grey ones in colour where any has colour. Raises UserError."""
    masks = {
        pack.described["mask"]: pack.name for pack in packs if pack.covered.get("mask", np.zeros(1)).any()
    }
    if len(masks) > 1:
        words = " and ".join(f"those of {name} {described[1]}" for described, name in masks.items())
        raise UserError(
            f"data.buckets: masks differ in classes, {words}; state data.mask_classes and data.mask_values"
        )
    for described in masks:
        packs = [replace(pack, described={**pack.described, "mask": described}) for pack in packs]
    channels = max(pack.images.shape[3] for pack in packs)
    packs = [_in_channels(pack, channels) for pack in packs]
    bad = tuple(sorted(bad for pack in packs for bad in pack.bad))
    return require_good(
        replace(
            packs[0],
            name=source.name,
            fingerprint=key(*(pack.fingerprint for pack in packs)),
            buckets=tuple(packs),
            bad=bad,
            notes=(*source.notes, *packs[0].notes, *(note for pack in packs[1:] for note in pack.notes)),
        ),
        source.name,
        skip_bad,
    )


def _in_channels(pack: Pack, channels: int) -> Pack:
    def wide(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.broadcast_to(images, (*images.shape[:3], channels))

    whole = {**pack.whole, "images": wide(pack.whole["images"])} if pack.whole else pack.whole
    return replace(pack, images=wide(pack.images), whole=whole) if pack.images.shape[3] < channels else pack


def _part(every: Callable[[], Items], chosen: NDArray[np.int64], shape: Shape) -> Items:
    """Some of the items, at a shape. What a whole listing noted goes with the first of them all."""
    items = every()
    reader = items.reader
    assert isinstance(reader, FileReader)
    first = bool(len(chosen)) and chosen[0] == 0
    masks = items.masks and replace(items.masks, present=items.masks.present[chosen])
    packed = with_margin(shape) if items.crop else shape
    return replace(
        items,
        names=[items.names[item] for item in chosen],
        shape=(*packed, items.shape[2]),
        crop=shape if items.crop else None,
        reader=replace(
            reader,
            files=[reader.files[item] for item in chosen],
            masks=[reader.masks[item] for item in chosen] if reader.masks else reader.masks,
            size=packed,
        ),
        columns={name: kept_rows(column, chosen) for name, column in items.columns.items()},
        masks=masks,
        official=None if items.official is None else items.official[chosen],
        texts=[items.texts[item] for item in chosen] if items.texts else (),
        weights=None if items.weights is None else items.weights[chosen],
        groups=[items.groups[item] for item in chosen] if items.groups else (),
        bad=items.bad if first else (),
        notes=items.notes if first else (),
    )


def _sizes(source: Source, items: Callable[[], Items], smallest: int, progress: Progress | None) -> Sizes:
    """(N, 2) heights and widths by the items' headers, upright, kept in the cache; 0 of what cannot be used.

    Raises UserError for items that are no files of pictures.
    """
    path = cache_dir("sizes") / f"{source.key}.npy"
    try:
        stored: Sizes = np.load(path)
        return stored
    except (OSError, ValueError, EOFError):
        pass  # not read yet, or cut off
    reader = items().reader
    if not isinstance(reader, FileReader):
        raise UserError(f"data.buckets: {plain(source.name)} has images of one size; remove the key")
    sizes = np.zeros((len(reader.files), 2), np.int64)
    for item, name in enumerate(reader.files):
        if progress and not item % 64:
            progress(f"measuring {plain(source.name)}", item, len(sizes))
        try:
            with quiet(), reader.tree.open(name) as file, open_image(file) as image:
                size = height_width(image, orientation(image, loaded=False))
        except Exception as error:
            if isinstance(reason := blamed(error, name), UserError):
                raise reason from error
            continue
        sizes[item] = size if min(size) >= max(1, smallest) else 0
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.save(file, sizes)
    publish(partial, path)
    return sizes
