"""The command line: a module for each group of the help, imported when one of its commands is called.

What needs torch is reached through the lazy names of `safelight`, so that a command's --help does not wait.
"""

from __future__ import annotations

import io
import sys
import traceback
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from safelight.terminal import say

COMMANDS = {  # module: title in the help, and the first line of each command's docstring
    "train": ("Train", {
        "train": "Train a generator. Ctrl-C stops cleanly; `safelight resume` continues.",
        "resume": "Continue a run, bit-identical to an uninterrupted one, or train it longer.",
        "sweep": "Train every combination of values, then compare the runs.",
    }),
    "queue": ("Train", {"queue": "Queue runs for the cores or cards of this machine."}),
    "prepare": ("Prepare", {
        "recipes": "List the shipped recipes, with their size and expected time.",
        "new": "Write a recipe to edit.",
        "check": "Check a recipe, its data and its networks for silent faults.",
        "plan": "Estimate parameters, operations, memory, hours and disk of a training.",
        "explain": "Explain a finding, a verdict, a metric, an error or a key of a recipe.",
    }),
    "data": ("Prepare", {"data": "Inspect data, or pack it ahead of training."}),
    "steer": ("Change the course of a run", {
        "tune": "Change settings of a run from its next step on.",
        "fork": "Start a new run from any step of another, with recipe keys changed.",
        "rollback": "Continue a run from an earlier step, with recipe keys changed.",
        "bisect": "Find which edit, loss component or image made a run what it is, by forks without it.",
        "replay": "Recompute a run up to a step, and check every step against its recorded fingerprint.",
    }),
    "web": ("Look at runs", {
        "web": "Show runs in a browser: timelines, curves, side by side, models under sliders.",
    }),
    "runs": ("Look at runs", {
        "runs": "List runs, newest first.",
        "show": "Show a run: status, losses, checkpoint digest, report.",
        "report": "Write report.md and report.html of a run.",
        "tree": "Draw the lineage of the runs: forks below the run they came from.",
        "disk": "Show disk use by kind, and why each checkpoint is kept.",
        "pin": "Keep a checkpoint whatever the budget, under a name.",
        "prune": "Free disk space: thin older checkpoints evenly, and delete damaged ones.",
    }),
    "samples": ("Look at samples", {
        "sample": "Generate samples from a run.",
        "specimens": "Draw a sheet of named samples, keep those you like, or list the kept ones.",
    }),
    "films": ("Look at samples", {
        "film": "Film samples through training. Rerun the command to continue an interrupted film.",
        "walk": "Film a walk from sample to sample, on the sphere of latents.",
    }),
    "latents": ("Look at samples", {
        "traverse": "Draw a grid of latents, moved along conditions, components or directions.",
        "search": "Search for latents that score best. The run is not changed; rerun the command to resume.",
        "project": "Find the latent whose image is closest to a given image, and keep it as a specimen.",
    }),
    "measure": ("Measure and compare", {
        "evaluate": "Measure samples against the training images, and store the result with the run.",
        "compare": "Compare runs: settings, losses, metrics, cost, and samples from the same noise.",
        "log": "Write log.md and log.html: what each run changed and how it ended, newest first.",
    }),
    "causes": ("Find causes", {
        "influence": "Rank the training images by how far they made a sample.",
        "originals": "Find the training images that samples are nearest to, and the rate of copies.",
    }),
    "share": ("Hand over", {
        "share":
            "Write a run as one file: recipe, journal, fingerprints and sheets; under 1 MB without weights.",
        "open": "Show a run that somebody shared, check it, and repeat any of its steps.",
        "push": "Put a run on the Hugging Face Hub, with a card made from it.",
        "pull": "Make a run of one on the Hugging Face Hub.",
        "cite":
            "Write the citation of a run, its data as Croissant, or the packages that it ran with.",
    }),
    "export": ("Hand over", {
        "export":
            "Export the averaged weights for diffusers, as safetensors with a loader, or as checked ONNX.",
        "export-metrics":
            "Write the metrics of every step as .csv, as .parquet, or as TensorBoard event files.",
    }),
}  # fmt: skip
OLD_SPELLINGS = {  # by command: options of version 0.1.0 and what they are now; "" for a plain argument
    "fork": {"--at": "--step"},
    "rollback": {"--to": "--step"},
    "replay": {"--to": "--step"},
    "film": {"--set": "", "--workers": "--on"},
    "walk": {"--set": "", "--workers": "--on"},
}
EXHAUSTED = ("can't allocate memory", "not enough memory", "out of memory")  # how torch says it
WRONG_USE: Any = typer.BadParameter.__mro__[2]  # of an unknown option, a missing argument; not exported


def load(name: str) -> Any:
    """The command of a name, its module imported."""
    module = next(module for module, (_, commands) in COMMANDS.items() if name in commands)
    return typer.main.get_group(import_module(f"safelight.cli.{module}").app).commands[name]


def renamed(name: str, arguments: list[str]) -> list[str]:
    """The arguments of a command, with old spellings of its options replaced."""
    spellings = OLD_SPELLINGS.get(name, {})
    result: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option not in spellings:
            result.append(argument)
        elif new := spellings[option]:
            result.append(f"{new}{equals}{value}")
        elif equals:
            result.append(value)
    return result


class LazyGroup(TyperGroup):
    """The commands by name and summary; the one that is called is imported then."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for title, commands in COMMANDS.values():
            for name, summary in commands.items():
                self.add_command(TyperCommand(name, help=summary, rich_help_panel=title))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The real command in place of its summary."""
        name, _, rest = super().resolve_command(ctx, args)
        return (name, load(name), renamed(name, rest)) if name else (name, None, rest)


def _version(stated: bool) -> None:
    if stated:
        from safelight import __version__

        say(f"safelight {__version__}")
        raise typer.Exit


def subcommands(command: Any) -> dict[str, Any]:
    """Those of a group, such as `safelight data`."""
    return getattr(command, "commands", {})


def _help_all(stated: bool) -> None:
    """The help of every command, for a pager."""
    if stated:
        for name in (name for _, names in COMMANDS.values() for name in names):
            command = load(name)
            parts = {name: command, **{f"{name} {word}": part for word, part in subcommands(command).items()}}
            for path, part in parts.items():
                part.get_help(part.make_context(f"safelight {path}", [], resilient_parsing=True))
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
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
    help_all: Annotated[
        bool,
        typer.Option("--help-all", is_eager=True, callback=_help_all, help="Show the help of every command."),
    ] = False,
) -> None:
    """Train image generators, and watch them develop."""


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
            if sys.stderr.isatty():  # a log has one line
                from safelight.explain import of_error
                from safelight.terminal import console

                console(err=True).print(f"safelight explain {of_error(error)}", style="dim")
        sys.exit(2)


def mistake(error: Exception) -> str | None:
    """What the user got wrong, in one line; None where it is a fault of safelight.

    The line is empty where a command without arguments has shown its help.
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
    if not message:
        return message
    # an option without its value has no context
    named = next((word for word in sys.argv[1:] if any(word in group for _, group in COMMANDS.values())), "")
    path = context.command_path if context else f"safelight {named}".strip()
    return f"{message} (see {path} --help)"
