"""safelight recipes: what can be trained as it is."""

from __future__ import annotations

import typer

from safelight.cli.options import JsonOption, print_json
from safelight.terminal import console, table


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
    rows = [(name, about["title"], about["size"], about["time"]) for name, about in abouts.items()]
    console().print(table(("recipe", "what", "size", "time"), rows))
