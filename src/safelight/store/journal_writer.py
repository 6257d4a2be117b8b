"""The one writer of journal.jsonl: appends entries durably, and repairs a torn last line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safelight import files
from safelight.store import sealed
from safelight.store.durable import Announce, append, mendable, silence
from safelight.store.journal import (
    LARGE,
    NEEDED,
    RESERVED,
    End,
    Journal,
    Kind,
    parse,
    parse_last,
    parse_line,
    utc_now,
)

FRAGMENT = 10_000  # characters of a torn line that are kept


class JournalWriter:
    """The one writer of a journal; hold the run's lock. Use as a context manager, or close it.

    Opening repairs a torn last line. Raises UserError if an intervention may be lost (see above).
    """

    def __init__(self, path: Path, announce: Announce = silence) -> None:
        self._announce = announce
        self._journal = Journal(path, [])
        with mendable(path):
            files.opened(path, links=False).close()
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        try:
            with mendable(path):
                self._repair(path)
        except BaseException:
            self.close()
            raise

    @property
    def journal(self) -> Journal:
        """The journal with everything appended so far."""
        return self._journal

    def start_session(self, step: int, steps: int, facts: Mapping[str, Any]) -> int:
        """Journal the start of a session at a step of `steps` planned. Returns its number, from 1.

        facts: pid, host, environment fingerprint.
        """
        number = self._journal.session + 1
        self._append("session", {"step": step, "steps": steps, "format": sealed.FORMAT, **facts}, number)
        return number

    def intervene(self, id: str, step: int, changes: Mapping[str, Any], origin: str) -> None:
        """Journal values to be changed from `step` on. Apply them only when this has returned."""
        self.append("intervention", {"id": id, "step": step, "changes": dict(changes), "origin": origin})

    def checkpoint(self, step: int, digest: str) -> None:
        """Journal a checkpoint that is on disk."""
        self.append("checkpoint", {"step": step, "digest": digest})

    def end(self, status: End, step: int, steps: int, message: str = "") -> None:
        """Journal the end of a session, after `step` of `steps` planned."""
        self.append("end", {"status": status, "step": step, "steps": steps, "message": message})

    def append(self, kind: Kind, fields: Mapping[str, Any]) -> None:
        """Journal anything; returns when it is on disk. Raises UserError if the disk cannot.

        Raises ValueError or TypeError, and writes nothing, if JSON cannot say the fields.
        """
        self._append(kind, fields, self._journal.session)

    def close(self) -> None:
        """Give the file back. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _append(self, kind: Kind, fields: Mapping[str, Any], session: int) -> None:
        if taken := fields.keys() & RESERVED:
            raise ValueError(f"journal fields {sorted(taken)} have a meaning of their own")
        entries = self._journal.entries
        edits = (entries[-1].edits if entries else 0) + (kind == "intervention")
        head = {"time": utc_now(), "kind": kind, "session": session, "edits": edits}
        data = sealed.line({**head, **fields})
        if (entry := parse_line(data)) is None:
            raise ValueError(f"an entry {kind!r} needs {NEEDED.get(kind)}, in their types: {fields}")
        with mendable(self._journal.path):
            self._write(data)
        self._journal = Journal(self._journal.path, [*entries, entry], self._journal.damage)

    def _write(self, data: bytes) -> None:
        """All of `data` at the end, durably, or none of it. Raises OSError."""
        size = os.fstat(self._descriptor).st_size
        try:
            self._announce("journal.append")
            append(self._descriptor, data)
            self._announce("journal.fsync")
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, size)  # an entry that was refused is not in the journal
            raise
        self._announce("journal.done")

    def _repair(self, path: Path) -> None:
        data = files.read(path, LARGE, links=False)
        self._journal = parse(path, data)
        self._journal.require_whole()
        last = data[data.rfind(b"\n") + 1 :]
        entry, length = parse_last(last)
        if entry is not None:
            os.ftruncate(self._descriptor, len(data) - len(last) + length)
            self._write(b"\n")
        elif last or (self._journal.damage and self._journal.damage[-1].line == data.count(b"\n")):
            last = last or data[data.rfind(b"\n", 0, -1) + 1 :]
            self._announce("journal.repair")
            os.ftruncate(self._descriptor, len(data) - len(last))
            os.fsync(self._descriptor)
            self._journal = parse(path, data[: -len(last)])
            torn = last.decode(errors="backslashreplace").rstrip("\n")
            self.append("repair", {"torn": torn[:FRAGMENT]})
        named = {
            line for entry in self._journal.of_kind("repair") for line in entry.fields.get("damaged", ())
        }
        if fresh := [damage.line for damage in self._journal.damage if damage.line not in named]:
            self.append("repair", {"damaged": fresh})
