"""safelight log: the experiment log of a project."""

from __future__ import annotations

from typing import Annotated

import typer

from safelight.cli.options import JsonOption, RunsOption, print_json
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(log)


def log(
    full: Annotated[
        int, typer.Option("--n", min=0, help="How many of the newest runs are told in full.")
    ] = 20,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write log.md and log.html: what each run changed, and what came of it, the newest first."""
    from safelight.report.log_page import write_log
    from safelight.store.directory import names, runs_directory

    folder = runs_directory(runs)
    if not names(folder):
        print_json({"runs": [], "files": {}}) if as_json else say(f"no runs in {folder}")
        return
    entries, markdown, html = write_log(folder, full)
    if as_json:
        print_json(
            {
                "runs": [entry.to_dict() for entry in entries],
                "files": {"markdown": str(markdown), "html": str(html)},
            }
        )
    else:
        say(f"{len(entries)} runs: {html}")
        for entry in entries:
            if not entry.run.readable:
                say(f"{entry.run.name}: damaged: {'; '.join(entry.run.problems)}")
