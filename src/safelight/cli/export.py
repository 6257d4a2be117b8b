"""safelight export, export-metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import safelight as sl
from safelight import api
from safelight.cli.options import (
    EmaLengthOption,
    JsonOption,
    RawOption,
    RunArgument,
    RunsOption,
    SampleChangesArgument,
    StepOption,
    examples,
    print_json,
    sample_changes,
    step_of,
)
from safelight.export import metrics
from safelight.store.directory import find, runs_directory
from safelight.terminal import messages, say

app = typer.Typer()


@app.command(epilog=examples("safelight export digits-1 --to onnx --out onnx/"))
def export(
    run: RunArgument,
    to: Annotated[
        str, typer.Option("--to", metavar="FORM", help="Form: diffusers, safetensors, onnx or lora.")
    ],
    out: Annotated[Path, typer.Option("--out", help="New folder to write.")],
    changes: SampleChangesArgument = None,
    step: StepOption = None,
    ema_length: EmaLengthOption = None,
    raw: RawOption = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export the averaged weights for diffusers, as safetensors with a loader, or as checked ONNX."""
    api.samples.require_new(to, out)  # before networks are read
    _, warn = messages()
    settings = sample_changes(changes, run, runs)
    opened = sl.Run.open(run, runs_directory(runs), step_of(step), ema_length, raw=raw, tell=warn)
    notes = opened.export(to, out, settings)
    if as_json:
        print_json({"out": str(out), "to": to, "step": opened.step, "told": notes})
    else:
        say(f"{out} (step {opened.step:,})", *notes)


@app.command("export-metrics", epilog=examples("safelight export-metrics digits-1 --out metrics.csv"))
def export_metrics(
    run: RunArgument,
    out: Annotated[
        Path,
        typer.Option("--out", help="Output: metrics.csv, metrics.parquet, or a folder for TensorBoard."),
    ],
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the metrics of every step as .csv, as .parquet, or as TensorBoard event files."""
    columns = metrics.export_metrics(find(run, runs_directory(runs)), out)
    if as_json:
        print_json({"out": str(out), "columns": columns})
    else:
        say(out)
