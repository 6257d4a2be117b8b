"""safelight export: the networks of a run for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.cli.options import (
    EmaLengthOption,
    JsonOption,
    RunArgument,
    RunsOption,
    StepOption,
    examples,
    print_json,
    step_of,
)
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("safelight export digits-1 --to onnx --out onnx/"))(export)


def export(
    run: RunArgument,
    to: Annotated[str, typer.Option("--to", metavar="FORM", help="diffusers, safetensors or onnx.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder.")],
    step: StepOption = None,
    ema_length: EmaLengthOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the weights that samples use: for diffusers, as safetensors with a loader, or as checked ONNX."""
    from safelight.export.networks import require_new

    require_new(to, out)
    from safelight.cli.progress import TrainingProgress
    from safelight.run import Run
    from safelight.store.directory import runs_directory

    opened = Run.open(
        run, runs_directory(runs), step_of(step), ema_length, tell=TrainingProgress().show(log=False).warn
    )
    told = opened.export(to, out)
    if as_json:
        print_json({"out": str(out), "to": to, "step": opened.step, "told": told})
    else:
        say(f"{out} (step {opened.step:,})", *told)
