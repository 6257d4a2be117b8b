"""What a layout says of pictures, and the items that these become: their shape and their reader."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data import columns as condition
from safelight.data.columns import ConditionColumn
from safelight.data.config import Data
from safelight.data.fitting import Fitting
from safelight.data.images import FileReader, blamed, height_width, is_deep, open_image, orientation, quiet
from safelight.data.masks import ALPHA, MaskTree, colour_table, in_colours
from safelight.data.source import HELD_OUT, TRAIN, UNDECIDED, Items, Masks, Note, Notes
from safelight.data.tree import Tree
from safelight.terminal import plain

OLD_NAMES = {"train", "test", "val", "valid", "validation", "dev"}  # to the rules of safelight 0.1
TRAIN_NAMES = ("train", "training", "trainset", "trainingset", "traindata")
TEST_NAMES = (
    "test",
    "testing",
    "testset",
    "testdata",
    "val",
    "valid",
    "validation",
    "dev",
    "eval",
    "evaluation",
)


@dataclass
class Entries:
    """What is known of pictures undecoded: each sequence by picture, empty where there is none."""

    files: Sequence[str]  # sorted
    labels: Sequence[str | None] = ()  # names of classes
    order: condition.Order = "numbers"  # of classes
    masks: Sequence[str | None] = ()  # names of files, or of what a `MaskTree` makes
    texts: Sequence[Sequence[str]] = ()
    spare: Sequence[str] = ()  # a caption for an image that has no other
    numbers: NDArray[np.float32] | None = None  # (N, A), not-a-number where there is none
    attributes: tuple[str, ...] = ()
    sides: NDArray[np.int8] | None = None  # of the official split
    weights: Sequence[float] = ()
    groups: Sequence[str | None] = ()  # of the split
    mask_names: tuple[str, ...] = ()  # of mask classes
    outlines: str = ""  # the file that `MaskTree` reads
    bad: Sequence[str] = ()
    notes: Notes = field(default_factory=Notes)
    used: frozenset[str] = frozenset()  # files that were read besides
    layout: str = ""  # how they were read, in words

    def conditions(self) -> dict[str, ConditionColumn]:
        """The columns of conditions."""
        label = condition.label_by_name(self.labels, self.order) if self.labels else None
        attributes = None
        if self.numbers is not None and self.attributes:
            attributes = condition.attributes(self.numbers, self.attributes)
        columns = {"label": label, "attributes": attributes}
        return {name: column for name, column in columns.items() if column is not None}


LOOKED, BRIGHT = 64, 0.999  # pictures in which white is measured; the share of their pixels below it
GLANCED, DARK = (
    8,
    0.5,
)  # files that are looked at for odd pixels; the share of white below which 16 bits are dark
REASONS = 5  # bad files an error names


def to_items(tree: Tree, config: Data, entries: Entries) -> Items:
    """Entries as items. Raises UserError where there is none, or where none can be decoded."""
    masks = entries.masks
    if config.mask == "alpha" and not any(masks):
        masks = [ALPHA + file for file in entries.files]
    elif config.mask == "none":
        masks = ()
    if any(mask and ":" in mask for mask in masks) and not isinstance(tree, MaskTree):
        tree = MaskTree(tree, entries.outlines)
    if not config.mask_colours and (note := in_colours(tree, masks)):
        entries.notes.extend([note])
    weights = np.asarray(entries.weights, np.float32)
    items = file_items(
        tree, config, entries.files, entries.conditions(), masks=masks, texts=entries.texts,
        bad=entries.bad, official=entries.sides, notes=[*entries.notes], mask_names=entries.mask_names,
    )  # fmt: skip
    weighted = weights if len(set(entries.weights)) > 1 else None
    return replace(items, weights=weighted, layout=entries.layout, groups=entries.groups)


def joined(parts: Mapping[str, Entries]) -> Entries:
    """The entries of several trees, under a folder's name each; attributes are those that all have."""
    listed = sorted(
        (f"{folder}/{file}", folder, place)
        for folder, part in parts.items()
        for place, file in enumerate(part.files)
    )
    first, *others = parts.values()
    attributes = tuple(name for name in first.attributes if all(name in part.attributes for part in others))
    notes = Notes()
    for folder, part in parts.items():
        notes.extend(
            replace(note, example=f"{folder}/{note.example}" if note.example else "") for note in part.notes
        )
        for name in part.attributes:
            if name not in attributes:
                notes.add(f"column {name}", folder, "only some of the paths have it")

    def each(name: str, absent: object) -> list[Any]:
        rows = {folder: getattr(part, name) for folder, part in parts.items()}
        if not any(len(row) for row in rows.values()):
            return []
        return [rows[folder][place] if len(rows[folder]) else absent for _, folder, place in listed]

    tables = {folder: part.numbers[:, [part.attributes.index(name) for name in attributes]]
              for folder, part in parts.items() if part.numbers is not None}  # fmt: skip
    numbers = [tables[folder][place] for _, folder, place in listed] if attributes else None
    sides = [UNDECIDED if part.sides is None else part.sides[place]
             for part, place in ((parts[folder], place) for _, folder, place in listed)]  # fmt: skip
    masks = [
        mask and f"{folder}/{mask}" for mask, (_, folder, _) in zip(each("masks", None), listed, strict=False)
    ]
    return Entries(
        [name for name, _, _ in listed], each("labels", None), first.order, masks, each("texts", ()), (),
        None if numbers is None else np.asarray(numbers, np.float32), attributes,
        None if all(part.sides is None for part in parts.values()) else np.array(sides, np.int8),
        each("weights", 1.0), each("groups", None),
        next((part.mask_names for part in parts.values() if part.mask_names), ()),
        bad=[f"{folder}/{bad}" for folder, part in parts.items() for bad in part.bad], notes=notes,
        layout="; ".join(f"{folder}: {part.layout}" for folder, part in parts.items()),
    )  # fmt: skip


