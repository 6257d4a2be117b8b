"""safelight tune: an intervention in a run, while it trains or before it is resumed."""

from __future__ import annotations

from typing import Annotated

import typer

from safelight.cli.options import (
    JsonOption,
    RunArgument,
    RunsOption,
    changes_of,
    examples,
    print_json,
    warn_of,
)
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples("safelight tune digits-1 optim.lr=1e-4", "safelight tune digits-1 watch.every=50")
    )(tune)


def tune(
    run: RunArgument,
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="Such as optim.lr=2.5e-5.")],
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change values of a run's recipe from its next step on. The journal keeps what was changed, and when."""
    from safelight.config import UserError
    from safelight.files import MOST
    from safelight.loading.in_force import InForce, live_only
    from safelight.store import inbox
    from safelight.store.directory import find, runs_directory
    from safelight.store.listing import summary

    wanted = changes_of(changes)
    directory = find(run, runs_directory(runs))
    live_only(wanted)
    now = InForce.of(directory).recipe_at(MOST)
    now.with_changes(wanted)  # refused here rather than when it is taken
    short = summary(directory)
    if short.status == "finished":
        raise UserError(
            f"{directory.name}: finished at step {short.step:,} of {short.steps:,}, so no step would run "
            "with the change; fork an earlier step: "
            f"safelight fork {directory.name} --at STEP {' '.join(changes)}"
        )
    warn_of(now, wanted)
    edit = inbox.drop(directory.path, wanted, "command line")
    when = "at its next step" if directory.is_locked() else "when it is resumed"
    if as_json:
        print_json(
            {"run": directory.name, "edit": edit.id, "changes": wanted, "running": directory.is_locked()}
        )
    else:
        say(f"{directory.name}: {', '.join(changes)}, {when}")
