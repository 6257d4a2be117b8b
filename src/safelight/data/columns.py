"""Columns of raw values become conditions: class names, numbers, features, each present or absent by item.

A sample's conditions are present when it has every one of them (`Pack.present`): an image with a label but
without its mask is trained unconditionally. Leave a condition that few images have out of the recipe
(labels = false, mask = "none", attributes = []) to use the others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError

Order = Literal["text", "whole", "numbers"]  # of class names
WHOLE = re.compile(r"-?[0-9]{1,18}")
NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
PANDAS = re.compile(r"-?[0-9]+(\.0+)?")
NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True, eq=False)
class ConditionColumn:
    """One condition of N items.

    values: label (N,) int64; attributes (N, A) float32; text (M, T) float32, of which item i owns the
    rows first[i] to first[i + 1], one for each of its captions. Absent items hold zeros.
    """

    kind: Literal["label", "attributes", "text"]
    size: int
    values: NDArray[Any]
    present: NDArray[np.bool_]  # (N,)
    names: tuple[str, ...] = ()
    first: NDArray[np.int64] | None = None  # (N + 1,), of text only


def label(classes: NDArray[np.integer], names: tuple[str, ...]) -> ConditionColumn:
    """Classes (N,) counted from 0, below zero where an item has none."""
    values = np.asarray(classes, np.int64)
    return ConditionColumn("label", len(names), np.maximum(values, 0), values >= 0, names)


def label_by_name(values: Sequence[str | None], order: Order = "numbers") -> ConditionColumn | None:
    """Classes by name. None where fewer than two differ.

    order: "numbers" where all are numbers, "whole" where they are whole numbers; otherwise as text.
    """
    known = {value for value in values if value is not None}
    if len(known) < 2:
        return None
    kind = {"numbers": NUMBER, "whole": WHOLE, "text": NOTHING}[order]
    numeric = all(kind.fullmatch(value) for value in known)
    names = tuple(sorted(known, key=lambda name: (Decimal(name), name) if numeric else (Decimal(0), name)))
    number = {name: index for index, name in enumerate(names)}
    return label(np.array([-1 if value is None else number[value] for value in values]), names)


def attributes(values: NDArray[np.floating], names: tuple[str, ...]) -> ConditionColumn:
    """Numbers (N, A), not-a-number where one is missing: that item has no attributes."""
    rows = np.asarray(values, np.float32).reshape(len(values), len(names))
    present = np.isfinite(rows).all(1).reshape(-1)
    return ConditionColumn(
        "attributes", len(names), np.where(present[:, None], rows, np.float32(0)), present, names
    )


def text(features: NDArray[np.floating], first: NDArray[np.int64]) -> ConditionColumn:
    """Features (M, T) of captions; item i owns rows first[i] to first[i + 1]."""
    rows = np.asarray(features, np.float32)
    return ConditionColumn("text", rows.shape[1], rows, np.diff(first) > 0, (), first)


def number(value: object) -> float:
    """A finite float32 of a number or its text; not-a-number where there is none. Raises ValueError."""
    if value is None or value == "" or (isinstance(value, str) and value.strip().lower() in ("", "nan")):
        return math.nan
    if not isinstance(value, str | int | float):
        raise ValueError("not a number")
    try:
        result = float(value)
    except OverflowError as error:
        raise ValueError("too large") from error
    if abs(result) > float(np.finfo(np.float32).max):
        raise ValueError("too large")
    return result


def classes_of(column: NDArray[Any], where: str) -> ConditionColumn:
    """Classes of an array of whole numbers from 0, or of names. Raises UserError."""
    if column.dtype.kind in "US":
        by_name = label_by_name(plain_numbers([str(value) for value in column.astype(str)]))
        if by_name is None:
            raise UserError(f"{where}: names fewer than two classes; set data.labels=false")
        return by_name
    if column.dtype.kind == "f" and np.isfinite(column).all() and (column == np.floor(column)).all():
        column = column.astype(np.int64)  # whole numbers, as pandas keeps them beside gaps
    if column.dtype.kind not in "iub" or (column.size and column.min() < 0):
        raise UserError(f"{where}: {column.dtype} is not classes; expected whole numbers from 0, or names")
    count = int(column.max()) + 1 if column.size else 0
    if count > max(1000, len(column)):
        raise UserError(f"{where}: has a class {count - 1}; number the classes from 0 without gaps")
    return label(column.astype(np.int64), tuple(map(str, range(max(count, 2)))))


def plain_numbers(names: Sequence[str | None]) -> list[str | None]:
    """Class names of which all are whole numbers, without the .0 that pandas writes behind them."""
    whole = all(PANDAS.fullmatch(name) for name in names if name)
    return [name and name.partition(".")[0] if whole else name for name in names]
