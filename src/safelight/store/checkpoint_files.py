"""The checkpoints of a run: which are there, which is the newest good one, which have a name.

manifest.json of a checkpoint lists its files with sizes and hashes, and one digest of them all: it is good
when its manifest is whole and every file hashes to what the manifest says. pins.json of a run names steps
that are never let go; "best" is the one that an evaluation rated best.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import Field

from safelight.config import Section, UserError
from safelight.store import sealed
from safelight.store.durable import (
    Announce,
    fsync_directory,
    mendable,
    remove_tree,
    sha256_of,
    silence,
    write_bytes,
)
from safelight.store.journal import counts
from safelight.store.journal_writer import JournalWriter
from safelight.store.size import UNITS, Bytes

FOLDER = "checkpoints"
NAME, FILE = "manifest.json", "pins.json"
BEST = "best"


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
            sha256 = sha256_of(place) if place.lstat().st_size == file.bytes else None
        except OSError as error:
            raise UserError(
                f"{place}: cannot be read ({error.strerror or error}); use another step"
            ) from error
        if sha256 != file.sha256:
            raise damaged(place)
    return saved


def damaged(path: Path) -> UserError:
    """What to say of a file whose hash is not the manifest's."""
    return UserError(f"{path}: is damaged (its SHA-256 is not the manifest's); use another step")


@dataclass(frozen=True)
class Pin:
    """Why a checkpoint is kept."""

    step: int
    why: str  # "FD-classifier 4.31"
    facts: Mapping[str, Any]  # what whoever pinned it has to remember


def read_pins(run: Path) -> dict[str, Pin]:
    """The pins of a run by name; none where there is no file. Raises UserError if it is damaged."""
    if not (run / FILE).exists():
        return {}
    try:
        pins = sealed.read(run / FILE)["pins"].items()
        return {name: Pin(fields["step"], str(fields["why"]), dict(fields["facts"]))
                for name, fields in pins if counts(fields["step"])}  # fmt: skip
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{run / FILE}: is not written as this safelight does it; delete it") from error


def pin(run: Path, name: str, to: Pin, writer: JournalWriter, announce: Announce = silence) -> None:
    """Give a step a name, in place of the step that had it. Journalled first; may come before its checkpoint.

    Only for whoever holds the run's lock.
    """
    writer.append("pin", {"name": name, "step": to.step, "why": to.why})
    pins = {**read_pins(run), name: to}
    fields = {"pins": {name: asdict(entry) for name, entry in pins.items()}}
    write_bytes(run / FILE, sealed.pretty(fields), announce, "pins")


class Checkpoint(Section):
    """[checkpoint]: how often the state is saved, and the disk space for it."""

    every: int = Field(500, ge=1)
    """Steps between two checkpoints."""
    keep: int = Field(3, ge=1)
    """Newest checkpoints to keep, whatever their size."""
    budget: Bytes = 10 * UNITS["GB"]
    """Disk space for all checkpoints, such as '10 GB'; older ones are thinned evenly to stay within it."""


def directory(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is, or would be."""
    return run / FOLDER / f"{step:08d}"


def list_steps(run: Path) -> list[int]:
    """Steps of which there is a checkpoint, increasing. They are not verified."""
    folder = run / FOLDER
    with mendable(folder):
        names = os.listdir(folder) if folder.exists() else []
    steps = (int(name) for name in names if re.fullmatch(r"[0-9]{8,15}", name))
    return sorted({step for step in steps if f"{step:08d}" in names})


def newest_good(
    run: Path,
    known: Mapping[int, str] | None = None,
    *,
    most: float = math.inf,
    aside: dict[int, str] | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> Saved | None:
    """The newest checkpoint whose hashes verify, or None. Reads every byte of it.

    known: the digest that the journal has of each step; a checkpoint that has another, or none, is not used.
    most: steps. aside: where given, those that are not good are renamed to <step>.bad, and their steps get
    the reason in it; only for whoever holds the run's lock. tell: takes a line for each of them.
    """
    for step in reversed([step for step in list_steps(run) if step <= most]):
        path = directory(run, step)
        try:
            saved = verify(path)
            require_own(saved, step, known)
            return saved
        except UserError as error:
            tell(f"checkpoint {step} is not used: {error}")
            reason = getattr(error, "reason", "damaged")
        if aside is not None:
            set_aside(path)
            aside[step] = reason
    return None


def edits(run: Path, known: Mapping[int, str]) -> int:
    """The most interventions that a checkpoint counts, of those that may be the run's; none is verified."""
    counted = 0
    for step in list_steps(run):
        with suppress(UserError):  # a damaged manifest
            saved = read(directory(run, step))
            if saved.digest == known.get(step, saved.digest):
                counted = max(counted, saved.meta.get("edits", 0))
    return counted


class Another(UserError):
    """A whole checkpoint in the place of one that the journal knows."""

    reason = "another run's"


class Unrecorded(UserError):
    """A whole checkpoint of a step that the journal does not know."""

    reason = "not recorded in the journal"


def require_own(saved: Saved, step: int, known: Mapping[int, str] | None) -> None:
    """Raises `Unrecorded` for a checkpoint that the journal does not know, `Another` in place of one."""
    if saved.step != step:
        raise Another(f"{saved.path}: holds step {saved.step}; put its own back, or move it away")
    if known is None or saved.digest == known.get(step):
        return
    if step not in known:
        raise Unrecorded(
            f"{saved.path}: is not in the journal (saving it was interrupted, or it is another run's); "
            "use another step"
        )
    raise Another(
        f"{saved.path}: is another than the run saved (it is {saved.digest[:12]}, by the journal it was "
        f"{known[step][:12]}); put its own back, or move it away"
    )


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint to <step>.bad, or -2, -3 where that is taken. Returns its new path."""
    names = (path.with_name(f"{path.name}.bad" + (f"-{number}" if number > 1 else "")) for number in count(1))
    with mendable(path):
        free = next(name for name in names if not name.exists())
        os.rename(path, free)
        fsync_directory(path.parent)
    return free


def prune(run: Path, keep: Iterable[int], announce: Announce = silence) -> list[int]:
    """Delete the checkpoints of all other steps than `keep` and the pinned ones. Returns the deleted steps.

    Never deletes the last one that is left. Only for whoever holds the run's lock.
    """
    steps = list_steps(run)
    pinned = (pin.step for pin in read_pins(run).values())
    kept = {*keep, *pinned} & set(steps)
    doomed = [step for step in steps if step not in kept]
    if not kept:
        doomed = doomed[:-1]
    for step in doomed:
        remove_tree(directory(run, step), announce, "prune")
    return doomed
