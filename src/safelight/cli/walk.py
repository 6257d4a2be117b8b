"""safelight walk: the way from one specimen to the next, as a film."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.cli.film import FpsOption, OutOption, SettingsOption, WorkersOption, making, print_film
from safelight.cli.options import JsonOption, RunArgument, RunsOption, examples


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("safelight walk digits-1 500.28 500.3 --frames 120 --out walk.mp4"))(walk)


def walk(
    run: RunArgument,
    ids: Annotated[list[str], typer.Argument(metavar="SPECIMEN...", help="Two ids or more, such as 500.3.")],
    frames: Annotated[int, typer.Option("--frames", min=2, help="How many, in all.")] = 120,
    step: Annotated[
        int | None, typer.Option("--step", min=0, help="Weights of one step; else each specimen's own.")
    ] = None,
    fps: FpsOption = 30.0,
    out: OutOption = None,
    words: Annotated[
        bool, typer.Option("--number/--no-number", help="The step in a corner, where it changes.")
    ] = True,
    settings: SettingsOption = None,
    workers: WorkersOption = 1,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Walk from sample to sample, on the sphere of latents."""
    from safelight.explore.film import walk as make
    from safelight.store.directory import find, runs_directory

    directory = find(run, runs_directory(runs))
    with making(out or Path(f"{directory.name}-walk.mp4"), fps, words, settings, workers) as how:
        made = make(directory, ids, how, frames, step)
    print_film(made, as_json)
