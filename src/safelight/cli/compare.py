"""safelight compare: what differs between runs, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.cli.options import JsonOption, RunsOption, examples, print_json
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("safelight compare digits-1 calmer"))(compare)


def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Two runs or more.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to write; else where runs live.")
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare runs: settings, losses, metrics, cost, and the same noises side by side.

    Numbers that may not share a column are told apart. Writes compare.md and compare.html.
    """
    from safelight.config import UserError
    from safelight.store.directory import find, runs_directory

    folder = runs_directory(runs)
    found = list(dict.fromkeys(find(name, folder) for name in names))
    if len(found) < 2:
        raise UserError("compare: name two runs or more, for example: safelight compare digits-1 digits-2")
    from safelight.render.page_terminal import print_page
    from safelight.report.comparison_page import write_comparison

    written = write_comparison(found, out or folder, "compare")
    if as_json:
        print_json(written.to_dict())
    else:
        print_page(written.page, without=("Side by side",))
        say("", f"page: {written.html}")