def file_items(
    tree: Tree, config: Data, files: Sequence[str], columns: Mapping[str, ConditionColumn | None], *,
    masks: Sequence[str | None] = (), texts: Sequence[Sequence[str]] = (), bad: Sequence[str] = (),
    official: NDArray[np.int8] | None = None, notes: Sequence[Note] = (), mask_names: tuple[str, ...] = (),
) -> Items:  # fmt: skip
    """Files, sorted by name, as items. masks: by file; empty where none has one. Others: as in `Items`.

    Raises UserError where there is no file, or where none can be decoded.
    """
    if not files:
        first = f", first {bad[0]}" if bad else ""
        raise UserError(f"data.path: {config.place}: none of the images named there can be taken{first}")
    shape, like = _shape(tree, files, config)
    masked = np.array([mask is not None for mask in masks], bool)
    used = masks if masked.any() else ()
    values = config.mask_values
    how = fitting(config)
    if config.white == "measured":
        white, note = measured_white(tree, files)
        how, notes = replace(how, white=white), (*notes, note)
    notes = (*notes, *_odd_pixels(tree, files, config))
    alpha = bool(used) and str(next(filter(None, used))).startswith(ALPHA)
    mask_names = (colour_table(config.mask_colours)[1] if config.mask_colours else ()) or mask_names
    classes = config.mask_classes or len(config.mask_colours) or len(mask_names) or None
    return Items(
        files,
        shape,
        FileReader(
            tree, files, used, shape[:2], like, shape[2], classes,
            "alpha" if alpha and values != "soft" else values, config.mask_colours, how,
        ),
        {name: column for name, column in columns.items() if column is not None},
        Masks(masked, classes, mask_names if classes == len(mask_names) else (), values) if used else None,
        official, texts if any(texts) else (), bad, notes,
        crop=config.height_width if config.crop == "random" else None,
    )  # fmt: skip


def fitting(config: Data) -> Fitting:
    """How the recipe brings pictures to their size."""
    white = None if config.white == "measured" else config.white
    return Fitting(config.fit, config.crop, config.background, config.smallest or 0, config.rules > 1, white)


