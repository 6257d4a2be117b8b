"""JSON that knows when it is damaged: an object with a checksum of its other fields under "check".

The checksum is the 8-byte BLAKE2b of the canonical text (sorted keys, no spaces) of the parsed fields, so
that any JSON tool may read a file, and indentation does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from safelight import files
from safelight.config import UserError
from safelight.store.durable import mendable

T = TypeVar("T")
FORMAT = "1.1"  # of what is written now: before the dot rises what older versions cannot read


class Fields(dict[str, Any]):
    """Fields of a sealed object; raises UserError for one that is not there."""

    path: Path | str = ""

    @classmethod
    def of(cls, fields: Mapping[str, Any], path: Path | str) -> Fields:
        """The fields, which are those of the file at `path`."""
        made = cls(fields)
        made.path = path
        return made

    def __missing__(self, name: str) -> Any:
        raise UserError(f"{self.path}: lacks {name!r}, or holds it in a form that is not known; "
                        "restore the file from a copy")  # fmt: skip


def seal(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with their checksum. Raises ValueError or TypeError for what JSON does not have."""
    # Once through JSON: tuples and integer keys as they will be read.
    parsed: dict[str, Any] = json.loads(json.dumps(fields, allow_nan=False))
    return {**parsed, "check": _checksum(parsed)}


def unseal(text: str | bytes) -> dict[str, Any] | None:
    """The fields of a sealed text without "check"; None if the text is damaged."""
    try:
        fields = files.parse_json(text)
        if not isinstance(fields, dict):
            return None
        check = fields.pop("check", None)
        return fields if check == _checksum(fields) else None
    except (ValueError, RecursionError):  # not JSON, not UTF-8, too deep
        return None


def line(fields: Mapping[str, Any]) -> bytes:
    """The fields sealed on one line, with its newline."""
    return json.dumps(seal(fields), separators=(",", ":")).encode() + b"\n"


def pretty(fields: Mapping[str, Any]) -> bytes:
    """The fields sealed as an indented file."""
    return json.dumps(seal(fields), indent=2).encode() + b"\n"


def read(path: Path) -> Fields:
    """The fields of a sealed file. Raises UserError if it is missing, damaged, or of a newer format."""
    with mendable(path):
        data = files.read(path, links=False)
    if (fields := unseal(data)) is None:
        raise UserError(f"{path}: is damaged (its checksum does not fit); restore it from a copy")
    require_known(path, fields)
    return Fields.of(fields, path)


def read_as(path: Path, form: type[T]) -> T:
    """A sealed file as a dataclass; fields that are not known are passed over. Raises UserError."""
    return conform(path, form, read(path))


def conform(path: Path, form: type[T], fields: Mapping[str, Any]) -> T:
    """Fields of the file at `path` as a dataclass or typed dictionary. Raises UserError."""
    try:
        conformed: T = _adapter(cast(Any, form)).validate_python(fields)
        return conformed
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise UserError(
            f"{path}: is not written as this safelight does it ({where}: {problem['msg']}); restore it from "
            "a copy"
        ) from error


@cache
def _adapter(form: Any) -> TypeAdapter[Any]:
    return TypeAdapter(form)


def require_known(path: Path, fields: Mapping[str, Any]) -> None:
    """Raises UserError for a format whose major number is above that of `FORMAT`; 1.0 did not say it."""
    version = fields.get("format", FORMAT)
    if str(version).partition(".")[0] not in map(str, range(int(FORMAT.partition(".")[0]) + 1)):
        raise UserError(f"{path}: has format {str(version)[:20]!r}, and this safelight reads {FORMAT}; "
                        "install a newer one")  # fmt: skip


def _checksum(fields: Mapping[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return blake2b(canonical.encode(), digest_size=8).hexdigest()
