"""Images in a folder or a zip archive: which layout they are in, and how classes follow from subfolders."""

from __future__ import annotations

import posixpath
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from safelight.config import UserError
from safelight.data import columns as condition
from safelight.data import table
from safelight.data.coco import by_coco
from safelight.data.config import Data
from safelight.data.entries import Entries, classes_by_folder, items_of, split_by_folder, split_by_name
from safelight.data.images import blamed
from safelight.data.source import Items, Source, key
from safelight.data.table import Table
from safelight.data.tree import SUFFIXES, Listing, Tree, open_tree
from safelight.terminal import plain

# --- The metadata layout: metadata.csv or metadata.jsonl beside the images (Hugging Face's imagefolder) ---
# A row is an image: `file_name` is its path from the metadata file, and other columns hold its label,
# mask (a file), captions and attributes. Rows of one image add captions to it. Images that no row names
# are passed over.

FILE_NAME = ("file_name", "image_file_name", "file", "image")


def by_metadata(tree: Tree, listing: Listing, config: Data) -> Entries:
    """The images that metadata files name. Raises UserError where those cannot be understood."""
    folders = [posixpath.dirname(name) for name in listing.metadata]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UserError(f"{plain(folder) or '.'}: has metadata.csv and metadata.jsonl; keep one of them")
    rows = table.joined([_read(tree, name) for name in listing.metadata])
    file_column = _file_column(rows, listing.metadata[0])
    roles = table.roles(rows, config, file_column)
    found = _Images(listing.images)
    images = found.find_all(rows, file_column)
    nameless = images.count(None) - len(found.missing)
    masks = found.find_all(rows, roles.mask) if roles.mask else [None] * len(images)
    lost = [roles.mask is not None and mask is None and bool(rows.columns[roles.mask][row])
            for row, mask in enumerate(masks)]  # fmt: skip
    labels = table.class_names(rows, roles.label) if roles.label else [None] * len(images)
    faults = table.attribute_faults(rows, roles.attributes, config)
    wrong = [f"{image} ({faults[row]})" for row, image in enumerate(images)
             if image is not None and row in faults]  # fmt: skip
    numbers = table.numbers(_without(rows, roles.attributes, faults), roles.attributes)
    captions = table.captions(rows, roles.texts)

    by_image: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        # One without the mask it is said to have, or with an attribute that is none, is a bad item.
        if image is not None and not lost[row] and row not in faults:
            by_image.setdefault(image, []).append(row)
    files = sorted(by_image)
    firsts = [by_image[image][0] for image in files]
    for image, first in zip(files, firsts, strict=True):
        for row in by_image[image][1:]:
            alike = labels[row] == labels[first] and masks[row] == masks[first]
            if not (alike and np.array_equal(numbers[row], numbers[first], equal_nan=True)):
                raise UserError(
                    f"{plain(rows.where[row])}: disagrees with {plain(rows.where[first])} on {plain(image)}"
                )

    below, sides = split_by_folder(files)
    if table.SPLIT in rows.columns:
        sides = split_by_name([str(rows.columns[table.SPLIT][row] or "") for row in firsts])
    if config.labels and config.label == "folder":
        label = classes_by_folder(below)
    else:
        label = condition.label_by_name([labels[row] for row in firsts])
    named = (name for name in (*images, *masks) if name)
    unnamed = len(found.known.difference(named))
    others = {"image that the metadata do not name": unnamed, "row without a file name": nameless}
    return Entries(
        files=files,
        label=label,
        attributes=condition.attributes(numbers[firsts], roles.attributes) if roles.attributes else None,
        masks=[masks[row] for row in firsts],
        texts=[[text for row in by_image[image] for text in captions[row]] for image in files],
        official=sides,
        bad=[*listing.bad, *found.missing, *wrong],
        passed_over=listing.passed_over + Counter(others),
    )


def _without(rows: Table, columns: Sequence[str], faults: Mapping[int, str]) -> Table:
    """The table with the attributes of faulty rows empty."""
    emptied = {
        column: [None if row in faults else cell for row, cell in enumerate(rows.columns[column])]
        for column in columns
    }
    return Table({**rows.columns, **emptied}, rows.where)


def _read(tree: Tree, name: str) -> Table:
    """The table of a metadata file, its file names as paths from the root."""
    try:
        with tree.open(name) as file:
            content = file.read()
    except Exception as error:  # of the disk or of an archive
        raise UserError(f"{plain(name)}: cannot be read ({blamed(error, name)})") from error
    read = table.read_csv if name.lower().endswith(".csv") else table.read_jsonl
    return read(name, content)