def _odd_pixels(tree: Tree, files: Sequence[str], config: Data) -> Iterable[Note]:
    """What a look at GLANCED of the files shows that a picture would lose without a word."""
    notes = Notes()
    for name in files[:: max(1, len(files) // GLANCED)][:GLANCED]:
        try:
            with quiet(), tree.open(name) as file, open_image(file) as image:
                if getattr(image, "n_frames", 1) > 1 and image.format not in ("JPEG", "MPO", "HEIF"):
                    notes.add("picture of several frames", name, "the first is taken")
                if config.white is None and is_deep(image) and image.mode != "F":
                    brightest = int(np.asarray(image).max())
                    if brightest < DARK * 65535:
                        reason = (
                            f"its brightest grey is {brightest:,} of 65,535; data.white=measured, or a number"
                        )
                        notes.add("picture of 16 bits that is dark", name, reason)
                seen_through = image.has_transparency_data and config.mask != "alpha" and config.channels != 4
                if seen_through and np.asarray(image.convert("RGBA").getchannel("A")).min() < 128:
                    reason = f"laid on data.background={config.background}; data.channels=4 keeps alpha"
                    notes.add("transparent picture", name, reason)
        except Exception:  # whoever decodes it says what is wrong
            continue
    return (replace(note, kind=f"{note.kind}, of {min(GLANCED, len(files))} looked at") for note in notes)


def measured_white(tree: Tree, files: Sequence[str]) -> tuple[float, Note]:
    """The largest BRIGHT quantile of LOOKED pictures beyond 8 bits, and how it came. Raises UserError."""
    whites = []
    for name in files[:: max(1, len(files) // LOOKED)][:LOOKED]:
        try:
            with quiet(), tree.open(name) as file, open_image(file) as image:
                if is_deep(image):
                    whites.append(float(np.nanquantile(np.asarray(image, np.float64), BRIGHT)))
        except Exception:  # whoever decodes it says what is wrong
            continue
    if not whites or max(whites) <= 0:
        raise UserError(
            f"data.white: measured needs grey pictures of 16 bits or floating-point numbers; none of "
            f"those looked at is, such as {plain(files[0])}; drop the key"
        )
    white = max(whites)
    reason = f"the largest {BRIGHT:.1%} quantile of {len(whites)} pictures; data.white=NUMBER states another"
    return white, Note(f"white measured as {white:,.6g}", 1, "", reason)


def split_by_folder(names: Sequence[str], rules: int = 2) -> tuple[list[str], NDArray[np.int8] | None]:
    """Names below train/ and test/ (or what else is in TRAIN_NAMES and TEST_NAMES), and the side of each.

    Only where every image is in one of them, and each side has some; otherwise these are just names.
    """
    sides = split_by_name([name.partition("/")[0] if "/" in name else "" for name in names], rules)
    return (list(names), None) if sides is None else ([name.partition("/")[2] for name in names], sides)


def split_by_name(sides: Sequence[str], rules: int = 2) -> NDArray[np.int8] | None:
    """The official split that words such as "train" and "test" state; None unless all do, and both occur."""
    if rules == 1 and not {side.strip().lower() for side in sides} <= OLD_NAMES:
        return None
    words = [re.sub(r"[ _-]", "", side.lower()) for side in sides]
    known = set(words)
    if not known & {*TRAIN_NAMES} or known <= {*TRAIN_NAMES} or not known <= {*TRAIN_NAMES, *TEST_NAMES}:
        return None
    return np.array([TRAIN if word in TRAIN_NAMES else HELD_OUT for word in words], np.int8)


def _shape(tree: Tree, files: Sequence[str], config: Data) -> tuple[tuple[int, int, int], str | None]:
    """(H, W, C) to decode to, and where the recipe states no size, the first good image, which sets it."""
    channels = config.channels or 0
    if config.packed_size:
        return (*config.packed_size, channels), None
    reasons = []
    for name in files:
        try:
            with quiet(), tree.open(name) as file, open_image(file) as image:
                return (*height_width(image, orientation(image)), channels), name
        except Exception as error:
            if isinstance(reason := blamed(error, name), UserError):
                raise reason from error
            reasons.append(f"{plain(name)} ({reason})")  # where one is good, reported when it is decoded
    some = ", ".join(reasons[:REASONS]) + (" and so on" if len(reasons) > REASONS else "")
    raise UserError(f"data.path: {config.place}: none of its {len(files)} images can be decoded: {some}")
