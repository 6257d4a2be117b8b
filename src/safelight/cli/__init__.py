"""The command line. One file a command; each imports what it needs when it runs: --help is instant."""

from __future__ import annotations

import io
import sys
import traceback
from typing import Annotated, Any

import typer

from safelight.cli import (
    check,
    compare,
    data,
    disk,
    evaluate,
    export,
    export_metrics,
    film,
    fork,
    log,
    new,
    plan,
    project,
    prune,
    recipes,
    replay,
    report,
    resume,
    rollback,
    runs,
    sample,
    search,
    show,
    specimens,
    sweep,
    train,
    traverse,
    tree,
    tune,
    walk,
)
from safelight.terminal import say

EXHAUSTED = ("can't allocate memory", "not enough memory", "out of memory")  # how torch says it
WRONG_USE: Any = typer.BadParameter.__mro__[2]  # of an unknown option, a missing argument; not exported


def _version(stated: bool) -> None:
    if stated:
        from safelight import __version__

        say(f"safelight {__version__}")
        raise typer.Exit


app = typer.Typer(
    help="Train image generators, and watch them develop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version.")
    ] = False,
) -> None:
    """Train image generators, and watch them develop."""


COMMANDS = {
    "Train": (train, resume, sweep),
    "Prepare": (recipes, new, data, check, plan),
    "Change the course of a run": (tune, fork, rollback, replay),
    "Look at runs": (runs, show, report, tree, disk, prune),
    "Look at samples": (sample, specimens, film, walk, traverse, search, project),
    "Measure and compare": (evaluate, compare, log),
    "Hand over": (export, export_metrics),
}
for title, commands in COMMANDS.items():
    panel = typer.Typer()
    for command in commands:
        command.add_to(panel)
    own: list[Any] = [*panel.registered_commands, *panel.registered_groups]
    for one in own:
        one.rich_help_panel = title
    app.registered_commands += panel.registered_commands
    app.registered_groups += panel.registered_groups


def main() -> None:
    """Run the command line. A user's mistake is one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a log in ASCII takes names that are not
    try:
        sys.exit(app(prog_name="safelight", standalone_mode=False))  # None, or the code of a typer.Exit
    except typer.Abort:
        sys.exit(1)
    except Exception as error:
        message = mistake(error)
        if message is None:
            say(*traceback.format_exc().splitlines(), err=True)
            sys.exit(1)
        if message:
            say(f"safelight: {message}", err=True)
        sys.exit(2)


def mistake(error: Exception) -> str | None:
    """What the user got wrong, in one line; None where it is a fault of safelight.

    Nothing is left to say where a command without arguments has shown its help.
    """
    from safelight.config import UserError

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename!s:.400}: {error.strerror}"
    if isinstance(error, MemoryError) or any(words in str(error) for words in EXHAUSTED):
        return (
            "the memory is exhausted; lower train.batch_size, raise train.accumulate, or make network smaller"
        )
    if not isinstance(error, WRONG_USE):
        return None
    message = " ".join(error.format_message().rstrip(".").split())
    context = getattr(error, "ctx", None)
    return f"{message} (see {context.command_path} --help)" if message and context else message