def _file_column(rows: Table, metadata: str) -> str:
    for name in FILE_NAME:
        for column in rows.columns:
            if column.lower() == name:
                return column
    known = ", ".join(repr(column) for column in rows.columns) or "none"
    raise UserError(f"{plain(metadata)}: has no column file_name, only {known[:200]}; name the images in it")


class _Images:
    """The images there are, found by what metadata call them."""

    def __init__(self, images: Sequence[str]) -> None:
        self.known = frozenset(images)
        self.composed = {unicodedata.normalize("NFC", name): name for name in images}
        self.missing: list[str] = []

    def find_all(self, rows: Table, column: str) -> list[str | None]:
        """The image each row of a column names; None where it names none, or one that is missing."""
        images = []
        for cell, where in zip(rows.columns[column], rows.where, strict=True):
            if cell is not None and not isinstance(cell, str):
                raise UserError(
                    f"{plain(where)}: {column} is {plain(repr(cell))[:40]}; expected the name of a file"
                )
            named = (cell or "").strip()
            images.append(self._find(posixpath.dirname(where), cell or "", where) if named else None)
        return images

    def _find(self, folder: str, name: str, where: str) -> str | None:
        """The image of that name: as it stands, without space about it, with Windows' slashes, or with
        letters composed otherwise, as macOS does.
        """
        for spelled in (name, name.strip(), name.strip().replace("\\", "/")):
            path = posixpath.normpath(posixpath.join(folder, spelled))
            if path in self.known:
                return path
            if composed := self.composed.get(unicodedata.normalize("NFC", path)):
                return composed
        outside = posixpath.isabs(path) or path.startswith("../")
        reason = "leads out of the folder" if outside else "is not there, or no image by its ending"
        self.missing.append(f"{name} ({where}: {reason})")
        return None


LAYOUTS = {"classes": "class folders", "metadata": "metadata beside the images", "coco": "COCO annotations"}


def folder(config: Data) -> Source:
    """The images below data.path. Raises UserError where there are none."""
    assert config.path is not None
    tree = open_tree(config.path, config.follow_links)
    listing = tree.scan()
    if not listing.images:
        bad = f" ({listing.bad[0]})" if listing.bad else ""
        kinds = " ".join(SUFFIXES)
        raise UserError(f"data.path: {config.path} holds no image{bad}; looked for {kinds}")
    chosen = layout(config, listing)
    choices = config.model_dump(
        include={"size", "channels", "labels", "label", "attributes", "mask", "mask_classes", "text"}
    )
    if config.attribute_range or config.need_attributes:  # of older packs' keys there is nothing to say
        choices["which attributes"] = (config.attribute_range, config.need_attributes)
    parts = (chosen, sorted(choices.items()), str(tree.describe()), listing.digest)
    name = Path(config.path).name.removesuffix(".zip") or "folder"
    return Source(name, key("folder", *parts), lambda: items(tree, listing, config))


def items(tree: Tree, listing: Listing, config: Data) -> Items:
    """The images of a listing with all that is known of them. Raises UserError."""
    match layout(config, listing):
        case "metadata":
            entries = by_metadata(tree, listing, config)
        case "coco":
            entries = by_coco(tree, listing, config)
        case _:
            entries = by_subfolder(listing, config)
    if not entries.files:
        first = f", first {entries.bad[0]}" if entries.bad else ""
        raise UserError(f"data.path: {config.path}: none of the images named there can be taken{first}")
    return items_of(tree, entries, config)


def layout(config: Data, listing: Listing) -> str:
    """The layout asked for, or the one that is there. Raises UserError where the two disagree."""
    there = "metadata" if listing.metadata else "coco" if listing.annotations else "classes"
    chosen = there if config.layout == "auto" else config.layout
    if chosen == "metadata" and not listing.metadata:
        raise UserError(
            f"data.layout: {config.path} has no metadata.csv or metadata.jsonl; set data.layout=auto"
        )
    if chosen == "coco" and not listing.annotations:
        raise UserError(f"data.layout: {config.path} has no annotations/*.json; set data.layout=auto")
    if chosen != "metadata" and (column := config.column()):
        raise UserError(
            f"data.{column}: names a column, but {config.path} has no metadata.csv or metadata.jsonl "
            f"that is used ({LAYOUTS[chosen]})"
        )
    return chosen


def by_subfolder(listing: Listing, config: Data) -> Entries:
    """Every image, with the first subfolder as its class."""
    below, sides = split_by_folder(listing.images)
    label = classes_by_folder(below) if config.labels else None
    return Entries(listing.images, label, official=sides, bad=listing.bad, passed_over=listing.passed_over)
