"""safelight evaluate, compare, log."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import safelight as sl
from safelight import api
from safelight.cli.options import (
    EmaLengthOption,
    JsonOption,
    OnOption,
    RawOption,
    RunArgument,
    RunsOption,
    SampleChangesArgument,
    SeedOption,
    StepOption,
    ThreadsOption,
    examples,
    print_json,
    sample_changes,
    step_of,
)
from safelight.store.directory import runs_directory
from safelight.terminal import bar, console, say, table

if TYPE_CHECKING:
    from safelight.evaluate.evaluation import Evaluation

app = typer.Typer()


@app.command(
    epilog=examples("safelight evaluate digits-1 --n 1000", "safelight evaluate digits-1 --on local:4")
)
def evaluate(
    run: RunArgument,
    changes: SampleChangesArgument = None,
    step: StepOption = None,
    n: Annotated[int, typer.Option("-n", "--n", min=20, help="Number of samples.")] = 5000,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="NAME|PATH",
            help="Feature extractor: classifier, segmenter, efficientnet, random, inception, or a "
            "TorchScript file. Default: classifier for data with classes, segmenter for data with masks, "
            "efficientnet for other data, or random where efficientnet is not installed.",
        ),
    ] = None,
    reference: Annotated[
        int, typer.Option("--reference", min=20, help="Most training images to compare with.")
    ] = 10_000,
    seed: SeedOption = 0,
    on: OnOption = None,
    threads: ThreadsOption = None,
    ema_length: EmaLengthOption = None,
    raw: RawOption = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure samples against the training images, and store the result with the run."""
    settings = sample_changes(changes, run, runs)
    with bar() as (tell, progress):
        warn = partial(say, err=True)  # also in a log
        opened = sl.Run.open(
            run, runs_directory(runs), step_of(step), ema_length, raw=raw, tell=tell, warn=warn
        )
        measured = opened.evaluate(
            n, features, seed=seed, reference=reference, how=settings, on=on, tell=tell, progress=progress
        )
    path = api.samples.store_evaluation(opened, measured)
    if as_json:
        print_json({"run": opened.name, "stored": str(path), **measured.to_dict()})
    else:
        print_evaluation(opened.name, measured)
        say(f"stored: {path}")


def print_evaluation(run: str, evaluation: Evaluation) -> None:
    """Each metric next to its floor, and everything the numbers rest on."""
    titles = ("metric", "value", "spread", "real against real")
    rows = [
        (name, *(_number(value) for value in (result.value, result.spread, result.floor)))
        for name, result in evaluation.results.items()
    ]
    say(f"{run} at step {evaluation.step:,}")
    console(soft_wrap=True).print(table(titles, rows, titles[1:]))
    for name, words in {**evaluation.basis, "floor": evaluation.floor}.items():
        say(f"{name + ':':<13}{words}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


@app.command(epilog=examples("safelight compare digits-1 calmer"))
def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN", help="Two runs or more.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for the pages. Default: the folder of runs."),
    ] = None,
    on: OnOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare runs: settings, losses, metrics, cost, and samples from the same noise.

    Numbers that are not comparable are marked. Writes compare.md and compare.html.
    """
    written = sl.compare(*names, out=out, on=on, runs=runs)
    if as_json:
        print_json(written.to_dict())
    else:
        from safelight.render.page_terminal import print_page

        print_page(written.page, without=("Side by side",))
        say("", f"page: {written.html}")


@app.command()
def log(
    full: Annotated[
        int, typer.Option("-n", "--n", min=0, help="Number of newest runs shown in full detail.")
    ] = 20,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write log.md and log.html: what each run changed and how it ended, newest first."""
    entries, markdown, html = sl.log(full=full, runs=runs)
    if as_json:
        files = {"markdown": str(markdown), "html": str(html)} if entries else {}
        print_json({"runs": [entry.to_dict() for entry in entries], "files": files})
    elif not entries:
        say(f"no runs in {runs_directory(runs)}")
    else:
        say(f"{len(entries)} runs: {html}")
        for entry in entries:
            if not entry.run.readable:
                say(f"{entry.run.name}: damaged: {'; '.join(entry.run.problems)}")
