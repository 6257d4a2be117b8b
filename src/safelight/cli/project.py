"""safelight project: the latent of a trained run whose image is nearest a given one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.cli.options import (
    ChangesArgument,
    JsonOption,
    RunArgument,
    RunsOption,
    examples,
    print_json,
    sample_changes,
)
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("safelight project t1 apple.png --steps 200 --out sheet.png"))(project)


def project(
    run: RunArgument,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="A picture; it is fitted to the run's size.")
    ],
    changes: ChangesArgument = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of Adam.")] = 200,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            "--condition", metavar="NAME=VALUE", help="As of safelight sample: label=3, text=red apple."
        ),
    ] = None,
    step: Annotated[
        int | None, typer.Option("--step", min=0, help="Of the weights; else the newest checkpoint's.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The picture; else RUN-project.png")] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Project an image into the latents of a run. What is found is kept as a specimen."""
    from safelight.cli.bar import bar
    from safelight.explore.projection import ProjectionSettings, projected
    from safelight.render.wording import number
    from safelight.store.directory import find, runs_directory

    directory = find(run, runs_directory(runs))
    wanted = dict(text.partition("=")[::2] for text in condition or ())
    asked = ProjectionSettings(image, steps, wanted, sample_changes(changes), step)
    with bar() as (tell, progress):
        told = projected(directory, asked, out or Path(f"{directory.name}-project.png"), tell, progress)
    if as_json:
        print_json(told)
        return
    first, last = told["pixel mse"]["first"], told["pixel mse"]["last"]
    say(f"{told['specimen']}: squared error of pixels {number(first)} at first, {number(last)} at last")
    say(told["out"])
