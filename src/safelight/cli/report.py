"""safelight report: write a run's report again."""

from __future__ import annotations

import typer

from safelight.cli.options import JsonOption, RunArgument, RunsOption, print_json
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)


def report(run: RunArgument, runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """Write report.md and report.html from what a run holds now."""
    from safelight.report.run_report import write_report
    from safelight.store.directory import find, runs_directory

    path = write_report(find(run, runs_directory(runs)))
    if as_json:
        print_json({"html": str(path), "markdown": str(path.with_suffix(".md"))})
    else:
        say(f"report: {path}")
