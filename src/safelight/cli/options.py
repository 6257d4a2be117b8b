"""Options and arguments that several commands share, and how they print."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.terminal import say

if TYPE_CHECKING:
    from safelight.recipe import Recipe

RunsOption = Annotated[
    Path | None,
    typer.Option("--runs", metavar="DIR", help="Where runs live; else $SAFELIGHT_RUNS, else ./runs."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, or its directory.")]
StepOption = Annotated[
    str | None,
    typer.Option("--step", metavar="STEP", help="Of a checkpoint, or its name (best); else the newest."),
]
EmaLengthOption = Annotated[
    float | None, typer.Option("--ema-length", help="Another average of the weights, such as 0.08.")
]
ChangesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Keys of the recipe to change, such as optim.lr=1e-4."),
]


def examples(*lines: str) -> str:
    """Command lines to begin with, as the foot of a command's help."""
    return "\n\n".join(("For example:", *lines))


def print_json(value: Any) -> None:
    """Print a value as JSON; a number that is not finite as null, which JSON has instead."""
    text = json.dumps(_finite(value), indent=2, default=str, allow_nan=False)  # in ASCII
    say(*text.replace("\x7f", r"\u007f").split("\n"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(own) for own in value]
    return None if isinstance(value, float) and value - value != 0 else value


def step_of(text: str | None) -> int | str | None:
    """A checkpoint's step, or the name of a pinned one."""
    return int(text) if text is not None and text.isdigit() else text


def changes_of(texts: list[str] | None) -> dict[str, Any]:
    """Dotted keys and values of the command line's key=value arguments. Raises UserError."""
    from safelight.config import parse_override

    return dict(parse_override(text) for text in texts or [])


def warn_of(recipe: Recipe, changes: Mapping[str, Any]) -> None:
    """Print a line for each change that is doubtful, given the recipe in force before it."""
    from safelight.config import flatten
    from safelight.loading.in_force import doubts

    for line in doubts(flatten(recipe.tree), changes):
        say(line, err=True)


def sample_changes(texts: list[str] | None) -> dict[str, Any]:
    """`changes_of` where only keys of [sample] mean something. Raises UserError for another."""
    from safelight.config import UserError

    changes = changes_of(texts)
    if wrong := [name for name in changes if not name.startswith("sample.")]:
        raise UserError(f"{wrong[0]}: only keys of [sample] can be changed here")
    return changes
