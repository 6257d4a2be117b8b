"""safelight export-metrics: a run's numbers for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.cli.options import JsonOption, RunArgument, RunsOption, examples, print_json
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export-metrics", epilog=examples("safelight export-metrics digits-1 --out metrics.csv"))(
        export_metrics
    )


def export_metrics(
    run: RunArgument,
    out: Annotated[
        Path, typer.Option("--out", help="metrics.csv, metrics.parquet, or a folder for TensorBoard.")
    ],
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the metrics of every step as .csv, as .parquet, or as TensorBoard event files in a folder."""
    from safelight.export.metrics import export_metrics as export
    from safelight.store.directory import find, runs_directory

    columns = export(find(run, runs_directory(runs)), out)
    if as_json:
        print_json({"out": str(out), "columns": columns})
    else:
        say(out)
