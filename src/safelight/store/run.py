"""A run is a plain directory: found by name, written by one process at a time."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safelight import files
from safelight.config import Tree, UserError, nearest
from safelight.store import info, journal, keep, lock, rename
from safelight.store.durable import mendable, sweep
from safelight.store.info import Facts, Parent, RunInfo

__all__ = ["Facts", "Parent", "RunDirectory", "RunInfo", "find", "names", "require_plain", "runs_directory"]

RECIPE, RUN, JOURNAL = "recipe.toml", "run.json", "journal.jsonl"
VARIABLE = "SAFELIGHT_RUNS"
DEEPEST = 8  # folders below one another in a run


def runs_directory(option: Path | None = None) -> Path:
    """Where runs are: the option --runs, else the environment variable SAFELIGHT_RUNS, else ./runs."""
    return option or Path(os.environ.get(VARIABLE) or "runs")


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

    @property
    def tracks(self) -> Path:
        """Folder of the snapshots of power-function averages."""
        return self.path / "tracks"

    def info(self) -> RunInfo:
        """What run.json says. Raises UserError if it is damaged."""
        return info.read(self.path / RUN)

    def recipe_text(self) -> str:
        """The resolved recipe. Raises UserError if it is not the one the run was made with."""
        path = self.path / RECIPE
        with mendable(path):
            data = files.read(path, links=False)
        if hashlib.sha256(data).hexdigest() != self.info().recipe_sha256:
            raise UserError(f"{path}: was changed after the run was made; undo that, then edit or fork it")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: is not UTF-8 text; restore it from a copy") from error

    def recipe_tree(self) -> Tree:
        """The resolved recipe as TOML says it. Raises UserError."""
        try:
            return tomllib.loads(self.recipe_text())
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise UserError(f"{self.path / RECIPE}: is not valid TOML ({error}); restore it") from error

    def digests(self) -> dict[int, str]:
        """What every checkpoint has to be, by its step: the journal says it, of a fork's first run.json."""
        parent = self.info().parent
        said = {parent.step: parent.digest} if parent else {}
        return said | {
            one.fields["step"]: one.fields["digest"] for one in self.journal().of_kind("checkpoint")
        }

    def journal(self) -> journal.Journal:
        """The journal so far, for reading."""
        return journal.read(self.journal_path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one writer. Raises UserError naming the process that is. Clears what a crash left behind."""
        require_plain(self.path)
        with lock.held(self.path):
            sweep(self.path.parent)
            sweep(self.path, locked=True)
            sweep(self.path / keep.FOLDER, alone=True)
            yield

    def is_locked(self) -> bool:
        """Whether a process writes the run now."""
        return lock.is_held(self.path)


def find(name: str | Path, runs: Path, write: bool = False) -> RunDirectory:
    """The run of a name, or at a path. Raises UserError with the nearest name if there is none.

    write: to become its writer, who also finishes a renaming that was cut off. A run that links lead out of
    is refused.
    """
    for path in (runs / name, Path(name)):
        if write:
            rename.settle(path.parent, path.name)
        elif to := rename.waits(path.parent, path.name):
            path = path.with_name(to)
        if _is_run(path):
            require_plain(path)
            return RunDirectory(path)
    if not os.path.isdir(runs):
        raise UserError(f"{name}: no such run; there is no directory {runs} (say --runs or set {VARIABLE})")
    raise UserError(f"{name}: no such run in {runs}{nearest(str(name), names(runs))}")


def names(runs: Path) -> list[str]:
    """Names of the runs in a directory, sorted; none if there is no such directory."""
    with mendable(runs):
        if not os.path.isdir(runs):
            return []
        with os.scandir(runs) as entries:
            inside = [entry.name for entry in entries if not entry.name.startswith(".")]
    return sorted(name for name in inside if _is_run(runs / name))


def _is_run(path: Path) -> bool:
    """Whether a folder holds a run, or may hold one that cannot be looked at."""
    try:
        os.lstat(path / RUN)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def require_plain(run: Path) -> None:
    """Raises UserError for a link that leads out of a run, and for what is no file and no folder in it."""
    waiting, root = [(run, 0)], os.path.realpath(run)
    with mendable(run):
        while waiting:
            folder, depth = waiting.pop()
            for entry in _entries(folder):
                if entry.is_symlink():
                    if os.path.commonpath([root, os.path.realpath(entry.path)]) != root:
                        raise UserError(f"{entry.path}: is a link out of the run, which is not followed; "
                                        "put what it leads to in its place")  # fmt: skip
                elif entry.is_dir():
                    if depth == DEEPEST:
                        raise UserError(f"{entry.path}: no run has folders as deep as this; move it away")
                    waiting.append((Path(entry.path), depth + 1))
                elif not entry.is_file():
                    kind = files.kind(entry.stat(follow_symlinks=False).st_mode)
                    raise UserError(f"{entry.path}: is {kind}, not a file; move it away")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:  # a checkpoint that its writer lets go meanwhile
        return []
