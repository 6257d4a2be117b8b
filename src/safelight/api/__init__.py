"""The commands as functions: names, paths and dicts in; a run, a dataclass, a dict or a path out.

run: a name, a folder, or an open `Run`. runs: folder of runs; $SAFELIGHT_RUNS or ./runs by default.
changes: recipe keys to change, {"optim.lr": 1e-4}, or sampling keys, {"sample.steps": 20}. tell takes a line,
progress what is being done, how much of it is done, and of how much; both are silent by default.
All raise UserError: one line that says what is wrong and how to fix it.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from safelight.store.directory import RunDirectory, find, runs_directory

if TYPE_CHECKING:
    from safelight.api import causes as causes
    from safelight.api import pages as pages
    from safelight.api import prepare as prepare
    from safelight.api import queue as queue
    from safelight.api import samples as samples
    from safelight.api import share as share
    from safelight.api import steer as steer
    from safelight.run import Run

    Named: TypeAlias = str | Path | Run


def silent(line: str) -> None:
    """Take a line and print nothing."""


def folder_of(runs: str | Path | None) -> Path:
    """The folder of runs that is meant."""
    return runs_directory(Path(runs) if runs else None)


def directory_of(run: Named, runs: str | Path | None, write: bool = False) -> RunDirectory:
    """The folder of a run. write: it is to be changed, so that a link is refused."""
    if isinstance(run, str | Path):
        return find(run, folder_of(runs), write=write)
    return run.directory


def __getattr__(name: str) -> Any:
    """The modules of this package, which import torch, when they are first used."""
    if name.startswith("_"):
        raise AttributeError(name)
    return import_module(f"safelight.api.{name}")
