"""What a layout finds in a folder, row by row, and how that becomes items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True, eq=False)
class Entries:
    """Images a layout found, sorted by name, with what it knows of each."""

    files: Sequence[str]
    label: ConditionColumn | None = None
    attributes: ConditionColumn | None = None
    masks: Sequence[str | None] = ()  # by entry; empty where none has one
    texts: Sequence[Sequence[str]] = ()
    official: NDArray[np.int8] | None = None
    bad: Sequence[str] = ()
    passed_over: Counter[str] = field(default_factory=Counter)


def items_of(tree: Tree, entries: Entries, config: Data) -> Items:
    """The entries as items. Raises UserError where not one can be decoded, or features do not fit."""
    shape, like = _shape(tree, entries.files, config)
    columns = {"label": entries.label, "attributes": entries.attributes}
    masked = np.array([mask is not None for mask in entries.masks], bool)
    reader = FileReader(
        tree,
        entries.files,
        entries.masks if masked.any() else (),
        shape[:2],
        like,
        shape[2],
        config.mask_classes,
    )
    return Items(
        names=entries.files,
        shape=shape,
        reader=reader,
        columns={name: column for name, column in columns.items() if column is not None},
        masks=Masks(masked, config.mask_classes) if masked.any() else None,
        official=entries.official,
        texts=entries.texts if any(entries.texts) else (),
        bad=entries.bad,
        passed_over=entries.passed_over,
    )


def split_by_folder(names: Sequence[str]) -> tuple[list[str], NDArray[np.int8] | None]:
    """Names below train/ and test/ (or val/, valid/, validation/), and the side each lies on.

    Only where every image lies in one of them, and each side has some; otherwise these are just names.
    """
    tops = [name.partition("/")[0] if "/" in name else "" for name in names]
    sides = split_by_name(tops)
    return (list(names), None) if sides is None else ([name.partition("/")[2] for name in names], sides)


def split_by_name(sides: Sequence[str]) -> NDArray[np.int8] | None:
    """The official split that words such as "train" and "test" state; None unless all do, and both occur."""
    words = [side.strip().lower() for side in sides]
    found = set(words)
    if "train" not in found or len(found) == 1 or not found <= {"train", *TEST_NAMES}:
        return None
    return np.array([TRAIN if word == "train" else HELD_OUT for word in words], np.int8)


def classes_by_folder(names: Sequence[str]) -> ConditionColumn | None:
    """The first subfolders as classes; an image that lies in no subfolder has none.

    A single subfolder tells nothing apart, and is no class.
    """
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
