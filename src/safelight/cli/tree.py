"""safelight tree: which run was forked from which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from safelight.cli.options import JsonOption, RunsOption, print_json
from safelight.terminal import console, plain

if TYPE_CHECKING:
    from rich.tree import Tree

    from safelight.store.listing import Summary


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(tree)


def tree(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """Draw the lineage of the runs: forks below the run they came from."""
    from safelight.store.listing import list_runs
    from safelight.store.run import RunDirectory, runs_directory

    found = sorted(list_runs(runs_directory(runs)), key=lambda one: one.created)
    names = {RunDirectory(one.path).info().id: one.name for one in found if one.status != "damaged"}
    parents = {one.name: names.get(one.parent.run) if one.parent else None for one in found}
    if as_json:
        print_json(
            [
                {
                    "name": one.name,
                    "parent": parents[one.name],
                    "at": one.parent.step if one.parent else None,
                    "remedy": one.remedy,
                }
                for one in found
            ]
        )
        return
    from rich.tree import Tree

    def grow(above: Tree, parent: str | None) -> None:
        for one in found:
            if parents[one.name] == parent:
                grow(above.add(plain(_line(one))), one.name)

    root = Tree(plain(runs_directory(runs)))
    grow(root, None)
    console().print(root)


def _line(one: Summary) -> str:
    origin = f", from step {one.parent.step:,}" if one.parent else ""
    origin += f" with {one.remedy}" if one.remedy else ""
    return f"{one.name}{origin}: {one.status}, step {one.step:,} of {one.steps:,}"
