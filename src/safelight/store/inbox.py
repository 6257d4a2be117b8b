"""inbox/: edits of a run, dropped by anyone while it trains or while it rests, taken by its writer.

An edit is a sealed JSON file renamed into place. The writer journals it with the step where it takes effect,
then deletes it. A crash in between leaves both; the edit's id in the journal says that it is settled.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight import files
from safelight.config import UserError
from safelight.store import sealed
from safelight.store.durable import Announce, mendable, silence, write_bytes
from safelight.store.journal_writer import JournalWriter

FOLDER = "inbox"
LENGTH = ("train.steps", "train.epochs")  # keys of another section that can be edited in a run, too
LIVE = (  # sections that can be edited in a run
    "optim", "loss", "watch", "monitor", "evaluate", "checkpoint", "tape", "sample", "stop", "log",
)  # fmt: skip


@dataclass(frozen=True)
class Edit:
    """Values somebody wants changed."""

    path: Path
    id: str
    changes: Mapping[str, Any]  # by dotted key of the recipe
    origin: str


def drop(run: Path, changes: Mapping[str, Any], origin: str, announce: Announce = silence) -> Edit:
    """Leave an edit for the run's writer. Raises UserError for values that JSON does not have."""
    folder = run / FOLDER
    with mendable(folder):
        folder.mkdir(exist_ok=True)
    # After every edit that waits, even if the clock was set back in between.
    stamp = max([time.time_ns(), *(_stamp(path) + 1 for path in waiting(run))])
    identity = secrets.token_hex(8)
    edit = Edit(folder / f"{stamp:020d}-{identity}.json", identity, dict(changes), origin)
    try:
        data = sealed.pretty({"id": edit.id, "changes": edit.changes, "origin": origin})
    except (ValueError, TypeError) as error:
        raise UserError(f"{', '.join(changes)}: cannot be set to that value ({error})") from error
    write_bytes(edit.path, data, announce, "inbox")
    return edit


def take(run: Path, writer: JournalWriter, warn: Callable[[str], object] = lambda line: None) -> list[Edit]:
    """Edits that wait, in the order they were dropped. Those already journalled are deleted.

    A file that is no edit is renamed to <name>.bad and named in a note of the journal, and to `warn`.
    """
    settled = {edit.id for edit in writer.journal.interventions}
    edits = []
    for path in waiting(run):
        with mendable(path):
            fields = _read(path)
            if fields is None:
                refuse(path, "no edit, or a damaged one", writer)
                warn(f"edit {path.name} refused: no edit, or a damaged one; it is kept as {path.name}.bad")
            elif fields["id"] in settled:
                path.unlink()
            else:
                edits.append(Edit(path, fields["id"], fields["changes"], fields["origin"]))
    return edits


def _read(path: Path) -> dict[str, Any] | None:
    """The fields of an edit; None for what is none. Raises OSError."""
    try:
        fields = sealed.unseal(files.read(path, links=False))
    except files.Refused:
        return None
    types = {"id": str, "changes": dict, "origin": str}
    whole = fields is not None and all(isinstance(fields.get(name), kind) for name, kind in types.items())
    return fields if whole else None


def settle(edit: Edit, step: int, writer: JournalWriter, announce: Announce = silence) -> None:
    """Journal an edit that takes effect at `step`, then delete it. Apply it when this has returned."""
    writer.intervene(edit.id, step, edit.changes, edit.origin)
    announce("inbox.delete")
    with mendable(edit.path):
        edit.path.unlink()


def refuse(path: Path, why: str, writer: JournalWriter) -> None:
    """Put an edit aside as <name>.bad, and say why in the journal."""
    writer.append("note", {"text": f"edit {path.name} refused: {why}"})
    with mendable(path):
        os.replace(path, path.with_name(path.name + ".bad"))


def waiting(run: Path) -> list[Path]:
    """Edits in the folder, the oldest first; unfinished ones do not end in .json."""
    return sorted((run / FOLDER).glob("*.json"))


def _stamp(path: Path) -> int:
    """Nanoseconds since 1970 at which an edit was dropped; 0 for a file of another name."""
    stamp = path.name.partition("-")[0]
    return int(stamp) if stamp.isdecimal() else 0
