"""Making a run: its directory appears whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from safelight.config import UserError
from safelight.store import journal, sealed
from safelight.store.durable import Announce, mendable, publish, silence, sweep, temporary_beside, write_new
from safelight.store.run import JOURNAL, RECIPE, RUN, Facts, Parent, RunDirectory, RunInfo


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
    if not re.fullmatch(r"\w[\w.+=-]*", name) or len(name.encode()) > 200 or name.endswith("."):
        raise UserError(
            f"{name!r}: cannot name a run; use up to 200 letters, digits and . _ + = -, "
            "a letter, digit or _ first, no dot last"
        )


def _next_name(runs: Path, recipe: str) -> str:
    """ "<recipe>-n" with n above every one in use, so that a deleted run's name is not confused with it."""
    pattern = re.compile(re.escape(recipe) + r"-(\d+)")
    numbers = [int(found[1]) for name in os.listdir(runs) if (found := pattern.fullmatch(name))]
    return f"{recipe}-{max(numbers, default=0) + 1}"


def _taken(path: Path) -> UserError:
    return UserError(f"{path}: exists already; resume it, or choose another name")
