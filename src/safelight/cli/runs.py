"""safelight runs: the runs of a directory, newest first."""

from __future__ import annotations

import typer

from safelight.cli.options import JsonOption, RunsOption, print_json
from safelight.terminal import console, say, table


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(runs)


def runs(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """List runs."""
    from dataclasses import asdict

    from safelight.store.directory import runs_directory
    from safelight.store.listing import list_runs

    folder = runs_directory(runs)
    found = list_runs(folder)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        say(f"no runs in {folder}; `safelight train digits` makes one")
        return
    rows = []
    for one in found:
        if one.problem:
            continue
        created = one.created[:16].replace("T", " ")
        step = f"{one.step:,} / {one.steps:,}"
        rows.append((one.name, one.status, step, one.headline, one.recipe, created))
    titles = ("run", "status", "step", "measured", "recipe", "created")
    if rows:
        console().print(table(titles, rows, right=("step",)))
    for one in found:
        if one.problem:
            say(f"{one.name}: damaged: {one.problem}")
