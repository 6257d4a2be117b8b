"""manifest.json of a checkpoint: which files it has, their sizes and hashes, and one digest of them all.

A checkpoint is good when its manifest is whole and every file hashes to what the manifest says.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.config import UserError
from safelight.store import sealed
from safelight.store.durable import sha256_of
from safelight.store.journal import counts

NAME = "manifest.json"


@dataclass(frozen=True)
class File:
    """One file of a checkpoint."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk, by its manifest."""

    path: Path
    step: int  # steps behind the state
    digest: str  # equal exactly if all bits of the state are equal
    files: Sequence[File]
    meta: Mapping[str, Any]


def compose(step: int, files: Sequence[File], meta: Mapping[str, Any]) -> bytes:
    """The text of a manifest. Raises ValueError or TypeError for meta that JSON cannot say."""
    listed = {file.name: {"sha256": file.sha256, "bytes": file.bytes} for file in files}
    fields = {"step": step, "digest": digest(files), "files": listed, "meta": dict(meta)}
    return sealed.pretty(fields)


def digest(files: Sequence[File]) -> str:
    """One SHA-256 of file names and their SHA-256, in the order of the names."""
    lines = sorted(f"{file.name} {file.sha256}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read(path: Path) -> Saved:
    """A checkpoint's manifest, without reading its files. Raises UserError if it is missing or damaged."""
    fields = sealed.read(path / NAME)
    try:
        files = [File(name, entry["sha256"], entry["bytes"]) for name, entry in fields["files"].items()]
        saved = Saved(path, fields["step"], fields["digest"], files, dict(fields["meta"]))
        whole = counts(saved.step) and counts(saved.meta.get("edits", 0)) and saved.digest == digest(files)
        if not whole or any(
            not (re.fullmatch(r"[\w-]+\.safetensors", file.name) and counts(file.bytes)) for file in files
        ):
            raise ValueError
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{path / NAME}: is not written as this safelight does it; use another step"
        ) from error
    return saved


def digest_of(path: Path) -> str:
    """The digest of a checkpoint as its manifest states it. Raises UserError."""
    return read(path).digest


def verify(path: Path) -> Saved:
    """A checkpoint of which every byte was read and hashed. Raises UserError naming the damaged file."""
    saved = read(path)
    for file in saved.files:
        place = path / file.name
        try:
            found = sha256_of(place) if place.lstat().st_size == file.bytes else None
        except OSError as error:
            raise UserError(
                f"{place}: cannot be read ({error.strerror or error}); use another step"
            ) from error
        if found != file.sha256:
            raise damaged(place)
    return saved


def damaged(path: Path) -> UserError:
    """What to say of a file whose hash is not the manifest's."""
    return UserError(f"{path}: is damaged (its SHA-256 is not the manifest's); use another step")
