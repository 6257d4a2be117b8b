"""What a run takes of the disk, by kind."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from safelight.store import keep, segment

KINDS = {
    keep.FOLDER: "checkpoints",
    segment.TAPE.folder: "tape",
}  # other folders are kinds by their own names


def by_kind(run: Path) -> dict[str, int]:
    """Bytes of a run's files by kind: its folders, its metrics, and the rest. Those of 0 are left out."""
    found: dict[str, int] = {}
    for path in run.rglob("*"):
        with suppress(OSError):  # gone meanwhile
            if path.is_file() and not path.is_symlink():
                kind = _kind(path.relative_to(run))
                found[kind] = found.get(kind, 0) + path.stat().st_size
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _kind(path: Path) -> str:
    top = path.parts[0]
    if len(path.parts) > 1:
        damaged = top == keep.FOLDER and ".bad" in path.parts[1]
        return "damaged checkpoints" if damaged else KINDS.get(top, top)
    return "metrics" if top.startswith("metrics-") else "report" if top.startswith("report") else "records"
