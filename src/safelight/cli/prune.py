"""safelight prune: a run's older checkpoints thinned to a budget."""

from __future__ import annotations

from typing import Annotated

import typer

from safelight.cli.options import JsonOption, RunArgument, RunsOption, examples, print_json
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("safelight prune digits-1 --budget 200MB"))(prune)


def prune(
    run: RunArgument,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="SIZE", help="Such as 1GB; else checkpoint.budget.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would go, and leave it.")] = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Free disk: thin older checkpoints evenly, and delete those put aside as damaged.

    The newest, pinned and best ones stay, those where a run was forked, and every frame of the tape.
    """
    from safelight.cli.disk import line_of
    from safelight.store import retention
    from safelight.store.directory import find, runs_directory
    from safelight.store.size import words

    directory = find(run, runs_directory(runs))
    section = retention.section_of(directory)
    if budget is not None:
        section = section.model_copy(update={"budget": _size(budget)})
    freed = retention.plan(directory, section) if dry_run else retention.free(directory, section)
    total = sum(one.bytes for one in freed.checkpoints) + freed.damaged
    if as_json:
        steps = [one.step for one in freed.checkpoints]
        print_json({"run": directory.name, "bytes": total, "steps": steps, "damaged": freed.damaged,
                    "dry_run": dry_run, "longest_replay": freed.bound.steps})  # fmt: skip
        return
    for one in freed.checkpoints:
        say(line_of(one))
    if freed.damaged:
        say(f"  damaged ones    {words(freed.damaged):>8}")
    say(f"{directory.name}: {words(total)} {'would be freed' if dry_run else 'freed'}")
    if freed.left > section.budget:
        say(f"  {words(freed.left)} stay, for the reasons that safelight disk {directory.name} tells")
    say(f"replay: {freed.bound.told}")


def _size(text: str) -> int:
    from safelight.config import UserError
    from safelight.store.size import parse

    try:
        size: int = parse(text)
    except ValueError as error:
        raise UserError(f"--budget: {error}") from error
    return size
