"""A run is a plain directory: found by name, written by one process at a time."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tomllib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from safelight import files
from safelight.config import Tree, UserError, nearest
from safelight.store import checkpoint_files, info, journal, lock, sealed
from safelight.store.durable import Announce, mendable, publish, silence, sweep, temporary_beside, write_new
from safelight.store.info import Facts, Parent, RunInfo
from safelight.store.renaming import settle, waits

__all__ = ["Facts", "Parent", "RunDirectory", "RunInfo", "find", "names", "require_plain", "runs_directory"]


RECIPE, RUN, JOURNAL = "recipe.toml", "run.json", "journal.jsonl"
RESERVED = re.compile(
    r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE
)  # no file names on Windows
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
        info = self.info()
        digests = {info.parent.step: info.parent.digest} if info.parent else {}
        if info.facts.init and not info.parent:
            digests[0] = str(info.facts.init.get("state"))
        return digests | {
            entry.fields["step"]: entry.fields["digest"] for entry in self.journal().of_kind("checkpoint")
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
            sweep(self.path / checkpoint_files.FOLDER, alone=True)
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
            settle(path.parent, path.name)
        elif to := waits(path.parent, path.name):
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
    """Raises UserError for a link that leads out of a run, and for what is no file and no folder in it.

    But in logs/wandb, which wandb fills with links to its cache, and safelight neither reads nor writes.
    """
    waiting, root = [(run, 0)], os.path.realpath(run)
    with mendable(run):
        while waiting:
            folder, depth = waiting.pop()
            for entry in _entries(folder):
                if entry.is_symlink():
                    if os.path.commonpath([root, os.path.realpath(entry.path)]) != root:
                        raise UserError(f"{entry.path}: is a link out of the run, which is not followed; "
                                        "put what it leads to in its place")  # fmt: skip
                elif entry.is_dir() and Path(entry.path) != run / "logs" / "wandb":
                    if depth == DEEPEST:
                        raise UserError(f"{entry.path}: no run has folders as deep as this; move it away")
                    waiting.append((Path(entry.path), depth + 1))
                elif not entry.is_file() and not entry.is_dir():
                    kind = files.kind(entry.stat(follow_symlinks=False).st_mode)
                    raise UserError(f"{entry.path}: is {kind}, not a file; move it away")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:  # a checkpoint that its writer lets go meanwhile
        return []


def create(
    runs: Path,
    recipe_text: str,
    *,
    recipe: str,
    steps: int,
    facts: Facts,
    name: str | None = None,
    parent: Parent | None = None,
    fill: Callable[[Path], object] = lambda path: None,
    announce: Announce = silence,
) -> RunDirectory:
    """Make a run from a resolved recipe, planned for `steps` steps.

    name: "<recipe>-1", -2, ... by default. fill: puts into it what else it is to appear with. Raises
    UserError if a given name is taken or cannot be one.
    """
    require_free(runs, recipe, name)
    text = recipe_text.encode()
    sha256 = hashlib.sha256(text).hexdigest()
    info = RunInfo(uuid.uuid4().hex, journal.utc_now(), recipe, sha256, steps, facts, parent, sealed.FORMAT)
    with mendable(runs):
        runs.mkdir(parents=True, exist_ok=True)
        sweep(runs)
        temporary = temporary_beside(runs / (name or recipe))
        try:
            temporary.mkdir()
            write_new(temporary / RECIPE, text, announce, "run.recipe")
            write_new(temporary / RUN, sealed.pretty(asdict(info)), announce, "run.info")
            write_new(temporary / JOURNAL, b"", announce, "run.journal")
            fill(temporary)
            return RunDirectory(_publish(temporary, runs, name, recipe, announce))
        except (OSError, UserError):
            with suppress(OSError):
                shutil.rmtree(temporary)  # a full disk needs the space back
            raise


def require_free(runs: Path, recipe: str, name: str | None) -> None:
    """Raises UserError where a run cannot have that name; None: that of the recipe with a number."""
    _check_name(recipe if name is None else name)
    if name is not None and os.path.lexists(runs / name):
        raise _taken(runs / name)


def _publish(temporary: Path, runs: Path, name: str | None, recipe: str, announce: Announce) -> Path:
    """Give the finished directory its name. Raises OSError, and UserError if the name was taken meanwhile."""
    while True:
        path = runs / (name or _next_name(runs, recipe))
        try:
            publish(temporary, path, announce, "run")
            return path
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if name is not None:
                raise _taken(path) from error


def _check_name(name: str) -> None:
    """Raises UserError unless the name is a plain directory name on every system."""
    if RESERVED.fullmatch(name):
        raise UserError(f"{name!r}: cannot name a run; Windows keeps this name for a device")
    if not re.fullmatch(r"\w[\w.+=-]*", name) or len(name.encode()) > 200 or name.endswith("."):
        raise UserError(
            f"{name!r}: cannot name a run; use up to 200 letters, digits and . _ + = -, "
            "a letter, digit or _ first, no dot last"
        )


def _next_name(runs: Path, recipe: str) -> str:
    """ "<recipe>-n" with n above every one in use, so that a deleted run's name is not confused with it."""
    pattern = re.compile(re.escape(recipe) + r"-(\d+)")
    numbers = [int(match[1]) for name in os.listdir(runs) if (match := pattern.fullmatch(name))]
    return f"{recipe}-{max(numbers, default=0) + 1}"


def _taken(path: Path) -> UserError:
    return UserError(f"{path}: exists already; resume it, or choose another name")
