"""The checkpoints of a run: which are there, which is the newest good one, which are kept."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path

from pydantic import Field

from safelight.config import Section, UserError
from safelight.store import pins
from safelight.store.durable import Announce, fsync_directory, mendable, remove_tree, silence
from safelight.store.manifest import Saved, verify
from safelight.store.size import UNITS, Bytes

FOLDER = "checkpoints"


class Checkpoint(Section):
    """[checkpoint]: how often the state is saved, and how much of the disk that may take."""

    every: int = Field(500, ge=1, description="steps between two checkpoints")
    keep: int = Field(3, ge=1, description="how many of the latest are kept, whatever they take")
    budget: Bytes = Field(
        10 * UNITS["GB"], description="bytes for all, such as '10 GB'; older ones are thinned to keep to it"
    )


def directory(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is, or would be."""
    return run / FOLDER / f"{step:08d}"


def list_steps(run: Path) -> list[int]:
    """Steps of which there is a checkpoint, increasing. They are not verified."""
    folder = run / FOLDER
    with mendable(folder):
        names = os.listdir(folder) if folder.exists() else []
    found = (int(name) for name in names if re.fullmatch(r"[0-9]{8,15}", name))
    return sorted({step for step in found if f"{step:08d}" in names})


def newest_good(
    run: Path,
    known: Mapping[int, str] | None = None,
    *,
    most: float = math.inf,
    move_bad: bool = False,
    tell: Callable[[str], object] = lambda line: None,
) -> Saved | None:
    """The newest checkpoint whose hashes verify, or None. Reads every byte of it.

    known: the digest that the journal has of each step; a checkpoint that has another, or none, is not taken.
    most: steps. move_bad: put those that are not good aside as <step>.bad; only for whoever holds the run's
    lock. tell: takes a line for each of them.
    """
    for step in reversed([step for step in list_steps(run) if step <= most]):
        path = directory(run, step)
        try:
            saved = verify(path)
            require_own(saved, step, known)
            return saved
        except UserError as error:
            tell(f"checkpoint {step} is not taken: {error}")
        if move_bad:
            set_aside(path)
    return None


class Another(UserError):
    """A whole checkpoint in the place of one that the journal knows."""


def require_own(saved: Saved, step: int, known: Mapping[int, str] | None) -> None:
    """Raises UserError for a checkpoint that the journal does not know, `Another` in place of one it does."""
    if saved.step != step:
        raise Another(f"{saved.path}: holds step {saved.step}; put its own back, or move it away")
    if known is None or saved.digest == known.get(step):
        return
    if step not in known:
        raise UserError(f"{saved.path}: is not in the journal; use another step")
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
    pinned = (pin.step for pin in pins.read(run).values())
    kept = {*keep, *pinned} & set(steps)
    doomed = [step for step in steps if step not in kept]
    if not kept:
        doomed = doomed[:-1]
    for step in doomed:
        remove_tree(directory(run, step), announce, "prune")
    return doomed
