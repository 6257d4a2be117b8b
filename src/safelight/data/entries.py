"""Image files as items: their shape, their reader, and what the names of folders say of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data import columns as condition
from safelight.data.columns import ConditionColumn
from safelight.data.config import Data
from safelight.data.images import FileReader, blamed, height_width, open_image, orientation, quiet
from safelight.data.source import HELD_OUT, TRAIN, Items, Masks
from safelight.data.tree import Tree

TEST_NAMES = ("test", "val", "valid", "validation", "dev")


def file_items(
    tree: Tree, config: Data, files: Sequence[str], columns: Mapping[str, ConditionColumn | None], *,
    masks: Sequence[str | None] = (), texts: Sequence[Sequence[str]] = (), bad: Sequence[str] = (),
    official: NDArray[np.int8] | None = None, passed_over: Mapping[str, int] = Counter(),
) -> Items:  # fmt: skip
    """Files, sorted by name, as items. masks: by file; empty where none has one. Others: as in `Items`.

    Raises UserError where there is no file, or where none can be decoded.
    """
    if not files:
        first = f", first {bad[0]}" if bad else ""
        raise UserError(f"data.path: {config.path}: none of the images named there can be taken{first}")
    shape, like = _shape(tree, files, config)
    masked = np.array([mask is not None for mask in masks], bool)
    used = masks if masked.any() else ()
    return Items(
        files,
        shape,
        FileReader(tree, files, used, shape[:2], like, shape[2], config.mask_classes),
        {name: column for name, column in columns.items() if column is not None},
        Masks(masked, config.mask_classes) if used else None,
        official, texts if any(texts) else (), bad, passed_over,
    )  # fmt: skip


def split_by_folder(names: Sequence[str]) -> tuple[list[str], NDArray[np.int8] | None]:
    """Names below train/ and test/ (or val/, valid/, validation/, dev/), and the side of each.

    Only where every image is in one of them, and each side has some; otherwise these are just names.
    """
    sides = split_by_name([name.partition("/")[0] if "/" in name else "" for name in names])
    return (list(names), None) if sides is None else ([name.partition("/")[2] for name in names], sides)


def split_by_name(sides: Sequence[str]) -> NDArray[np.int8] | None:
    """The official split that words such as "train" and "test" state; None unless all do, and both occur."""
    words = [side.strip().lower() for side in sides]
    known = set(words)
    if "train" not in known or len(known) == 1 or not known <= {"train", *TEST_NAMES}:
        return None
    return np.array([TRAIN if word == "train" else HELD_OUT for word in words], np.int8)


def classes_by_folder(names: Sequence[str]) -> ConditionColumn | None:
    """The first subfolders as classes, none for an image in no subfolder; None below two subfolders."""
    tops = [name.partition("/")[0] if "/" in name else None for name in names]
    known = tuple(sorted({top for top in tops if top is not None}))
    number = {name: index for index, name in enumerate(known)}
    places = [-1 if top is None else number[top] for top in tops]
    return condition.label(np.array(places, np.int64), known) if len(known) > 1 else None


def _shape(tree: Tree, files: Sequence[str], config: Data) -> tuple[tuple[int, int, int], str | None]:
    """(H, W, C) to decode to, and where the recipe states no size, the first good image, which sets it."""
    channels = config.channels or 0
    if config.height_width:
        return (*config.height_width, channels), None
    for name in files:
        try:
            with quiet(), tree.open(name) as file, open_image(file) as image:
                return (*height_width(image, orientation(image)), channels), name
        except Exception as error:
            if isinstance(blamed(error, name), UserError):
                raise blamed(error, name) from error
            # a bad file is reported when it is decoded
    raise UserError(f"data.path: {config.path}: none of its {len(files)} images can be decoded")
