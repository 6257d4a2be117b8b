"""journal.jsonl: what happened to a run, written before it takes effect and never rewritten.

One sealed JSON object a line: time, kind, session, "edits" (interventions so far, this one included) and
the fields of its kind. An entry is on disk when `append` returns.

Damage, and what becomes of it:
- A torn last line was never acknowledged, so nothing had acted on it: the next writer cuts it off and keeps
  the fragment in a "repair" entry. (If only its newline is missing, the line is completed instead.)
- A whole last line that is damaged is treated alike. Had it been an intervention, a checkpoint that counts
  it is refused, and steps that ran with it do not have their recorded fingerprints when they are recomputed.
- A damaged line elsewhere is passed over, and named in a "repair" entry, if the edit counts of its
  neighbours prove that it was no intervention.
- If it was one, or was followed by damaged lines only, the run is not a known function of its recipe any
  more: whoever asks for the interventions, or wants to write, is refused with a UserError. Listing goes on.
A line whose checksum fits but which lacks what its kind has, or has it in another form, is damaged, too.
Kinds and fields of a newer minor format are kept and passed over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from safelight import files
from safelight.config import UserError
from safelight.store import sealed
from safelight.store.durable import mendable

Kind = Literal[
    "session",
    "intervention",
    "checkpoint",
    "pin",
    "fork",
    "moved",
    "verdict",
    "remedy",
    "check",
    "audit",
    "note",
    "repair",
    "end",
]
End = Literal["finished", "stopped", "failed", "left"]  # left: for a fork, by its monitor
RESERVED = ("time", "kind", "session", "edits", "check")
NUMBERS = frozenset({"step", "steps", "at", "rescue", "since", "number", "until", "rank", "pid"})
OTHERS: Mapping[str, type] = {
    **dict.fromkeys(("environment", "code", "changes"), dict),
    **dict.fromkeys(("findings", "checks", "advice", "damaged"), list),
    **dict.fromkeys(("digest", "name", "id", "origin", "status", "words", "verdict", "event", "host"), str),
    **dict.fromkeys(("measured", "expected", "why", "text", "torn", "run", "renamed", "message"), str),
    "begins": bool,
}
NEEDED: Mapping[str, Sequence[str]] = {
    "session": ("step", "steps"),
    "intervention": ("id", "step", "changes", "origin"),
    "checkpoint": ("step", "digest"),
    "pin": ("name", "step"),
    "verdict": ("name", "begins", "step"),
    "remedy": ("event", "at"),
    "check": ("findings", "checks"),
    "fork": ("text",),
    "moved": ("changes",),
    "end": ("status", "step", "steps"),
}
LARGE = 1 << 28  # bytes of a journal, at most


def utc_now() -> str:
    """The time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class JournalEntry:
    """One line of the journal."""

    kind: str  # a Kind, or one of a later version
    time: str
    session: int  # 1 for the first; 0 before it
    edits: int
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Intervention:
    """Values changed while the run went on."""

    id: str  # of the edit it came from, so that it is never applied twice
    step: int  # first step that runs with the changes
    changes: Mapping[str, Any]  # by dotted key of the recipe
    origin: str  # who or what asked: "cli", "web", "monitor"

    @classmethod
    def of(cls, entry: JournalEntry) -> Intervention:
        """An entry of kind "intervention" in its own words."""
        fields = entry.fields
        return cls(fields["id"], fields["step"], fields["changes"], fields["origin"])


@dataclass(frozen=True)
class Damage:
    """A line that cannot be read, other than a torn last one."""

    line: int  # from 1
    edits_lost: bool


