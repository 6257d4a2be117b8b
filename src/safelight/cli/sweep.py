"""safelight sweep: a grid of settings under several seeds, then what is more than chance."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli.options import JsonOption, RunsOption, examples, print_json
from safelight.terminal import console, say

if TYPE_CHECKING:
    from pathlib import Path

    from safelight.report.comparison_page import Written
    from safelight.training.grid import Combination, Grid
    from safelight.training.sweep import Sweep

INTERRUPTED = 130  # what shells call the exit code of Ctrl-C


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("safelight sweep digits optim.lr=1e-3,2e-3 --seeds 2"))(sweep)


def sweep(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe, or a .toml file.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE,VALUE...]...", help="optim.lr=1e-4,3e-4 train.steps=300"),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Seeds of each combination; two or more tell chance.")
    ] = 1,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train every combination of values one after another, then compare them.

    Ctrl-C stops it; the same command goes on. A comma inside brackets or quotes belongs to its value.
    """
    from safelight.cli.progress import TrainingProgress
    from safelight.engine.distributed import together
    from safelight.render.page_terminal import print_page
    from safelight.store.directory import runs_directory
    from safelight.training.grid import grid
    from safelight.training.sweep import sweep as train_all

    words, folder = words or [], runs_directory(runs)
    with together() as world:
        wanted = grid(recipe, words, seeds)
        tell = _teller(as_json) if world.first else lambda sweep, cell: None
        done = train_all(wanted.cells, folder, world, lambda: TrainingProgress().show(), tell)
    if not world.first:
        return
    written = None if done.stopped else _compared(done, folder, wanted)
    if as_json:
        print_json(_plain(done, written))
    elif done.stopped:
        options = [*(["--seeds", str(seeds)] if seeds > 1 else []), *(["--runs", str(runs)] if runs else [])]
        command = shlex.join(["safelight", "sweep", recipe, *words, *options])
        say(f"stopped; what was trained is kept. Go on with: {command}")
    elif done.hopeless:
        say("stopped: the first two failed for the same reason, so would the others")
    elif written:
        print_page(written.page, without=("Side by side", "Loss", "Held-out"))
        say("", f"page: {written.html}")
    if done.stopped or done.problems:
        raise typer.Exit(INTERRUPTED if done.stopped else 1)


def _teller(as_json: bool) -> Callable[[Sweep, Combination], None]:
    """Tells of each cell as it begins and ends; on stderr, and only to a terminal, beside JSON."""
    from safelight.render.wording import duration

    out = console(as_json, quiet=as_json and not sys.stderr.isatty())
    spent: list[float] = []  # seconds of each cell that was trained from its beginning
    begun = 0.0

    def tell(done: Sweep, cell: Combination) -> None:
        nonlocal begun
        place = f"{[own.name for own in done.cells].index(cell.name) + 1}/{len(done.cells)}"
        outcome = done.outcome(cell)
        if outcome == "not begun":
            begun = time.monotonic()
            return
        seconds = time.monotonic() - begun
        if outcome == "trained":
            spent.append(seconds)
        words = f"{place}  {cell.label}: {outcome}"
        if outcome in ("trained", "resumed"):
            words += f" in {duration(seconds)}"
        left = len(done.cells) - len(done.outcomes)
        if spent and left and not done.stopped:
            words += f"; {left} to come, about {duration(left * sum(spent) / len(spent))}"
        if cell.name in done.problems:
            words += f" ({done.problems[cell.name]})"
        out.print(words, soft_wrap=True)

    return tell


def _compared(done: Sweep, folder: Path, wanted: Grid) -> Written | None:
    """The comparison of the runs there are; None for fewer than two."""
    from safelight.report.comparison_page import write_comparison
    from safelight.store.directory import RUN, RunDirectory

    found = [RunDirectory(folder / cell.name) for cell in done.cells if (folder / cell.name / RUN).is_file()]
    called = {cell.name: cell.label for cell in wanted.cells}
    return write_comparison(found, folder, wanted.name, wanted.title, called) if len(found) > 1 else None


def _plain(done: Sweep, written: Written | None) -> dict[str, Any]:
    """For --json."""
    cells = [
        {
            "name": cell.name,
            "label": cell.label,
            "outcome": done.outcome(cell),
            "problem": done.problems.get(cell.name, ""),
        }
        for cell in done.cells
    ]
    return {"cells": cells, "stopped": done.stopped, "comparison": written.to_dict() if written else None}
