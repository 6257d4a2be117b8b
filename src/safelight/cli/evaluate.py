"""safelight evaluate: how good the samples of a run are, and how good real images would be in their place."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli.options import (
    ChangesArgument,
    EmaLengthOption,
    JsonOption,
    RunArgument,
    RunsOption,
    StepOption,
    examples,
    print_json,
    sample_changes,
    step_of,
)
from safelight.terminal import console, say, table

if TYPE_CHECKING:
    from safelight.evaluate.evaluation import Evaluation


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("safelight evaluate digits-1 --n 1000"))(evaluate)


def evaluate(
    run: RunArgument,
    changes: ChangesArgument = None,
    step: StepOption = None,
    n: Annotated[int, typer.Option("--n", min=20, help="How many samples.")] = 5000,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="NAME|PATH",
            help="classifier, segmenter, efficientnet, random, inception, or a TorchScript file; "
            "else the classifier where the data has classes, the segmenter where it has masks, "
            "efficientnet otherwise, or random weights where that is not installed.",
        ),
    ] = None,
    reference: Annotated[
        int, typer.Option("--reference", min=20, help="Training images compared with, at most.")
    ] = 10_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the samples.")] = 0,
    ema_length: EmaLengthOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure samples of a run against its training images, and store the result with the run."""
    from safelight.cli.bar import bar
    from safelight.report.run_report import write_report
    from safelight.run import Run
    from safelight.store import results
    from safelight.store.directory import runs_directory

    how = sample_changes(changes)
    with bar() as (tell, progress):
        warn = partial(say, err=True)  # also where nobody watches
        opened = Run.open(run, runs_directory(runs), step_of(step), ema_length, tell=tell, warn=warn)
        measured = opened.evaluate(
            n, features, seed=seed, reference=reference, how=how, tell=tell, progress=progress
        )
    path = results.store(opened.directory.path, measured.name, measured.plain())
    if not opened.directory.is_locked():  # a run that trains writes its own at its end
        write_report(opened.directory)
    if as_json:
        print_json({"run": opened.name, "stored": str(path), **measured.plain()})
    else:
        print_evaluation(opened.name, measured)
        say(f"stored: {path}")


def print_evaluation(run: str, evaluation: Evaluation) -> None:
    """Each metric next to its floor, and everything the numbers rest on."""
    titles = ("metric", "value", "spread", "real against real")
    rows = [
        (name, *(_number(value) for value in (own.value, own.spread, own.floor)))
        for name, own in evaluation.results.items()
    ]
    say(f"{run} at step {evaluation.step:,}")
    console(soft_wrap=True).print(table(titles, rows, titles[1:]))
    for name, words in {**evaluation.basis, "floor": evaluation.floor}.items():
        say(f"{name + ':':<13}{words}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
