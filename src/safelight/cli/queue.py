"""safelight queue add, list, remove, run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from safelight import api
from safelight.cli.options import (
    ChangesArgument,
    JsonOption,
    OnOption,
    RecipeArgument,
    RunsOption,
    ThreadsOption,
    changes_of,
    examples,
    print_json,
)
from safelight.store.directory import runs_directory
from safelight.terminal import console, say, table

if TYPE_CHECKING:
    from safelight.training.queue import Entry

app = typer.Typer()
queue = typer.Typer(
    help="Queue runs for the cores or cards of this machine.",
    epilog=examples(
        "safelight queue add digits optim.lr=1e-3", "safelight queue list", "safelight queue run --on local:2"
    ),
    no_args_is_help=True,
)
app.add_typer(queue, name="queue")


@queue.command()
def add(
    recipe: RecipeArgument,
    changes: ChangesArgument = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the run. Default: by the recipe and its settings.")
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a run at the end of the queue, with its settings as they are now."""
    entry = api.queue.add(recipe, changes_of(changes), name=name, runs=runs)
    if as_json:
        print_json(entry.to_dict())
    else:
        say(f"{entry.number}: {entry.name} waits; train it with: safelight queue run")


@queue.command("list")
def list_(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """List what waits, what runs, and what failed and why."""
    rows = [entry.to_dict() for entry in api.queue.entries(runs)]
    if as_json:
        print_json(rows)
    elif not rows:
        say(f"nothing waits in {runs_directory(runs)}")
    else:
        titles = ("", "run", "status", "step", "problem")
        lines = [(row["number"], row["name"], row["status"], row["step"], row["problem"]) for row in rows]
        console(soft_wrap=True).print(table(titles, lines, ("", "step")))


@queue.command()
def remove(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Number, as listed.")],
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a run out of the queue. One that was begun is kept as it is."""
    entry = api.queue.remove(number, runs=runs)
    if as_json:
        print_json(entry.to_dict())
    else:
        say(f"{entry.number}: {entry.name} waits no more")


@queue.command()
def run(
    on: OnOption = None,
    stay: Annotated[bool, typer.Option("--stay", help="Wait for more when nothing is left.")] = False,
    unit: Annotated[
        Literal["systemd", "cron"] | None,
        typer.Option(
            "--print",
            help="Print a systemd unit, or a line for cron, that does this after every start of the machine. "
            "Default: train now.",
        ),
    ] = None,
    threads: ThreadsOption = None,
    runs: RunsOption = None,
) -> None:
    """Train what waits, in order, a run for each core or card. Ctrl-C stops cleanly; rerun it to continue."""

    def tell(entry: Entry, outcome: str, problem: str) -> None:
        say(f"{entry.number}: {entry.name}: {outcome}{f' ({problem})' if problem else ''}")

    if unit:
        say(*api.queue.describe(on, unit, runs=runs).rstrip().split("\n"))
    elif api.queue.run(on, stay=stay, runs=runs, tell=tell):
        raise typer.Exit(1)
