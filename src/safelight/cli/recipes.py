"""safelight recipes: what can be trained as it is."""

from __future__ import annotations

import typer

from safelight.cli.options import JsonOption, print_json


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(recipes)


def recipes(as_json: JsonOption = False) -> None:
    """List the shipped recipes, with their size and expected time."""
    from safelight import recipes
    from safelight.config import read_toml

    abouts = {name: read_toml(recipes.path(name))["about"] for name in recipes.names()}
    if as_json:
        print_json([{"name": name, **about} for name, about in abouts.items()])
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("recipe", "what", "size", "time"):
        table.add_column(title)
    for name, about in abouts.items():
        table.add_row(name, about["title"], about["size"], about["time"])
    Console().print(table)
