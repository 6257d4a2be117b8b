"""Options and arguments that several commands share, and how they print."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

import safelight as sl
from safelight.config import UserError, parse_override
from safelight.files import to_json
from safelight.terminal import say

INTERRUPTED = 130  # what shells call the exit code of Ctrl-C
RunsOption = Annotated[
    Path | None,
    typer.Option("--runs", metavar="DIR", help="Folder of runs. Default: $SAFELIGHT_RUNS, or ./runs."),
]
WebOption = Annotated[
    bool, typer.Option("--web", help="Serve the page of the runs meanwhile, and print its address.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, or its folder.")]
RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or a .toml file.")
]
MinutesOption = Annotated[
    float | None,
    typer.Option(
        "--minutes",
        min=0.2,
        help="Minutes to train for. Default: 5 for a folder, the recipe's steps for a recipe.",
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help="Device, e.g. cuda:0. Default: the recipe's.")
]


def _threads(text: str | None) -> str | None:
    """Set the threads of this process and its children. Before torch is imported, which reads it."""
    if text:
        if text != "auto" and not (text.isdecimal() and int(text)):
            raise UserError(f'--threads {text}: is no number of threads; write 1 or more, or "auto"')
        number = str(free_cores()) if text == "auto" else text
        os.environ |= {"OMP_NUM_THREADS": number, "SAFELIGHT_THREADS": number}
    return text


ThreadsOption = Annotated[
    str | None,
    typer.Option(
        "--threads",
        metavar="N|auto",
        callback=_threads,
        envvar="SAFELIGHT_THREADS",
        help="Threads on the CPU, on which the bits depend; auto = the cores that other programs leave free. "
        "Default: all cores.",
    ),
]
OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="WHERE",
        help="Where to work on several parts at once: local (a process for each core or card), local:4, ray, "
        "ray://HOST:10001 or slurm. Default: one after another, in this process.",
    ),
]
StepOption = Annotated[
    str | None,
    typer.Option("--step", metavar="STEP", help="Checkpoint step or name, e.g. best. Default: newest."),
]
AnyStepOption = Annotated[
    int | None, typer.Option("--step", min=0, help="Step of the weights. Default: newest checkpoint.")
]
EmaLengthOption = Annotated[
    float | None,
    typer.Option(
        "--ema-length", help="Relative length of the weight average, e.g. 0.08. Default: train.ema's average."
    ),
]
RawOption = Annotated[bool, typer.Option("--raw", help="Use the weights as trained. Default: their average.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Random seed for the samples.")]
ConditionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="NAME=VALUE",
        help="Condition of the samples: label=3, label=each, label=none, hair=0.5, mask=FILE.png, "
        'text="red apple". Default: conditions of held-out images.',
    ),
]
ChangesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Recipe keys to change, e.g. optim.lr=1e-4."),
]
SampleChangesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Sampling keys to change, e.g. sample.steps=20; data.path=NEW of moved data; train.device=cpu.",
    ),
]
PlacesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="data.path=NEW", help="Place of the run's data, if it was moved. Default: as recorded."
    ),
]


ForOption = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="TIME",
        help="Stop after 20min or 11h30m, with a checkpoint in time, to be resumed. Default: no limit.",
    ),
]
ScheduleOption = Annotated[
    str | None,
    typer.Option(
        "--schedule",
        metavar="constant|restart|extend",
        help="Learning rate of a run that is trained longer: stays as it is, begins again, or is that of the "
        "new length. Default: constant, if the schedule depends on the length.",
    ),
]


def free_cores() -> int:
    """Cores that this process may use, less the load of the last minute; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, cores - round(load))


def examples(*lines: str) -> str:
    """Command lines to begin with, as the foot of a command's help."""
    return "\n\n".join(("For example:", *lines))


def print_json(value: Any) -> None:
    """Print a value as JSON; a number that is not finite as null, which JSON has instead."""
    say(*to_json(value, indent=2).replace("\x7f", r"\u007f").split("\n"))


def seconds_of(text: str | None, option: str = "--for") -> float:
    """Seconds of "11h30m", "20min" or "90s"; infinite for None. Raises UserError."""
    if text is None:
        return math.inf
    units = {"d": 86400, "h": 3600, "m": 60, "min": 60, "s": 1}
    parts = re.findall(r"(\d+(?:\.\d+)?) *(d|h|min|m|s)", text)
    if not parts or "".join(map("".join, parts)) != text.replace(" ", ""):
        raise UserError(f"{option} {text}: is no time; write it as 20min, 11h30m or 90s")
    return sum(float(number) * units[unit] for number, unit in parts)


def step_of(text: str | None) -> int | str | None:
    """A checkpoint's step, or the name of a pinned one."""
    return int(text) if text is not None and text.isdigit() else text


def changes_of(texts: list[str] | None) -> dict[str, Any]:
    """Dotted keys and values of the command line's key=value arguments. Raises UserError."""
    return dict(parse_override(text) for text in texts or [])


def sample_changes(texts: list[str] | None, run: str, runs: Path | None) -> dict[str, Any]:
    """`changes_of` where only keys of [sample] mean something, after recording where a run's data are.

    Raises UserError for another key.
    """
    changes = changes_of(texts)
    places = {name: changes.pop(name) for name in list(changes) if name.startswith("data.")}
    if device := changes.pop("train.device", ""):
        os.environ["SAFELIGHT_DEVICE"] = str(device)  # read by this process; nothing is recorded
    if wrong := [name for name in changes if not name.startswith("sample.")]:
        raise UserError(f"{wrong[0]}: only keys of [sample] can be changed here")
    if places:
        sl.relocate(run, places, runs=runs)
    return changes


def conditions_of(texts: list[str] | None) -> dict[str, str]:
    """Conditions by name, of NAME=VALUE."""
    return dict(text.partition("=")[::2] for text in texts or [])
