"""Arrays as data: a .npz of images with labels and the like, or a .npy of images alone.

Arrays are found by name: images (or x, data), labels (y), masks, attributes (N, A), texts (or captions), and
text_features; data.label and its like name others. With a split in the names, as in x_train and x_test
or train_images and val_images, that split is the official one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image

from safelight.config import UserError, nearest
from safelight.data import columns as condition
from safelight.data.columns import ConditionColumn
from safelight.data.config import Data
from safelight.data.entries import split_by_name
from safelight.data.images import decode_mask, eight_bits, fit
from safelight.data.npz import Array, described, open_arrays
from safelight.data.source import BadItem, Items, Masks, Pixels, Source, key, stamp
from safelight.data.text_features import text_column
from safelight.terminal import plain

IMAGES = ("images", "x", "data", "image", "arr_0", "")
LABELS = ("labels", "label", "y", "targets")
MASKS = ("masks", "mask")
ATTRIBUTES = ("attributes",)
TEXTS = ("texts", "captions", "text", "caption")
FEATURES = ("text_features",)
SPLITS = ("", "test", "train", "val", "valid", "validation")  # in the order of names


def arrays(config: Data) -> Source:
    """The arrays of data.path. Raises UserError."""
    assert config.place
    path = Path(config.place)
    return Source(path.stem, key("arrays", config.choices(), stamp(path)), lambda: _items(config))


@dataclass(frozen=True, eq=False)
class ArrayReader:
    """Arrays of images, (N, H, W) or (N, H, W, C), one after another; masks: of each (N, H, W), or none."""

    images: Sequence[Array]
    shape: tuple[int, int, int]
    masks: Sequence[Array | None] = ()
    mask_classes: int | None = None

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(len(images) for images in self.images))

    def read(self, index: int) -> Pixels:
        """The image as a picture of `shape`. Raises BadItem for numbers that are no pixels."""
        part = bisect_right(self._ends, index)
        row = index - self._ends[part]  # below zero: from the end of its array
        image = _picture(self.images[part][row])
        masks = self.masks[part] if self.masks else None
        if masks is None:
            return Pixels(fit(image, self.shape))
        ids = np.asarray(masks[row])
        if ids.min() < 0 or ids.max() > 255:
            raise BadItem("its mask: holds numbers beyond 255")
        mask = Image.fromarray(np.ascontiguousarray(ids, np.uint8))
        whole = (image.height, image.width)
        return Pixels(fit(image, self.shape), decode_mask(mask, self.shape[:2], whole, self.mask_classes))


def shape_of(arrays: Sequence[Array], config: Data) -> tuple[int, int, int]:
    """(H, W, C) to make of arrays of images: as the recipe states, otherwise theirs. Raises UserError."""
    if len({images.shape[1:] for images in arrays}) > 1 and not config.height_width:
        raise UserError(f"data.size: is needed, as the images of {config.place} have different shapes")
    if config.channels == 4:
        raise UserError("data.channels=4: alpha is read from picture files; save the arrays as PNGs")
    images = arrays[0]
    height, width = config.height_width or images.shape[1:3]
    return height, width, config.channels or (1 if images.ndim == 3 or images.shape[3] == 1 else 3)


def check_images(where: str, images: Array) -> None:
    """Raises UserError for an array that cannot be images."""
    good = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3, 4))
    if not good or 0 in images.shape or images.dtype.kind not in "iubf":
        hint = "; channels come last" if images.ndim == 4 and images.shape[1] in (1, 3, 4) else ""
        raise UserError(
            f"{where}: is {images.dtype} of shape {images.shape}; expected images (N, H, W) or (N, H, W, C) "
            f"of 1, 3 or 4 channels{hint}"
        )


@dataclass(frozen=True, eq=False)
class _Part:
    """The arrays of one split, or of all."""

    split: str
    images: Array
    labels: Array | None  # (N,)
    masks: Array | None  # (N, H, W)
    attributes: Sequence[Array]  # each (N,) or (N, A)
    texts: Array | None  # (N,) or (N, K) strings
    features: Array | None

    def __len__(self) -> int:
        return len(self.images)


def _items(config: Data) -> Items:
    assert config.place
    known = open_arrays(config.place)
    _check_stated(known, config)
    parts = [part for split in SPLITS if (part := _part(known, split, config))]
    if not parts:
        content = plain(described(known))[:300] or "nothing"
        raise UserError(f"data.path: {config.place} holds no images, only {content}")
    shape = shape_of([part.images for part in parts], config)
    digits = len(str(max(map(len, parts))))
    names = [f"{part.split or 'image'}/{row:0{digits}d}" for part in parts for row in range(len(part))]
    columns = {"label": _label(parts, config), "attributes": _attributes(parts, config)}
    texts = _texts(parts)
    if all(part.features is not None for part in parts):
        features = np.concatenate([np.asarray(part.features) for part in parts])
        columns["text"] = text_column(f"{config.place}: text_features", {"": features}, names, texts)
    masked = np.concatenate([np.full(len(part), part.masks is not None) for part in parts])
    return Items(
        names,
        shape,
        ArrayReader(
            [part.images for part in parts], shape, [part.masks for part in parts], config.mask_classes
        ),
        columns={name: column for name, column in columns.items() if column is not None},
        masks=Masks(masked, config.mask_classes) if masked.any() else None,
        official=split_by_name([part.split for part in parts for _ in range(len(part))]),
        texts=texts,
    )


def _spellings(name: str, split: str) -> tuple[str, ...]:
    return (f"{split}_{name}", f"{name}_{split}") if split else (name,)


def _check_stated(known: Mapping[str, Array], config: Data) -> None:
    """Raises UserError for an array that the recipe names and the file lacks."""
    texts = config.texts or ()
    stated = {"label": (config.label,), "mask": (config.mask,), "attributes": config.attributes or (),
              "text": texts}  # fmt: skip
    for role, names in stated.items():
        for name in names:
            spelled = [spelling for split in SPLITS for spelling in _spellings(name or "", split)]
            if name and (role, name) != ("mask", "none") and not known.keys() & spelled:
                raise UserError(f"data.{role}: {config.place} has no array {name!r}{nearest(name, known)}")


def _part(known: Mapping[str, Array], split: str, config: Data) -> _Part | None:
    """The arrays of a split, such as x_train or train_images; None where it has no images."""

    def find(names: Sequence[str]) -> Array | None:
        spelled = (spelling for name in names for spelling in _spellings(name, split))
        return next((known[spelling] for spelling in spelled if spelling in known), None)

    images = find(IMAGES)
    if images is None:
        return None
    where = f"{config.place}: {split or 'images'}"
    check_images(where, images)
    part = _Part(
        split,
        images,
        labels=find((config.label,) if config.label else LABELS) if config.labels else None,
        masks=find((config.mask,) if config.mask else MASKS) if config.mask != "none" else None,
        attributes=[array for name in (ATTRIBUTES if config.attributes is None else config.attributes)
                    if (array := find((name,))) is not None],
        texts=find(config.texts or TEXTS),
        features=find(FEATURES),
    )  # fmt: skip
    for array in (part.labels, part.masks, part.texts, *part.attributes):
        if array is not None and (not array.ndim or len(array) != len(images)):
            raise UserError(
                f"{where}: has {len(images)} images, but an array of shape {array.shape} beside them"
            )
    if part.masks is not None and (part.masks.ndim != 3 or part.masks.dtype.kind not in "iub"):
        raise UserError(
            f"{where}: masks are {part.masks.dtype} {part.masks.shape}; expected class numbers (N, H, W)"
        )
    if part.texts is not None and part.texts.dtype.kind not in "US":
        raise UserError(
            f"{where}: texts are {part.texts.dtype}; expected strings, features go in text_features"
        )
    return part


def _picture(pixels: Array) -> Image.Image:
    """An image of mode L or RGB from uint8, uint16, bool, other integers to 255, or floats from 0 to 1."""
    pixels = np.asarray(pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype.kind == "f":
        if not ((pixels >= 0) & (pixels <= 1)).all():
            raise BadItem("floating-point pixels beyond 0 to 1")
        pixels = np.rint(pixels * 255)
    elif pixels.dtype == np.bool_:
        pixels = pixels * np.uint8(255)
    elif pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257)
    elif pixels.dtype != np.uint8 and (pixels.min() < 0 or pixels.max() > 255):
        raise BadItem("integer pixels beyond 0 to 255")
    return eight_bits(Image.fromarray(np.ascontiguousarray(pixels, np.uint8)))


def _label(parts: Sequence[_Part], config: Data) -> ConditionColumn | None:
    if not all(part.labels is not None for part in parts):
        return None
    rows = [np.asarray(part.labels).reshape(len(part), -1) for part in parts]
    if any(part.shape[1] != 1 for part in rows):
        raise UserError(f"{config.place}: labels are {rows[0].shape}; expected one class an image, (N,)")
    return condition.classes_of(np.concatenate(rows)[:, 0], f"{config.place}: labels")


def _attributes(parts: Sequence[_Part], config: Data) -> ConditionColumn | None:
    """The columns of an array (N, A), or an array (N,) for each name."""
    if not all(part.attributes for part in parts):
        return None
    try:
        values = np.concatenate([
            np.hstack([np.asarray(array, np.float32).reshape(len(part), -1) for array in part.attributes])
            for part in parts
        ])  # fmt: skip
    except ValueError as error:
        raise UserError(f"{config.place}: attributes are not numbers (N, A), alike in each split") from error
    names = config.attributes or ()
    if len(names) != values.shape[1]:
        names = tuple(f"attribute {place}" for place in range(values.shape[1]))
    return condition.attributes(values, names)


def _texts(parts: Sequence[_Part]) -> list[list[str]]:
    """The captions of each item; empty where there are none at all."""
    if all(part.texts is None for part in parts):
        return []
    rows: list[list[str]] = []
    for part in parts:
        if part.texts is None:
            rows += [[] for _ in range(len(part))]
        else:
            cells = np.asarray(part.texts).reshape(len(part), -1)
            texts = np.char.decode(cells, "utf-8", "replace") if cells.dtype.kind == "S" else cells
            rows += [[str(text) for text in row if str(text).strip()] for row in texts]
    return rows
