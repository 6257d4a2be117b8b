"""safelight tune, fork, rollback, replay."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import safelight as sl
from safelight.cli.options import (
    ChangesArgument,
    JsonOption,
    OnOption,
    PlacesArgument,
    RunArgument,
    RunsOption,
    ScheduleOption,
    ThreadsOption,
    changes_of,
    examples,
    print_json,
)
from safelight.cli.runs import print_run
from safelight.store.directory import find, runs_directory
from safelight.terminal import bar, messages, say

TrainOption = Annotated[bool, typer.Option(help="Train it now, or leave it for `safelight resume`.")]

app = typer.Typer()


@app.command(
    epilog=examples("safelight tune digits-1 optim.lr=1e-4", "safelight tune digits-1 watch.every=50")
)
def tune(
    run: RunArgument,
    changes: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE", help="Recipe keys to change, e.g. optim.lr=1e-4.")
    ],
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change settings of a run from its next step on.

    The journal records what changed, and when.
    """
    directory = find(run, runs_directory(runs))
    edit = sl.tune(run, changes_of(changes), runs=runs)
    running = directory.is_locked()
    if as_json:
        print_json({"run": directory.name, "edit": edit.id, "changes": edit.changes, "running": running})
    else:
        when = "at its next step" if running else "when it is resumed"
        say(f"{directory.name}: {', '.join(changes)}, {when}")


@app.command(
    epilog=examples(
        "safelight fork digits-1 --step 500 optim.lr=1e-4 --name calmer",
        "safelight fork digits-1 train.steps=4000 --schedule restart",
        "safelight fork digits-1 --step 0 --without label=7 --name without7",
    )
)
def fork(
    run: RunArgument,
    step: Annotated[
        int | None, typer.Option("--step", min=0, help="Step to fork from; 0 = the start. Default: the last.")
    ] = None,
    changes: ChangesArgument = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="ITEM|CLASS|LIST.txt",
            help="Image, class (label=7) or list of them that does not count in the fork. Default: none.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the new run. Default: RECIPE-1, -2, ...")
    ] = None,
    train: TrainOption = True,
    schedule: ScheduleOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a new run from any step of another, with recipe keys changed.

    With --step 0 --without it is the same training without an image: every other draw stays.
    """
    made = sl.fork(run, step, changes_of(changes), without=without or (), name=name, train=train,
                   schedule=schedule, runs=runs)  # fmt: skip
    print_run(made.directory, as_json)


@app.command(epilog=examples("safelight rollback digits-1 --step 400 optim.lr=1e-4"))
def rollback(
    run: RunArgument,
    step: Annotated[int, typer.Option("--step", min=1, help="Step to go back to.")],
    changes: ChangesArgument = None,
    train: TrainOption = True,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Continue a run from an earlier step, with recipe keys changed.

    Nothing is deleted: the run as it was is kept as RUN-before-STEP.
    """
    print_run(sl.rollback(run, step, changes_of(changes), train=train, runs=runs).directory, as_json)


@app.command(
    epilog=examples(
        "safelight replay digits-1 --step 333", "safelight replay digits-1 --step 2000 --on local:4"
    )
)
def replay(
    run: RunArgument,
    step: Annotated[int, typer.Option("--step", min=0, help="Step to recompute.")],
    places: PlacesArgument = None,
    begin: Annotated[
        int | None,
        typer.Option(
            "--from",
            min=0,
            help="First step to recompute, whatever checkpoints follow. Default: that of the newest "
            "checkpoint, or the first step with --on.",
        ),
    ] = None,
    on: OnOption = None,
    threads: ThreadsOption = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="FILE.safetensors",
            help="File for the averaged weights of the step. Default: none.",
        ),
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute a run up to a step, and check every step against its recorded fingerprint."""
    if places:
        sl.relocate(run, changes_of(places), runs=runs)
    with bar() as (_, progress):
        tell, _ = messages()
        verdict = sl.replay(
            run, step, begin=begin, on=on, export=export, runs=runs, tell=tell, progress=progress
        )
    if as_json:
        print_json({**asdict(verdict), "export": str(export) if export else None})
        return
    if verdict.to == verdict.start:
        say(f"{verdict.verdict}: step {verdict.to}, nothing recomputed")
    else:
        equal = f"{verdict.checked} steps recomputed from {verdict.start} and equal"
        say(f"{verdict.verdict}: step {verdict.to}, {equal}")
    if verdict.step is not None:
        first = "differs" if verdict.verdict == "diverged" else "is not proved"
        say(f"the first that {first}: step {verdict.step}")
    for reason in verdict.why:
        say(f"  {reason}")


@app.command(
    epilog=examples(
        'safelight bisect digits-1 --verdict "mode collapse"',
        'safelight bisect digits-1 --verdict "held_out/mean > 0.3" --over items',
    )
)
def bisect(
    run: RunArgument,
    verdict: Annotated[
        str,
        typer.Option(
            "--verdict",
            help='What is wrong: a verdict such as "mode collapse", a recorded number such as '
            '"held_out/mean > 0.3", or FILE.py:FUNCTION of a run.',
        ),
    ],
    over: Annotated[
        str, typer.Option("--over", metavar="WHAT", help="Possible causes: edits, components or items.")
    ] = "edits",
    step: Annotated[
        int, typer.Option("--step", min=0, help="Step that forks without components or items begin at.")
    ] = 0,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find which edit, loss component or image made a run what it is, by forks without it.

    Of N possible causes the only one is found by at most log2 N + 2 forks, rounded up. They stay as runs;
    rerun the command to continue.
    """
    made = sl.bisect(run, verdict, over=over, step=step, runs=runs, tell=lambda line: say(line, err=as_json))
    if as_json:
        print_json(asdict(made))
    elif not made.cause:
        say(f"no cause among {made.candidates:,} {over}: it is there without all of them, too")
    else:
        say(*(f"cause: {candidate.text}" for candidate in made.cause), f"forks: {len(made.forks)}")
