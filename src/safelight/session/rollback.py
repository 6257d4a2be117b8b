"""A run goes on from an earlier step, under its name; what came after that step keeps existing under another.

So rolling back is a fork, and the run it was forked from is renamed. Ids stay, and with them the lineage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safelight.session.fork import fork
from safelight.session.prepare import Tell
from safelight.store import rename
from safelight.store.durable import Announce, silence
from safelight.store.journal import JournalWriter
from safelight.store.run import RunDirectory


def rollback(
    directory: RunDirectory,
    to: int,
    changes: Mapping[str, Any],
    tell: Tell = lambda line: None,
    announce: Announce = silence,
) -> tuple[RunDirectory, RunDirectory]:
    """The run of this name as it was after `to` steps, keys of its recipe changed; and the run that it was.

    A crash on the way leaves the run as it was, beside a fork of it, or both as they should be. Raises
    UserError: for a run that is being trained, and where `fork` does.
    """
    runs, name = directory.path.parent, directory.name
    with directory.lock():
        branch = fork(directory, to, changes, runs, rename.free(runs, f"{name}-from-{to}"), tell)
        aside = rename.free(runs, f"{name}-before-{to}")
        with JournalWriter(directory.journal_path) as writer:
            fields = {"step": to, "run": branch.info().id, "renamed": aside}
            writer.append("fork", {"text": "rolled back", **fields})
        rename.hand_over(runs, name, branch.name, aside, announce)
    return RunDirectory(runs / name), RunDirectory(runs / aside)
