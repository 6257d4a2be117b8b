"""safelight traverse: sliders over conditions, along components of the latents, along directions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.cli.options import (
    ChangesArgument,
    EmaLengthOption,
    JsonOption,
    RunArgument,
    RunsOption,
    StepOption,
    examples,
    print_json,
    sample_changes,
    step_of,
)
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "safelight traverse faces-small-1 --attribute hair=0..1 --rows 6 --out grid.png",
            "safelight traverse faces-small-1 --component 1 --out grid.png",
            "safelight traverse t1 --direction pca:1 --direction sefa:1 --out grid.png",
        )
    )(traverse)


def traverse(
    run: RunArgument,
    changes: ChangesArgument = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            "--attribute",
            metavar="NAME=A..B",
            help='hair=0..1; "male=0..1,female=1..0" moves both; several options are combined; label=0..9.',
        ),
    ] = None,
    component: Annotated[
        list[int] | None,
        typer.Option(
            "--component", help="Principal component of the latents, from 1; several make a row each."
        ),
    ] = None,
    direction: Annotated[
        list[str] | None,
        typer.Option(
            "--direction",
            metavar="KIND:N[=A..B]",
            help="pca:1 (GANSpace) or sefa:1 (SeFa), from 1; else -3..3 deviations; several make a row each.",
        ),
    ] = None,
    specimen: Annotated[
        str | None, typer.Option("--specimen", metavar="ID", help="Whose latent a direction starts from.")
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Latents, one a row.")] = 6,
    columns: Annotated[
        int | None, typer.Option("--columns", min=2, help="Places on each slider; else 7, of several 2.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the latents.")] = 0,
    step: StepOption = None,
    ema_length: EmaLengthOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="The picture; else RUN-traverse.png")] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw sliders: a grid of one latent a row, moved along conditions, components or directions."""
    from safelight.cli.progress import TrainingProgress
    from safelight.config import UserError
    from safelight.run import Run
    from safelight.store.directory import runs_directory

    if sum(map(bool, (attribute, component, direction))) != 1:
        raise UserError(
            "traverse: state --attribute, such as hair=0..1, or --component, such as 1, "
            "or --direction, such as pca:1"
        )
    from safelight.render.sheet import panel
    from safelight.render.sheet_file import save_png

    show = TrainingProgress().show(log=False)
    opened = Run.open(run, runs_directory(runs), step_of(step), ema_length, tell=show.tell, warn=show.warn)
    places = columns or (7 if len(attribute or []) < 2 else 2)
    made = opened.traverse(
        attribute or [],
        component or [],
        direction or [],
        specimen=specimen,
        rows=rows,
        columns=places,
        seed=seed,
        how=sample_changes(changes),
    )
    path = out or Path(f"{opened.name}-traverse.png")
    save_png(panel(made.images, made.row_labels, made.column_labels, made.caption), path)
    if as_json:
        height, width = made.images.shape[:2]
        print_json({"out": str(path), "step": opened.step, "seed": seed, "rows": height, "columns": width})
    else:
        say(path)
