"""Runs that wait for a core or a card of this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safelight.api import folder_of
from safelight.recipe import load
from safelight.training import queue
from safelight.training.queue import Entry
from safelight.training.sweep import Outcome


def add(
    recipe: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    runs: str | Path | None = None,
) -> Entry:
    """Put a run at the end, with the settings of its recipe as they are now."""
    return queue.add(load(recipe, changes or {}), folder_of(runs), name)


def entries(runs: str | Path | None = None) -> list[Entry]:
    """What waits, runs or failed, in order."""
    return queue.entries(folder_of(runs))


def remove(number: int, *, runs: str | Path | None = None) -> Entry:
    """Take a run out; one that was begun is kept as it is."""
    return queue.remove(folder_of(runs), number)


def run(
    on: str | None = None,
    *,
    stay: bool = False,
    runs: str | Path | None = None,
    tell: Callable[[Entry, Outcome, str], None] = lambda entry, outcome, problem: None,
) -> int:
    """Train what waits, in order, a run for each core or card, or as `on` says; returns how many failed.

    stay: go on waiting for more. tell: takes each that ended, how, and its problem.
    """
    failed = 0

    def ended(entry: Entry, outcome: Outcome, problem: str) -> None:
        nonlocal failed
        failed += outcome == "failed"
        tell(entry, outcome, problem)

    queue.work(folder_of(runs), on or "local", stay, ended)
    return failed


def describe(on: str | None = None, form: str = "systemd", *, runs: str | Path | None = None) -> str:
    """A systemd unit, or a line for cron, that works on the queue after every start of the machine."""
    return queue.describe(folder_of(runs).absolute(), on or "local", form)
