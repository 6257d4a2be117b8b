"""Evaluations stored with a run, one file each: evaluations/<step>-<extractor>-<digest of the basis>.json.

The files are written whole and never changed but by the same evaluation; listing them needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safelight.config import UserError
from safelight.store import sealed
from safelight.store.durable import mendable, write_bytes

FOLDER = "evaluations"
ORIGINALS = "originals"  # a file of another kind in the folder: which training images samples are near to


def store(run: Path, name: str, fields: Mapping[str, Any]) -> Path:
    """Write an evaluation, durably. Returns its path. Raises UserError where the disk cannot."""
    path = run / FOLDER / f"{name}.json"
    with mendable(path.parent):
        path.parent.mkdir(exist_ok=True)
    write_bytes(path, sealed.pretty(fields))
    return path


def read_originals(run: Path) -> dict[str, Any] | None:
    """The stored result of `safelight originals`; None without one, or where it is damaged."""
    try:
        return sealed.read(run / FOLDER / f"{ORIGINALS}.json")
    except UserError:
        return None


def read_all(run: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The stored evaluations by step and name, and a line for each file that is damaged."""
    results: list[dict[str, Any]] = []
    damaged: list[str] = []
    for path in sorted((run / FOLDER).glob("[0-9]*.json")):
        try:
            results.append(sealed.read(path))
        except UserError as error:
            damaged.append(str(error))
    return results, damaged
