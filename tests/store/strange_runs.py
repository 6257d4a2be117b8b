"""Runs for the tests of damage and intent: made whole, then changed by hand."""

from __future__ import annotations

from pathlib import Path

from safelight.store import metrics, sealed
from safelight.store.directory import RunDirectory, create
from safelight.store.info import Facts, Parent
from safelight.store.journal_writer import JournalWriter

FACTS = Facts({"train": 5}, {}, {}, {"precision": "fp32"})


def made(runs: Path, name: str, parent: Parent | None = None) -> RunDirectory:
    run = create(runs, "x = 1\n", recipe="r", steps=9, facts=FACTS, name=name, parent=parent)
    with JournalWriter(run.journal_path) as writer, metrics.MetricsWriter(run.path, 1, 0) as rows:
        writer.start_session(0, 9, {})
        rows.append([metrics.MetricsRow(step, {"mse": 1.0}, 1.0, {}, step + 1, 0.1, "") for step in range(3)])
    return run


def change(run: RunDirectory, **fields: object) -> None:
    path = run.path / "run.json"
    path.write_bytes(sealed.pretty({**(sealed.unseal(path.read_bytes()) or {}), **fields}))
