"""safelight fork: a new run from an exact step of another one."""

from __future__ import annotations

from typing import Annotated

import typer

from safelight.cli.options import (
    ChangesArgument,
    JsonOption,
    RunArgument,
    RunsOption,
    changes_of,
    examples,
    warn_of,
)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("safelight fork digits-1 --at 500 optim.lr=1e-4 --name calmer"))(fork)


def fork(
    run: RunArgument,
    at: Annotated[int, typer.Option("--at", min=1, help="Steps behind the state to start from.")],
    changes: ChangesArgument = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the new run.")] = None,
    train: Annotated[bool, typer.Option(help="Train it at once, or leave it for `safelight resume`.")] = True,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a new run from an exact step of another one, with keys of its recipe changed."""
    wanted = changes_of(changes)
    from safelight.cli.progress import TrainingProgress
    from safelight.cli.show import print_run
    from safelight.engine.distributed import World
    from safelight.loading.in_force import InForce
    from safelight.store.directory import find, runs_directory
    from safelight.training.fork import fork as branch
    from safelight.training.start import resume

    folder = runs_directory(runs)
    show = TrainingProgress().show()
    parent = find(run, folder)
    warn_of(InForce.of(parent).recipe_at(at), wanted)
    made = branch(parent, at, wanted, folder, name, show.tell)
    if train:
        resume(made, World(), show)
    print_run(made, as_json)
