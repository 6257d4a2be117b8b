"""A name of a run given to another one, whatever happens meanwhile. Nothing is deleted.

Two renames, and before them a note of what is meant. A crash between them leaves the name without a run;
whoever looks for it then finds the note and makes the second rename.
"""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from safelight.store import sealed
from safelight.store.durable import Announce, fsync_directory, mendable, silence, write_bytes


def free(runs: Path, name: str) -> str:
    """The name, or name-2, -3, ... where that is taken."""
    names = (name + (f"-{number}" if number > 1 else "") for number in count(1))
    return next(own for own in names if not (runs / own).exists())


def hand_over(runs: Path, name: str, to: str, aside: str, announce: Announce = silence) -> None:
    """Rename the run `name` to `aside`, then the run `to` to `name`. Raises UserError."""
    note = _note(runs, name)
    write_bytes(note, sealed.pretty({"to": to}), announce, "rename.note")
    with mendable(runs / name):
        announce("rename.aside")
        os.rename(runs / name, runs / aside)
        fsync_directory(runs)
        announce("rename.name")
    settle(runs, name)


def settle(runs: Path, name: str) -> bool:
    """Finish what a crash left half done; whether the name has a run now that it did not have."""
    note = _note(runs, name)
    if not note.is_file():
        return False
    with mendable(note):
        waits = not (runs / name).exists() and (runs / (to := sealed.read(note)["to"])).exists()
        if waits:
            os.rename(runs / to, runs / name)
            fsync_directory(runs)
        note.unlink(missing_ok=True)
    return waits


def _note(runs: Path, name: str) -> Path:
    return runs / f".renaming-{name}.json"
