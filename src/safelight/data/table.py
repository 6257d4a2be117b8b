"""The tables beside images, metadata.csv and metadata.jsonl: their columns, and the role of each."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError, nearest
from safelight.data import columns as condition
from safelight.data.config import Data
from safelight.terminal import plain

LABEL = ("label", "class")
MASK = ("mask_file_name", "mask")
TEXT = re.compile(r"(text|captions?)([_. -]?\d+)?", re.IGNORECASE)
SPLIT = "split"
MOSTLY = 0.9  # of a column's cells: one that is so far numbers is meant to be, and the others are slips
NOT_ATTRIBUTES = frozenset(("", "id", "index", "image_id", "unnamed: 0", "width", "height", SPLIT))


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of values by name, all of one length."""

    columns: Mapping[str, Sequence[Any]]
    where: Sequence[str]  # by row: where it stands, such as "train/metadata.csv:3"


def read_csv(name: str, content: bytes) -> Table:
    """A table with a header. Repeated columns are numbered: text, text becomes text, text_1."""
    rows, where = [], []
    try:
        reader = csv.reader(io.StringIO(_utf8(name, content), newline=""), strict=True)
        header = _distinct([column.strip() for column in next(reader, [])])
        for row in reader:
            if row:
                if len(row) > len(header):
                    raise UserError(
                        f"{plain(name)}:{reader.line_num}: has {len(row)} values for {len(header)} columns; "
                        "put quotes about a value with a comma in it"
                    )
                rows.append(row + [""] * (len(header) - len(row)))
                where.append(f"{name}:{reader.line_num}")
    except csv.Error as error:
        raise UserError(f"{plain(name)}:{reader.line_num}: is not CSV ({error})") from error
    return Table({column: [row[place] for row in rows] for place, column in enumerate(header)}, where)


def read_jsonl(name: str, content: bytes) -> Table:
    """A table of one JSON object a line; an object may lack columns."""
    rows, where = [], []
    for number, line in enumerate(_utf8(name, content).split("\n"), 1):
        if line.strip():
            row = parse_json(f"{name}:{number}", line)
            if not isinstance(row, dict):
                raise UserError(f'{plain(name)}:{number}: is not an object such as {{"file_name": "a.png"}}')
            rows.append(row)
            where.append(f"{name}:{number}")
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return Table({column: [row.get(column) for row in rows] for column in columns}, where)


def parse_json(where: str, text: str) -> Any:
    """A JSON value. Raises UserError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{plain(where)}: is not JSON ({plain(str(error))})") from error


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
    if config.text is not None:
        listed = (config.text,) if isinstance(config.text, str) else config.text
        texts = tuple(stated("text", column) for column in listed)
    else:
        texts = tuple(column for column in known if TEXT.fullmatch(column))
    if config.attributes is not None:
        attributes = tuple(stated("attributes", column) for column in config.attributes)
    else:
        taken = {files, label, mask, *texts, *(name for name in known if name.lower() in (*LABEL, *MASK))}
        free = (column for column in known if column not in taken and column.lower() not in NOT_ATTRIBUTES)
        attributes = tuple(column for column in free if _is_numeric(table.columns[column]))
    return Roles(label, mask, texts, attributes)


def class_names(table: Table, column: str) -> list[str | None]:
    """The class of each row by name, None where the cell is empty. Raises UserError."""
    names: list[str | None] = []
    for place, value in zip(table.where, table.columns[column], strict=True):
        if isinstance(value, float):
            value = int(value) if value.is_integer() else None if math.isnan(value) else value
        names.append(_text(place, column, value, "one class") or None)
    return names


def captions(table: Table, columns: Sequence[str]) -> list[list[str]]:
    """The captions of each row: strings, or lists of strings. Raises UserError."""
    rows: list[list[str]] = [[] for _ in table.where]
    for column in columns:
        for texts, place, cell in zip(rows, table.where, table.columns[column], strict=True):
            values = cell if isinstance(cell, list) else [cell]
            texts += filter(None, (_text(place, column, value, "text") for value in values))
    return rows


def numbers(
    table: Table, columns: Sequence[str], ends: tuple[float, float] | None = None, needed: bool | None = False
) -> tuple[NDArray[np.float32], dict[int, str]]:
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
                value = condition.number(cell)
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


def _is_numeric(cells: Sequence[Any]) -> bool:
    """Whether a column holds finite numbers but for a few slips: MOSTLY of the cells that are not empty."""
    good, wrong = 0, 0
    for cell in cells:
        try:
            good += math.isfinite(condition.number(cell))
        except ValueError:
            wrong += 1
    return good > 0 and good >= MOSTLY * (good + wrong)


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


def _utf8(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{plain(name)}: is not UTF-8 text; save it as UTF-8") from error


def _distinct(header: list[str]) -> list[str]:
    seen: set[str] = set()
    for place, column in enumerate(header):
        count = 0
        while header[place] in seen:
            count += 1
            header[place] = f"{column}_{count}"
        seen.add(header[place])
    return header
