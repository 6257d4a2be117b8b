"""safelight disk: what a run takes of the disk, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from safelight.cli.options import JsonOption, RunArgument, RunsOption, print_json
from safelight.terminal import say

if TYPE_CHECKING:
    from safelight.store.retention import Held


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(disk)


def disk(run: RunArgument, runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """Tell what a run takes of the disk: by kind, and each checkpoint with the reason why it is held."""
    from dataclasses import asdict

    from safelight.store import listing, retention
    from safelight.store.directory import find, runs_directory
    from safelight.store.size import words

    directory = find(run, runs_directory(runs))
    section = retention.section_of(directory)
    kinds, held = listing.by_kind(directory.path), retention.held(directory, section)
    bound = retention.bound_of(directory)
    if as_json:
        print_json(
            {
                "run": directory.name,
                "bytes": sum(kinds.values()),
                "kinds": kinds,
                "budget": section.budget,
                "checkpoints": [asdict(one) for one in held],
                "longest_replay": asdict(bound),
            }
        )
        return
    say(f"{directory.name}: {words(sum(kinds.values()))}")
    for kind, size in kinds.items():
        say(f"  {kind:20} {words(size):>8}")
    say(f"checkpoints, with a budget of {words(section.budget)}:")
    for one in held:
        say(line_of(one))
    say(f"replay: {bound.told}")
    if freed := sum(one.bytes for one in held if one.surplus):
        say(f"over the budget by {words(freed)}; free it with: safelight prune {directory.name}")


def line_of(one: Held) -> str:
    """A checkpoint in a line."""
    from safelight.store.size import words

    return f"  step {one.step:>9,}  {words(one.bytes):>8}  {', '.join(one.why)}"
