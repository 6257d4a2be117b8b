"""A run is a plain directory: found by name, written by one process at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safelight.config import UserError, nearest
from safelight.store import journal, keep, lock, pins, rename, sealed
from safelight.store.durable import mendable, sweep

RECIPE, RUN, JOURNAL = "recipe.toml", "run.json", "journal.jsonl"
VARIABLE = "SAFELIGHT_RUNS"


def runs_directory(option: Path | None = None) -> Path:
    """Where runs are: the option --runs, else the environment variable SAFELIGHT_RUNS, else ./runs."""
    return option or Path(os.environ.get(VARIABLE) or "runs")


@dataclass(frozen=True)
class Parent:
    """The checkpoint that a fork started from."""

    run: str  # id of the run
    step: int
    digest: str


@dataclass(frozen=True)
class Facts:
    """What the weights of a run depend on besides its recipe and journal."""

    data: Mapping[str, Any]  # fingerprint of the data,
    code: Mapping[str, Any]  # of the code,
    environment: Mapping[str, Any]  # and of what computed the first session
    execution: Mapping[str, Any]  # choices a resumed run keeps: precision, memory format
    products: Mapping[str, Any] = field(default_factory=dict)  # of other trainings, by the key that names one


@dataclass(frozen=True)
class RunInfo:
    """run.json: what a run is, fixed when it is made."""

    id: str  # 32 hexadecimal digits; stays when the directory is renamed
    created: str  # ISO 8601, UTC
    recipe: str  # name of the recipe it was made from
    recipe_sha256: str  # of recipe.toml
    steps: int  # planned when it was made
    facts: Facts
    parent: Parent | None = None


@dataclass(frozen=True)
class RunDirectory:
    """A run on disk. Only `lock` makes its holder the writer; everything else reads."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def journal_path(self) -> Path:
        return self.path / JOURNAL

    @property
    def sheets(self) -> Path:
        """Folder of the sheets of fixed samples."""
        return self.path / "sheets"

    @property
    def panels(self) -> Path:
        """Folder of the figures of a method."""
        return self.path / "panels"

    def info(self) -> RunInfo:
        """What run.json says. Raises UserError if it is damaged."""
        fields = sealed.read(self.path / RUN)
        fields["facts"] = Facts(**fields["facts"])
        fields["parent"] = Parent(**fields["parent"]) if fields["parent"] else None
        return RunInfo(**fields)

    def recipe_text(self) -> str:
        """The resolved recipe. Raises UserError if it is not the one the run was made with."""
        path = self.path / RECIPE
        with mendable(path):
            data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.info().recipe_sha256:
            raise UserError(f"{path}: was changed after the run was made; undo that, then edit or fork it")
        return data.decode()

    def journal(self) -> journal.Journal:
        """The journal so far, for reading."""
        return journal.read(self.journal_path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one writer. Raises UserError naming the process that is. Clears what a crash left behind."""
        with lock.held(self.path):
            sweep(self.path, "metrics-")
            sweep(self.path, lock.OWNER)
            sweep(self.path, pins.FILE)
            sweep(self.path / keep.FOLDER)
            yield

    def is_locked(self) -> bool:
        """Whether a process writes the run now."""
        return lock.is_held(self.path)


def find(name: str | Path, runs: Path) -> RunDirectory:
    """The run of a name, or at a path. Raises UserError with the nearest name if there is none."""
    for path in (runs / name, Path(name)):
        if (path / RUN).is_file() or rename.settle(path.parent, path.name):
            return RunDirectory(path)
    if not runs.is_dir():
        raise UserError(f"{name}: no such run; there is no directory {runs} (say --runs or set {VARIABLE})")
    raise UserError(f"{name}: no such run in {runs}{nearest(str(name), names(runs))}")


def names(runs: Path) -> list[str]:
    """Names of the runs in a directory, sorted; none if there is no such directory."""
    with mendable(runs):
        if not runs.is_dir():
            return []
        with os.scandir(runs) as entries:
            inside = [entry.name for entry in entries if not entry.name.startswith(".")]
    return sorted(name for name in inside if (runs / name / RUN).is_file())
