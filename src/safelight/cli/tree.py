"""safelight tree: which run was forked from which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from safelight.cli.options import JsonOption, RunsOption, print_json
from safelight.terminal import console, plain

OWN = "came from itself, by what its run.json says"

if TYPE_CHECKING:
    from rich.tree import Tree

    from safelight.store.listing import Summary


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(tree)


def tree(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """Draw the lineage of the runs: forks below the run they came from."""
    from safelight.store.directory import runs_directory
    from safelight.store.listing import list_runs

    found = sorted(list_runs(runs_directory(runs)), key=lambda one: one.created)
    names = {one.id: one.name for one in found if not one.problem}
    parents = {one.name: names.get(one.parent.run) if one.parent else None for one in found}
    own = {one.name for one in found if _is_own_ancestor(one.name, parents)}
    parents = {name: None if name in own else parent for name, parent in parents.items()}
    if as_json:
        print_json(
            [
                {
                    "name": one.name,
                    "parent": parents[one.name],
                    "at": one.parent.step if one.parent else None,
                    "remedy": one.remedy,
                    "problem": one.problem or (OWN if one.name in own else ""),
                }
                for one in found
            ]
        )
        return
    from rich.tree import Tree

    def grow(above: Tree, parent: str | None) -> None:
        for one in found:
            if parents[one.name] == parent:
                grow(above.add(plain(_line(one, one.name in own))), one.name)

    root = Tree(plain(runs_directory(runs)))
    grow(root, None)
    console().print(root)


def _is_own_ancestor(name: str, parents: Mapping[str, str | None]) -> bool:
    seen, parent = {name}, parents[name]
    while parent is not None and parent not in seen:
        seen.add(parent)
        parent = parents[parent]
    return parent == name


def _line(one: Summary, own: bool) -> str:
    if one.problem or own:
        return f"{one.name}: damaged: {one.problem or OWN}"
    origin = f", from step {one.parent.step:,}" if one.parent else ""
    origin += f" with {one.remedy}" if one.remedy else ""
    return f"{one.name}{origin}: {one.status}, step {one.step:,} of {one.steps:,}"
