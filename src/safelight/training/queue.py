"""Runs that wait for a core or a card of this machine, in order.

What waits is a recipe file, RUNS/.queue/0003-NAME.toml; when its run is finished the file is deleted, and
where it failed the reason lies beside it. So the queue is what the folder says, also after a reboot.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from filelock import FileLock, Timeout

from safelight.config import UserError, read_toml
from safelight.fanout import POLL, pool, stated_threads
from safelight.recipe import Recipe, resolve
from safelight.store.directory import RUN, RunDirectory, require_free
from safelight.store.durable import mendable, write_text
from safelight.store.listing import summary
from safelight.training.grid import digest
from safelight.training.sweep import Outcome, finish_cell

FOLDER = ".queue"  # in the folder of runs
UNIT = """[Unit]
Description=safelight queue of {runs}

[Service]
WorkingDirectory={here}
ExecStart={command}
Restart=on-failure

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class Entry:
    """A run that waits. file: its recipe, NUMBER-NAME.toml."""

    file: Path

    @property
    def number(self) -> int:
        return int(self.file.name.partition("-")[0])

    @property
    def name(self) -> str:
        """Of the run."""
        return self.file.stem.partition("-")[2]

    @property
    def problem(self) -> Path:
        """The file that says why it failed."""
        return self.file.with_suffix(".problem")

    def recipe(self) -> Recipe:
        """Raises UserError."""
        with mendable(self.file):
            title = self.file.read_text(encoding="utf-8").partition("\n")[0]
        return resolve(read_toml(self.file), title.removeprefix("# "))

    def to_dict(self) -> dict[str, Any]:
        """Number, name, how it stands and how far it came."""
        run = RunDirectory(self.file.parents[1] / self.name)
        begun = summary(run) if (run.path / RUN).is_file() else None
        status = "failed" if self.problem.exists() else begun.status if begun else "waiting"
        return {
            "number": self.number,
            "name": self.name,
            "status": status,
            "step": begun.step if begun else 0,
            "steps": begun.steps if begun else None,
            "problem": self.problem.read_text(encoding="utf-8") if self.problem.exists() else "",
        }


def entries(runs: Path) -> list[Entry]:
    """What is in the queue, in order."""
    files = (runs / FOLDER).glob("[0-9]*-*.toml")
    return sorted((Entry(file) for file in files), key=lambda entry: entry.number)


def add(recipe: Recipe, runs: Path, name: str | None) -> Entry:
    """Put a run at the end. Raises UserError where there is one of its name."""
    name = name or f"{recipe.name}-{digest(recipe)}"
    with _held(runs / FOLDER / "add.lock", 10):
        waiting = entries(runs)
        if name in (entry.name for entry in waiting):
            raise UserError(f"{name}: waits already; give the other one a --name")
        require_free(runs, recipe.name, name)
        number = max((entry.number for entry in waiting), default=0) + 1
        entry = Entry(runs / FOLDER / f"{number:04d}-{name}.toml")
        write_text(entry.file, f"# {recipe.name}\n{tomli_w.dumps(recipe.tree)}")
    return entry


def remove(runs: Path, number: int) -> Entry:
    """Take a run out; one that was begun is kept as it is. Raises UserError."""
    entry = next((entry for entry in entries(runs) if entry.number == number), None)
    if entry is None:
        raise UserError(f"{number}: nothing of that number waits; see safelight queue list")
    entry.file.unlink(missing_ok=True)
    entry.problem.unlink(missing_ok=True)
    return entry


def work(
    runs: Path, on: str, stay: bool, tell: Callable[[Entry, Outcome, str], None], tries: int = 0
) -> None:
    """Train what waits, as much at once as the pool takes, until nothing is left. Raises UserError.

    stay: go on waiting for more. tell: called as each ends, with its problem. What is added meanwhile has its
    turn; one that is removed is not begun. Ctrl-C stops what runs after the step in hand, to be resumed.
    """
    runs = runs.absolute()
    with (
        _held(runs / FOLDER / "run.lock", 0),
        pool(on, sys.maxsize, runs, threads=stated_threads(), tries=tries) as workers,
    ):
        running: dict[Future[Any], Entry] = {}
        begun: set[Path] = set()
        while True:
            for entry in entries(runs):
                if len(running) < workers.size and entry.file not in begun and not entry.problem.exists():
                    begun.add(entry.file)
                    running[workers.submit(_train, entry.file, runs)] = entry
            if not running and not stay:
                return
            time.sleep(0 if running else POLL)
            for future in wait(running, POLL, FIRST_COMPLETED).done:
                entry = running.pop(future)
                outcome, problem = future.result()
                if problem:
                    write_text(entry.problem, f"{problem}\n")
                elif outcome != "stopped":
                    entry.file.unlink(missing_ok=True)
                tell(entry, outcome, problem)


@contextmanager
def _held(file: Path, seconds: float) -> Iterator[None]:
    """Hold a lock. Raises UserError where another process does, for so long."""
    with mendable(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(file, timeout=seconds):
            yield
    except Timeout:
        raise UserError(
            f"{file.parent}: another safelight queue works on it; wait for it, or stop it"
        ) from None


def _train(file: Path, runs: Path) -> tuple[Outcome, str]:
    try:
        recipe = Entry(file).recipe()
    except UserError as error:
        return "failed", str(error)
    return finish_cell(recipe, runs, Entry(file).name)[:2]


def describe(runs: Path, on: str, form: str) -> str:
    """A systemd unit, or a line for cron, that works on the queue after every start of the machine."""
    command = [sys.executable, "-m", "safelight", "queue", "run", "--stay", "--on", on, "--runs", str(runs)]
    words = shlex.join(command)
    return f"@reboot {words}" if form == "cron" else UNIT.format(runs=runs, here=Path.cwd(), command=words)
