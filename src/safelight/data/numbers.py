"""Cells of tables as numbers: plain ones, words of yes and no, decimal commas, percentages, dates."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any

from safelight.data.columns import number

Reader = Callable[[object], float]  # not-a-number for an empty cell; raises ValueError for what is no number

MOSTLY = 0.9  # of a column's cells: one that is so far numbers is meant to be, and the others are slips
WORDS = (("false", "true"), ("no", "yes"), ("n", "y"), ("f", "t"), ("off", "on"))
COMMA = re.compile(r"[+-]?\d+,\d+")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
PERCENT = re.compile(r"[+-]?\d+([.,]\d+)?\s*%")
DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")
EPOCH = date(1970, 1, 1).toordinal()


def reader_of(cells: Sequence[Any], stated: bool) -> tuple[Reader | None, str]:
    """How a column's cells are read as numbers; None and the reason where they are none.

    stated: whether the recipe names the column, which takes dates as days since 1970, and commas as decimal
    ones where they could part thousands.
    """
    if _reads(number, cells, MOSTLY):
        return number, ""
    texts = [str(cell).strip() for cell in cells if cell is not None and str(cell).strip()]
    if not texts:
        return None, "it is empty"
    for no, yes in WORDS:
        if {text.lower() for text in texts} <= {no, yes}:
            return partial(_looked_up, words={no: 0.0, yes: 1.0, "": math.nan}), ""
    shares = sum(bool(PERCENT.fullmatch(text)) for text in texts)
    if shares and _reads(percent, cells, MOSTLY):
        if shares < sum(text != "0" for text in texts):
            return None, "some are percentages and others plain numbers"
        return percent, ""
    if _reads(comma, cells, MOSTLY):
        if all(THOUSANDS.fullmatch(text) for text in texts if "," in text) and not stated:
            return None, f"{texts[0]!r} may be thousands or decimals; name it in data.attributes for decimals"
        return comma, ""
    if _reads(days, cells, MOSTLY):
        if stated:
            return days, ""
        return None, "dates; name it in data.attributes for days since 1970"
    different = len(set(texts))
    what = "one word" if different == 1 else f"{different:,} different words"
    return None, f"{what}, no numbers; data.label or data.captions may name it"


def percent(cell: object) -> float:
    """A share of "12.5 %", "12,5%", "" or a number that stands for itself."""
    text = _text(cell)
    if PERCENT.fullmatch(text):
        return float(text.rstrip("% ").replace(",", ".")) / 100
    return number(cell)


def comma(cell: object) -> float:
    """A number such as "0,5"."""
    text = _text(cell)
    return number(text.replace(",", ".")) if COMMA.fullmatch(text) else number(cell)


def days(cell: object) -> float:
    """Days since 1970 of an ISO date, with the fraction of a time."""
    text = _text(cell)
    if not text:
        return math.nan
    if not DATE.fullmatch(text):
        raise ValueError("no date")
    moment = datetime.fromisoformat(text)
    return moment.toordinal() - EPOCH + (moment.hour * 3600 + moment.minute * 60 + moment.second) / 86400


def _text(cell: object) -> str:
    return "" if cell is None else str(cell).strip()


def _looked_up(cell: object, words: dict[str, float]) -> float:
    try:
        return words[_text(cell).lower()]
    except KeyError as error:
        raise ValueError("another word") from error


def _reads(reader: Reader, cells: Sequence[Any], share: float) -> bool:
    """Whether so much of the cells that are not empty is finite numbers."""
    good, wrong = 0, 0
    for cell in cells:
        try:
            good += math.isfinite(reader(cell))
        except (ValueError, OverflowError):
            wrong += 1
    return good > 0 and good >= share * (good + wrong)
