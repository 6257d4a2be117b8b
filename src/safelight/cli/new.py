"""safelight new: a recipe to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.cli.options import examples
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "safelight new my.toml --from fashion", "safelight new all.toml --from fashion --full"
        )
    )(new)


def new(
    path: Annotated[Path, typer.Argument(metavar="FILE.toml", help="File to write.")],
    source: Annotated[str, typer.Option("--from", metavar="RECIPE", help="Recipe to start from.")] = "digits",
    full: Annotated[bool, typer.Option("--full", help="Write every key, with its meaning.")] = False,
) -> None:
    """Write a recipe to edit."""
    from safelight import recipes
    from safelight.config import UserError

    text = recipes.path(source).read_text(encoding="utf-8")
    if full:
        from safelight import keys
        from safelight.recipe import load

        text = keys.full(load(source))
    if path.suffix != ".toml":
        raise UserError(f"{path}: a recipe's name ends in .toml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UserError(f"{path}: exists already; choose another name") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    say(f"{path}: edit it, then: safelight train {path}")
