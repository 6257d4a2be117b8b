"""safelight rollback: a run goes on from one of its earlier steps. Nothing is deleted."""

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
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("safelight rollback digits-1 --to 400 optim.lr=1e-4"))(rollback)


def rollback(
    run: RunArgument,
    to: Annotated[int, typer.Option("--to", min=1, help="Steps behind the state to go back to.")],
    changes: ChangesArgument = None,
    train: Annotated[bool, typer.Option(help="Go on at once, or leave it for `safelight resume`.")] = True,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a run go on from an earlier step, with keys of its recipe changed.

    The run as it was keeps existing, as RUN-before-STEP.
    """
    wanted = changes_of(changes)
    from safelight.cli.progress import TrainingProgress
    from safelight.cli.show import print_run
    from safelight.engine.distributed import World
    from safelight.loading.in_force import InForce
    from safelight.store.directory import find, runs_directory
    from safelight.training.fork import rollback as go_back
    from safelight.training.start import resume

    show = TrainingProgress().show()
    directory = find(run, runs_directory(runs), write=True)
    warn_of(InForce.of(directory).recipe_at(to), wanted)
    made, before = go_back(directory, to, wanted, show.tell)
    say(f"what {made.name} was is now {before.name}", err=True)
    if train:
        resume(made, World(), show)
    print_run(made, as_json)
