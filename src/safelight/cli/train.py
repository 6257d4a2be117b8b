"""safelight train: a recipe becomes a run."""

from __future__ import annotations

from typing import Annotated

import typer

from safelight.cli.options import ChangesArgument, JsonOption, RunsOption, changes_of, examples, warn_of


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "safelight train digits",
            "safelight train fashion optim.lr=5e-4 train.steps=4000 --name slower",
            "safelight train my.toml data.path=photos/ data.size=64",
        )
    )(train)


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe, or a .toml file.")],
    changes: ChangesArgument = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the run; else RECIPE-1, -2, ...")
    ] = None,
    no_check: Annotated[
        bool,
        typer.Option("--no-check", envvar="SAFELIGHT_NO_CHECK", help="Begin without looking for faults."),
    ] = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a generator. Ctrl-C stops it in good order; `safelight resume` goes on."""
    from safelight.cli.progress import TrainingProgress
    from safelight.cli.show import print_run
    from safelight.engine.distributed import together
    from safelight.recipe import load
    from safelight.store.directory import runs_directory
    from safelight.training.start import train_stages

    with together() as world:
        wanted = changes_of(changes)
        resolved = load(recipe, wanted)
        if world.first and any(key.endswith(".lr") for key in wanted):
            warn_of(load(recipe), wanted)
        directory = train_stages(
            resolved,
            runs_directory(runs),
            name,
            world,
            lambda: TrainingProgress().show(world.first),
            checked=not no_check,
        )
    if world.first:
        print_run(directory, as_json)
