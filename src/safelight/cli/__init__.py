"""The command line. One file a command; each imports what it needs when it runs: --help is instant."""

from __future__ import annotations

import sys

import typer

from safelight.cli import (
    compare,
    data,
    evaluate,
    export_metrics,
    fork,
    log,
    new,
    recipes,
    replay,
    report,
    resume,
    runs,
    sample,
    show,
    sweep,
    train,
    tree,
    tune,
)

app = typer.Typer(
    help="Train image generators, and watch them develop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    train, resume, tune, fork, replay, runs, tree, show,
    sample, evaluate, report, compare, sweep, log, export_metrics, data, new, recipes,
)  # fmt: skip
for command in COMMANDS:
    command.add_to(app)


def main() -> None:
    """Run the command line. A user's mistake is one line on stderr and exit code 2."""
    try:
        app()
    except Exception as error:
        from safelight.config import UserError

        if not isinstance(error, UserError):
            raise
        print(f"safelight: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
