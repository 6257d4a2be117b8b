"""Images in a folder or a zip archive: which layout they are in, class folders, and metadata files."""

from __future__ import annotations

import posixpath
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from safelight.config import UserError
from safelight.data import columns as condition
from safelight.data import table
from safelight.data.coco import by_coco
from safelight.data.config import Data
from safelight.data.entries import classes_by_folder, file_items, split_by_folder, split_by_name
from safelight.data.images import blamed
from safelight.data.source import Items, Source, key
from safelight.data.table import Table
from safelight.data.tree import SUFFIXES, Listing, Tree, describe, open_tree
from safelight.terminal import plain

LAYOUTS = {"classes": "class folders", "metadata": "metadata beside the images", "coco": "COCO annotations"}
FILE_NAME = ("file_name", "image_file_name", "file", "image")


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
    checked = (config.attribute_range, config.need_attributes)
    more = {"which attributes": checked} if any(checked) else {}  # where unset, the keys of older packs
    parts = (chosen, config.choices(**more), str(describe(tree)), listing.digest)
    read = {"metadata": by_metadata, "coco": by_coco, "classes": by_subfolder}[chosen]
    name = Path(config.path).name.removesuffix(".zip") or "folder"
    return Source(name, key("folder", *parts), lambda: read(tree, listing, config))


def layout(config: Data, listing: Listing) -> str:
    """The layout of the recipe, or the one that is there. Raises UserError where the two disagree."""
    present = "metadata" if listing.metadata else "coco" if listing.annotations else "classes"
    chosen = present if config.layout == "auto" else config.layout
    needed = {"metadata": (listing.metadata, "metadata.csv or metadata.jsonl"),
              "coco": (listing.annotations, "annotations/*.json")}  # fmt: skip
    if chosen in needed and not needed[chosen][0]:
        raise UserError(f"data.layout: {config.path} has no {needed[chosen][1]}; set data.layout=auto")
    if chosen != "metadata" and (column := config.column()):
        raise UserError(
            f"data.{column}: names a column, but {config.path} has no metadata.csv or metadata.jsonl "
            f"that is used ({LAYOUTS[chosen]})"
        )
    return chosen


def by_subfolder(tree: Tree, listing: Listing, config: Data) -> Items:
    """Every image, with the first subfolder as its class."""
    below, sides = split_by_folder(listing.images)
    columns = {"label": classes_by_folder(below) if config.labels else None}
    return file_items(tree, config, listing.images, columns, official=sides, bad=listing.bad,
                      passed_over=listing.passed_over)  # fmt: skip


def by_metadata(tree: Tree, listing: Listing, config: Data) -> Items:
    """The images in metadata.csv or metadata.jsonl beside them (Hugging Face's imagefolder).

    A row is an image: `file_name` is its path from the metadata file, and other columns hold its label, mask
    (a file), captions and attributes. Further rows of an image add captions.
    Images in no row are passed over.
    Raises UserError where the files cannot be understood.
    """
    folders = [posixpath.dirname(name) for name in listing.metadata]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UserError(f"{plain(folder) or '.'}: has metadata.csv and metadata.jsonl; keep one of them")
    rows = table.joined([_read(tree, name) for name in listing.metadata])
    file_column = _file_column(rows, listing.metadata[0])
    roles = table.roles(rows, config, file_column)
    known = _KnownImages(listing.images)
    images = known.find_all(rows, file_column)
    nameless = images.count(None) - len(known.missing)
    masks = known.find_all(rows, roles.mask) if roles.mask else [None] * len(images)
    lost = [roles.mask is not None and mask is None and bool(rows.columns[roles.mask][row])
            for row, mask in enumerate(masks)]  # fmt: skip
    labels = table.class_names(rows, roles.label) if roles.label else [None] * len(images)
    numbers, faults = table.numbers(rows, roles.attributes, config.attribute_range, config.need_attributes)
    wrong = [f"{images[row]} ({reason})" for row, reason in sorted(faults.items()) if images[row] is not None]
    captions = table.captions(rows, roles.texts)

    by_image: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        # An image whose mask is missing, or with a faulty attribute, is a bad item.
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
    attributes = condition.attributes(numbers[firsts], roles.attributes) if roles.attributes else None
    unnamed = len(known.names.difference(name for name in (*images, *masks) if name))
    others = {"image that the metadata do not name": unnamed, "row without a file name": nameless}
    return file_items(
        tree, config, files, {"label": label, "attributes": attributes},
        masks=[masks[row] for row in firsts],
        texts=[[text for row in by_image[image] for text in captions[row]] for image in files],
        official=sides,
        bad=[*listing.bad, *known.missing, *wrong],
        passed_over=listing.passed_over + Counter(others),
    )  # fmt: skip


def _read(tree: Tree, name: str) -> Table:
    """The table of a metadata file."""
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


class _KnownImages:
    """The images of a listing, found by what metadata call them."""

    def __init__(self, images: Sequence[str]) -> None:
        self.names = frozenset(images)
        self.composed = {unicodedata.normalize("NFC", name): name for name in images}
        self.missing: list[str] = []

    def find_all(self, rows: Table, column: str) -> list[str | None]:
        """The image in each row of a column; None where the cell is empty, or the image missing."""
        images = []
        for cell, where in zip(rows.columns[column], rows.where, strict=True):
            if cell is not None and not isinstance(cell, str):
                raise table.unexpected(where, column, cell, "the name of a file")
            images.append(
                self._find(posixpath.dirname(where), cell, where) if cell and cell.strip() else None
            )
        return images

    def _find(self, folder: str, name: str, where: str) -> str | None:
        """The image of that name: as written, stripped, with / for \\, in composed letters (macOS)."""
        for spelled in (name, name.strip(), name.strip().replace("\\", "/")):
            path = posixpath.normpath(posixpath.join(folder, spelled))
            if path in self.names:
                return path
            if composed := self.composed.get(unicodedata.normalize("NFC", path)):
                return composed
        outside = posixpath.isabs(path) or path.startswith("../")
        reason = "leads out of the folder" if outside else "is not there, or no image by its ending"
        self.missing.append(f"{name} ({where}: {reason})")
        return None
