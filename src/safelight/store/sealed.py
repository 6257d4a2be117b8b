"""JSON that knows when it is damaged: an object with a checksum of its other fields under "check".

The checksum is the 8-byte BLAKE2b of the canonical text (sorted keys, no spaces) of the parsed fields,
so that any JSON tool may read a file, and indentation does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from safelight.config import UserError
from safelight.store.durable import mendable


def seal(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with their checksum. Raises ValueError or TypeError for what JSON does not have."""
    plain: dict[str, Any] = json.loads(json.dumps(fields, allow_nan=False))  # tuples and integer keys as read
    return {**plain, "check": _checksum(plain)}


def unseal(text: str | bytes) -> dict[str, Any] | None:
    """The fields of a sealed text without "check"; None if the text is damaged."""
    try:
        fields = json.loads(text)
    except ValueError:  # not JSON, or not UTF-8
        return None
    if not isinstance(fields, dict):
        return None
    check = fields.pop("check", None)
    return fields if check == _checksum(fields) else None


def line(fields: Mapping[str, Any]) -> bytes:
    """The fields sealed on one line, with its newline."""
    return json.dumps(seal(fields), separators=(",", ":")).encode() + b"\n"


def pretty(fields: Mapping[str, Any]) -> bytes:
    """The fields sealed as an indented file."""
    return json.dumps(seal(fields), indent=2).encode() + b"\n"


def read(path: Path) -> dict[str, Any]:
    """The fields of a sealed file. Raises UserError if it is missing or damaged."""
    with mendable(path):
        data = path.read_bytes()
    fields = unseal(data)
    if fields is None:
        raise UserError(f"{path}: is damaged (its checksum does not fit); restore it from a copy")
    return fields


def _checksum(fields: Mapping[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return blake2b(canonical.encode(), digest_size=8).hexdigest()
