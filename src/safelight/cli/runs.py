"""safelight runs: the runs of a directory, newest first."""

from __future__ import annotations

import typer

from safelight.cli.options import JsonOption, RunsOption, print_json


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(runs)


def runs(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """List runs."""
    from dataclasses import asdict

    from safelight.store.listing import list_runs
    from safelight.store.run import runs_directory

    folder = runs_directory(runs)
    found = list_runs(folder)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        print(f"no runs in {folder}; `safelight train digits` makes one")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("run", "status", "step", "loss", "recipe", "created"):
        table.add_column(title, justify="right" if title in ("step", "loss") else "left")
    for one in found:
        loss = f"{one.loss:.4g}" if one.loss is not None else ""
        created = one.created[:16].replace("T", " ")
        table.add_row(one.name, one.status, f"{one.step:,} / {one.steps:,}", loss, one.recipe, created)
    Console().print(table)
