"""The columns of tables beside images, and the role of each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError, nearest
from safelight.data.columns import number, plain_numbers
from safelight.data.config import Data
from safelight.data.numbers import Reader, reader_of
from safelight.terminal import plain

FILE_NAME = (
    "file_name",
    "image_file_name",
    "file",
    "image",
    "filename",
    "image_path",
    "image_name",
    "path",
    "img",
)
LABEL = ("label", "class")
MASK = ("mask_file_name", "mask")
TEXT = re.compile(r"(text|captions?)([_. -]?\d+)?", re.IGNORECASE)
SPLIT = "split"
NOT_ATTRIBUTES = frozenset(("", "id", "index", "image_id", "unnamed: 0", "width", "height", SPLIT))


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of values by name, all of one length."""

    columns: Mapping[str, Sequence[Any]]
    where: Sequence[str]  # by row: where it stands, such as "train/metadata.csv:3"


def joined(tables: Sequence[Table]) -> Table:
    """The rows of several tables; a column that one lacks is empty there."""
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    rows: dict[str, list[Any]] = {column: [] for column in columns}
    for table in tables:
        for column in columns:
            rows[column] += table.columns.get(column, [None] * len(table.where))
    return Table(rows, [place for table in tables for place in table.where])


@dataclass(frozen=True)
class Roles:
    """The columns of a table by role; None and () where there is none."""

    label: str | None
    mask: str | None
    texts: tuple[str, ...]
    attributes: tuple[str, ...]
    readers: Mapping[str, Reader] = field(default_factory=dict)  # of the attributes' cells
    unused: Mapping[str, str] = field(default_factory=dict)  # the reason, by column
    weight: str | None = None
    group: str | None = None


def roles(table: Table, config: Data, files: str) -> Roles:
    """The roles that the recipe states, otherwise those that the columns' names suggest. Raises UserError.

    files: the column that names the images. Every other column of numbers is an attribute, but for
    those that number or measure the images.
    """
    known = tuple(table.columns)

    def stated(key: str, column: str) -> str:
        if column not in table.columns:
            raise UserError(f"data.{key}: there is no column {column!r}{nearest(column, known)}")
        return column

    def by_name(names: Sequence[str]) -> str | None:
        return next((column for name in names for column in known if column.lower() == name), None)

    label = None
    if config.labels and config.label != "folder":
        label = stated("label", config.label) if config.label else by_name(LABEL)
    mask = None
    if config.mask != "none":
        mask = stated("mask", config.mask) if config.mask else by_name(MASK)
    if config.texts is not None:
        texts = tuple(stated("text" if config.text else "captions", column) for column in config.texts)
    elif config.captions != "auto":
        texts = ()
    else:
        texts = tuple(column for column in known if TEXT.fullmatch(column))
    weight = stated("weights", config.weights) if isinstance(config.weights, str) else None
    group = stated("group", str(config.group)) if config.grouped_by_column else None
    if config.attributes is not None:
        named = tuple(stated("attributes", column) for column in config.attributes)
        readers = {column: reader_of(table.columns[column], stated=True)[0] or number for column in named}
        return Roles(label, mask, texts, named, readers, {}, weight, group)
    reserved = {*LABEL, *MASK} | ({*FILE_NAME} if config.rules > 1 else set())
    taken = {files, label, mask, weight, group, *texts, *(name for name in known if name.lower() in reserved)}
    readers, unused = {}, {}
    for column in known:
        if column.lower() in NOT_ATTRIBUTES:
            if column.lower() != SPLIT:
                unused[column] = "it numbers or measures the images; data.attributes may name it"
        elif column not in taken:
            reader, reason = reader_of(table.columns[column], stated=False)
            if reader is None or (config.rules == 1 and reader is not number):
                unused[column] = reason
            else:
                readers[column] = reader
    return Roles(label, mask, texts, tuple(readers), readers, unused, weight, group)


def class_names(table: Table, column: str, rules: int = 2) -> list[str | None]:
    """The class of each row by name, None where the cell is empty. Raises UserError.

    rules: as data.rules; by those of today "nan" is an empty cell, and 1.0 is class 1 where all are such.
    """
    names: list[str | None] = []
    for place, value in zip(table.where, table.columns[column], strict=True):
        if isinstance(value, float):
            value = int(value) if value.is_integer() else None if math.isnan(value) else value
        name = _text(place, column, value, "one class")
        names.append(None if not name or (rules > 1 and name.lower() == "nan") else name)
    return plain_numbers(names) if rules > 1 else names


def captions(table: Table, columns: Sequence[str]) -> list[list[str]]:
    """The captions of each row: strings, or lists of strings. Raises UserError."""
    rows: list[list[str]] = [[] for _ in table.where]
    for column in columns:
        for texts, place, cell in zip(rows, table.where, table.columns[column], strict=True):
            values = cell if isinstance(cell, list) else [cell]
            texts += filter(None, (_text(place, column, value, "text") for value in values))
    return rows


def numbers(
    table: Table, columns: Sequence[str], readers: Mapping[str, Reader],
    ends: tuple[float, float] | None = None, needed: bool | None = False,
) -> tuple[NDArray[np.float32], dict[int, str]]:  # fmt: skip
    """The numbers of each row (N, A), not-a-number where a cell is empty; and of faulty rows the reason.

    A faulty row has a cell that is no number, lies beyond `ends`, or is empty although `needed`: it is all
    not-a-number.
    """
    low, high = ends or (-math.inf, math.inf)
    values = np.full((len(table.where), len(columns)), np.nan, np.float32)
    faults: dict[int, str] = {}
    for index, column in enumerate(columns):
        for row, (place, cell) in enumerate(zip(table.where, table.columns[column], strict=True)):
            value, expected = math.nan, "a number"
            try:
                value = readers[column](cell)
                expected = f"{low:g} to {high:g}" if value < low or value > high else ""
            except ValueError:
                pass
            if expected:
                faults.setdefault(row, f"{place}: attribute {column} is {_shown(cell)}; expected {expected}")
            elif needed and math.isnan(value):
                faults.setdefault(row, f"{place}: attribute {column} is missing")
            values[row, index] = value
    values[list(faults)] = np.nan
    return values, faults


def unexpected(place: str, column: str, cell: object, expected: str) -> UserError:
    """The error for a cell that is something else."""
    return UserError(f"{plain(place)}: {column} is {_shown(cell)}; expected {expected}")


def _shown(cell: object) -> str:
    return plain(repr(cell))[:40]


def _text(place: str, column: str, value: object, expected: str) -> str:
    """A cell as text, "" where it is empty. Raises UserError for what is neither text nor number."""
    if value is not None and not isinstance(value, str | int | float):
        raise unexpected(place, column, value, expected)
    return "" if value is None else clean(value)


def clean(value: object) -> str:
    """The value as text without space about it; half characters, which JSON can state, as "?"."""
    return str(value).strip().encode("utf-8", "replace").decode()


def weights(table: Table, column: str, rows: Sequence[int]) -> list[float]:
    """How often the image of each of those rows is drawn; 1 where the cell is empty. Raises UserError."""
    result = []
    for row in rows:
        try:
            value = number(table.columns[column][row])
        except ValueError:
            value = -1.0
        if value < 0 or math.isinf(value):
            raise unexpected(table.where[row], column, table.columns[column][row], "a number from 0 on")
        result.append(1.0 if math.isnan(value) else value)
    return result
