"""A name of a run given to another one, whatever happens meanwhile. Nothing is deleted.

Two renames, and before them a note of what is meant. A crash between them leaves the name without a run;
whoever writes it next makes the second rename, and a reader finds it meanwhile.
"""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from safelight.config import UserError
from safelight.store import sealed
from safelight.store.durable import Announce, fsync_directory, mendable, silence, write_bytes


def free(runs: Path, name: str) -> str:
    """The name, or name-2, -3, ... where that is taken."""
    names = (name + (f"-{number}" if number > 1 else "") for number in count(1))
    return next(candidate for candidate in names if not (runs / candidate).exists())


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
    """Finish what a crash left half done; whether the name has a run now that it did not have.

    Only for a writer. A note that means anything but a run of the same folder is refused with a UserError.
    """
    note, to = _note(runs, name), waits(runs, name)
    if to is None and not note.is_file():
        return False
    with mendable(note):
        if to is not None:
            os.rename(runs / to, runs / name)
            fsync_directory(runs)
        note.unlink(missing_ok=True)
    return to is not None


def waits(runs: Path, name: str) -> str | None:
    """The name of the run that a crash kept from being renamed to `name`, None for none. Raises UserError."""
    note = _note(runs, name)
    if Path(name).name != name or not note.is_file() or os.path.lexists(runs / name):
        return None
    to = sealed.read(note)["to"]
    if not isinstance(to, str) or to in ("", ".", "..") or Path(to).name != to or "\\" in to or "\0" in to:
        raise UserError(f"{note}: names no run of this folder; delete the note")
    if (runs / to).is_symlink():
        raise UserError(f"{note}: {to} is a link, which is not renamed; delete the note")
    return to if (runs / to / "run.json").is_file() else None


def _note(runs: Path, name: str) -> Path:
    return runs / f".renaming-{name}.json"
