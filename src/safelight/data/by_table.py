"""Images that a table names (Hugging Face's imagefolder, stylegan's dataset.json): a row is an image."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Sequence

import numpy as np

from safelight.config import UserError
from safelight.data import table
from safelight.data.entries import Entries, split_by_name
from safelight.data.folders import Contents, below
from safelight.data.listing import NAMED_TABLES, TABLES, suffix_of
from safelight.data.table import FILE_NAME, Table
from safelight.data.table_files import read_table
from safelight.terminal import plain

IDS = ("id", "image_id", "name", "key")  # columns that may name images without their endings
FEW = 20  # cells that are tried


def tables(contents: Contents) -> list[str]:
    """The files that are read as tables: stated, or known by their name. Raises UserError."""
    config, listing = contents.config, contents.listing
    if config.table:
        if config.table not in listing.others and config.table not in listing.metadata:
            raise UserError(f"data.table: {contents.path} has no file {config.table}")
        return [config.table]
    if listing.metadata or config.rules == 1:
        return listing.metadata
    by_stem: dict[str, list[str]] = {}
    for name in listing.others:
        stem, suffix = posixpath.basename(name).lower(), suffix_of(name)
        if suffix in TABLES and stem.removesuffix(suffix) in NAMED_TABLES and _with(contents, name):
            by_stem.setdefault(stem.removesuffix(suffix), []).append(name)
    return next((by_stem[stem] for stem in NAMED_TABLES if stem in by_stem), [])


def _with(contents: Contents, name: str) -> bool:
    """Whether a file is no caption of a picture of its name."""
    return name.removesuffix(suffix_of(name)) not in contents.stems


def by_table(contents: Contents) -> Entries | None:
    """The images in a table: `file_name` is a path from the table's file, other columns hold labels, masks
    (files), captions and attributes. Further rows of an image add captions. Images in no row are passed over.

    None where there is no table, or one that is known by its name alone names no image that is there.
    Raises UserError where a table cannot be understood.
    """
    tree, listing, config = contents.tree, contents.listing, contents.config
    names = tables(contents)
    if not names:
        return None
    folders = [posixpath.dirname(name) for name in names]
    for folder in folders:
        if folders.count(folder) > 1:
            there = [posixpath.basename(name) for name in names if posixpath.dirname(name) == folder]
            raise UserError(f"{plain(folder) or '.'}: has {' and '.join(there)}; keep one of them")
    stated = bool(config.table or listing.metadata or config.layout == "metadata")
    try:
        rows = table.joined([read_table(tree, name) for name in names])
    except UserError:
        if stated or not all(name.endswith(".json") for name in names):
            raise
        return None  # JSON of something else
    if not rows.columns and names[0].endswith(".json"):  # stylegan's, without labels
        return Entries(listing.images, bad=listing.bad, used=frozenset(names))
    known = _KnownImages(listing.images, loose=config.rules > 1)
    file_column = _file_column(rows, known)
    if file_column is None and (headless := _headless(rows, known, names)):
        rows, file_column = headless, "file_name"
        contents.asides.add("table without a header", names[0], f"read as {', '.join(rows.columns)}")
    if file_column is None and not stated:
        return None
    if file_column is None:
        columns = ", ".join(repr(column) for column in rows.columns) or "none"
        raise UserError(
            f"{plain(names[0])}: has no column file_name, only {columns[:200]}; name the images in it"
        )
    roles = table.roles(rows, config, file_column)
    images = known.find_all(rows, file_column)
    nameless = images.count(None) - len(known.missing)
    masks = known.find_all(rows, roles.mask) if roles.mask else [None] * len(images)
    lost = [roles.mask is not None and mask is None and bool(rows.columns[roles.mask][row])
            for row, mask in enumerate(masks)]  # fmt: skip
    if not stated and not any(images):
        return None
    labels: list[str | None] = [None] * len(images)
    if roles.label:
        labels = table.class_names(rows, roles.label, config.rules)
    numbers, faults = table.numbers(
        rows, roles.attributes, roles.readers, config.attribute_range, config.need_attributes
    )
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

    under, sides = below(files, contents.shards, config)
    if table.SPLIT in rows.columns:
        words = [str(rows.columns[table.SPLIT][row] or "").strip() for row in firsts]
        sides = split_by_name(words, config.rules)
    label = [labels[row] for row in firsts]
    if config.labels and config.label == "folder":
        label = [name.partition("/")[0] if "/" in name else None for name in under]
    groups = table.class_names(rows, roles.group) if roles.group else None
    used = {name for name in (*images, *masks) if name}
    entries = Entries(
        files, label, "numbers" if config.rules > 1 else "whole",
        masks=[masks[row] for row in firsts],
        texts=[[text for row in by_image[image] for text in captions[row]] for image in files],
        numbers=numbers[firsts], attributes=roles.attributes, sides=sides,
        weights=table.weights(rows, roles.weight, firsts) if roles.weight else (),
        groups=[groups[row] for row in firsts] if groups else (),
        bad=[*listing.bad, *known.missing, *wrong], used=frozenset(names),
    )  # fmt: skip
    entries.notes.add_all("image that the metadata do not name", sorted(known.names - used))
    if table.SPLIT in rows.columns and sides is None and any(words):
        listed = ", ".join(repr(word) for word in sorted({*words})[:4])
        entries.notes.add(
            f"column {table.SPLIT}", listed, "not used: not all of it says train or test, and both"
        )
    entries.notes.add("row without a file name", count=nameless)
    for column, reason in roles.unused.items():
        cells = (str(cell) for cell in rows.columns[column] if cell not in (None, ""))
        entries.notes.add(f"column {column or 'without a name'}", next(cells, ""), reason, 1)
    return entries


def _headless(rows: Table, images: _KnownImages, names: Sequence[str]) -> Table | None:
    """The table of two columns whose header is a row already, with names; None where it is none."""
    if len(rows.columns) != 2 or not images.has([next(iter(rows.columns))]):
        return None
    files, cells = ([column, *values] for column, values in rows.columns.items())
    words = len({*cells}) > len(cells) / 2 and any(" " in str(cell).strip() for cell in cells)
    return Table({"file_name": files, "text" if words else "label": cells}, [f"{names[0]}:1", *rows.where])


def _file_column(rows: Table, images: _KnownImages) -> str | None:
    """The column that names the images: by its name, or one of ids whose cells do."""
    known = {column.lower(): column for column in reversed([*rows.columns])}
    ids = (name for name in IDS if name in known and images.has(rows.columns[known[name]][:FEW]))
    return next((known[name] for name in (*FILE_NAME, *ids) if name in known), None)


class _KnownImages:
    """The images of a listing, found by what metadata call them."""

    def __init__(self, images: Sequence[str], loose: bool) -> None:
        """loose: a name without its folder or its ending will do where only one image has it."""
        self.names = frozenset(images)
        self.loose: dict[str, str | None] = {}
        for name in images if loose else ():
            last = posixpath.basename(name)
            for short in {last, posixpath.splitext(name)[0], posixpath.splitext(last)[0]}:
                self.loose[short] = None if short in self.loose else name
        self.composed = {unicodedata.normalize("NFC", name): name for name in images}
        self.missing: list[str] = []

    def has(self, cells: Sequence[object]) -> bool:
        """Whether these name images, without folder or ending."""
        return bool(cells) and all(isinstance(cell, str) and self.loose.get(cell.strip()) for cell in cells)

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
        for short in (path, posixpath.basename(path)):
            if only := self.loose.get(short):
                return only
        outside = posixpath.isabs(path) or path.startswith("../")
        reason = "leads out of the folder" if outside else "is not there, or no image by its ending"
        self.missing.append(f"{name} ({where}: {reason})")
        return None
