"""safelight resume: a run goes on from its newest good checkpoint."""

from __future__ import annotations

import typer

from safelight.cli.options import JsonOption, RunArgument, RunsOption, examples


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("safelight resume digits-1"))(resume)


def resume(run: RunArgument, runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """Go on with a run that was stopped or killed: the same weights, bit for bit, as if it never was."""
    from safelight.cli.progress import TrainingProgress
    from safelight.cli.show import print_run
    from safelight.engine.distributed import together
    from safelight.store.directory import find, runs_directory
    from safelight.training.start import resume as go_on

    with together() as world:
        directory = go_on(
            find(run, runs_directory(runs), write=True), world, TrainingProgress().show(world.first)
        )
    if world.first:
        print_run(directory, as_json)
