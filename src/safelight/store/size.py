"""Sizes on disk: bytes as numbers and in words, "10 GB" being ten thousand million of them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from safelight.config import shortened

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip


def parse(value: Any) -> Any:
    """Bytes from "10 GB", "1.5 GiB" or "512"; anything but text as it is. Raises ValueError."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
    unit = (match[2].upper() or "B") if match else ""
    if match is None or unit not in UNITS:
        raise ValueError(
            f"{shortened(value)} is no size; write a number of bytes, or such as '10 GB', '500 MB'"
        )
    count = float(match[1]) * UNITS[unit]
    if count >= 2**63:
        raise ValueError(f"{shortened(value)} is too large")
    return round(count)


def exact(count: int) -> int | str:
    """Words that `parse` reads back as the same number; the number itself where there are none."""
    for unit in ("TB", "GB", "MB", "KB"):
        if count and count % UNITS[unit] == 0:
            return f"{count // UNITS[unit]} {unit}"
    return count


def words(count: float) -> str:
    """A size to be read: "512 B", "1.2 GB", "38 MB"."""
    for unit in ("TB", "GB", "MB", "KB"):
        if count >= UNITS[unit]:
            value = count / UNITS[unit]
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    return f"{count:.0f} B"


Bytes = Annotated[int, BeforeValidator(parse), Field(ge=0), PlainSerializer(exact)]