@dataclass(frozen=True)
class Journal:
    """The journal as it was read: entries in order."""

    path: Path
    entries: Sequence[JournalEntry]
    damage: Sequence[Damage] = ()

    @property
    def session(self) -> int:
        """The number of the latest session; 0 before the first."""
        return self.entries[-1].session if self.entries else 0

    def of_kind(self, kind: Kind) -> list[JournalEntry]:
        """The entries of a kind, in order."""
        return [entry for entry in self.entries if entry.kind == kind]

    @property
    def edits(self) -> int:
        """How many interventions there have been."""
        return self.entries[-1].edits if self.entries else 0

    @cached_property
    def interventions(self) -> Sequence[Intervention]:
        """Every intervention, in the order they were journalled. Raises UserError if one is lost."""
        self.require_whole()
        return [Intervention.of(entry) for entry in self.of_kind("intervention")]

    def changes_at(self, step: float) -> dict[str, Any]:
        """Dotted keys and values in force at a step. Raises UserError if an intervention is lost."""
        return changes_at(self.interventions, step)

    def require_whole(self) -> None:
        """Raises UserError if an intervention may have been lost to a damaged line."""
        for damage in self.damage:
            if damage.edits_lost:
                raise UserError(
                    f"{self.path}: line {damage.line} is damaged and may have held an intervention; "
                    "restore the file from a copy, or delete that line to go on without it"
                )


def changes_at(interventions: Iterable[Intervention], step: float) -> dict[str, Any]:
    """Dotted keys and values in force at a step; the later step of effect wins, then the later line."""
    changes: dict[str, Any] = {}
    for edit in sorted(interventions, key=lambda edit: edit.step):
        if edit.step <= step:
            changes |= edit.changes
    return changes


def holding(journal: Journal, step: float = math.inf, before: Iterable[str] = ()) -> list[str]:
    """Names of the verdicts of the monitors in force after so many steps; before: when the journal began."""
    names = dict.fromkeys(before, True)
    for entry in journal.of_kind("verdict"):
        if entry.fields["step"] <= step:
            names[entry.fields["name"]] = entry.fields["begins"]
    return [name for name, begins in names.items() if begins]


def read(path: Path) -> Journal:
    """The journal in a file; a torn last line is passed over. Raises UserError if there is no such file."""
    with mendable(path):
        data = files.read(path, LARGE, links=False)
    return parse(path, data)


def parse(path: Path, data: bytes) -> Journal:
    """The journal in `data`, which was read from `path`."""
    *lines, rest = data.split(b"\n")
    entries: list[JournalEntry] = []
    damage: list[Damage] = []
    unread: list[int] = []  # damaged lines since the last good one
    for number, entry in enumerate([*map(parse_line, lines), parse_last(rest)[0]], start=1):
        if entry is not None:
            before = entries[-1].edits if entries else 0
            lost = entry.edits - (entry.kind == "intervention") > before
            damage += [Damage(line, lost) for line in unread]
            unread.clear()
            entries.append(entry)
        elif number <= len(lines):
            unread.append(number)
    alone = len(unread) == 1 and not rest
    damage += [Damage(line, not alone) for line in unread]
    for entry in entries:
        if entry.kind == "session":
            sealed.require_known(path, entry.fields)
    return Journal(path, entries, damage)


def parse_line(text: bytes) -> JournalEntry | None:
    """One line as an entry; None if it is damaged."""
    fields = sealed.unseal(text)
    if fields is None:
        return None
    time, kind, session, edits = (fields.pop(name, None) for name in RESERVED[:4])
    if not (isinstance(time, str) and isinstance(kind, str) and counts(session) and counts(edits)):
        return None
    if kind in NEEDED and not all(_fits(name, value) for name, value in fields.items()):
        return None
    if any(name not in fields for name in NEEDED.get(kind, ())):
        return None
    return JournalEntry(
        kind, time, session, edits, sealed.Fields.of(fields, f"journal.jsonl: an entry {kind!r}")
    )


def counts(value: object) -> bool:
    """Whether a value can be a number of steps."""
    return type(value) is int and 0 <= value <= files.MOST


def _fits(name: str, value: object) -> bool:
    """Whether a field of a known kind is of its type."""
    return counts(value) if name in NUMBERS else isinstance(value, OTHERS.get(name, object))


def parse_last(text: bytes) -> tuple[JournalEntry | None, int]:
    """The entry that a last line without its newline begins with, and its length in bytes; None if torn.

    Bytes behind a whole entry (zeros after a power cut, a damaged newline) do not make it untrue.
    """
    try:
        # Lines are ASCII; Latin-1 makes every other byte one character too, so that the length is in bytes.
        _, length = json.JSONDecoder().raw_decode(text.decode("latin-1"))
    except (ValueError, RecursionError):
        return None, 0
    return parse_line(text[:length]), length
