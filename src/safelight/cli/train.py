"""safelight train, resume, sweep."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import safelight as sl
from safelight.cli.options import (
    INTERRUPTED,
    ChangesArgument,
    DeviceOption,
    ForOption,
    JsonOption,
    MinutesOption,
    OnOption,
    RecipeArgument,
    RunArgument,
    RunsOption,
    ScheduleOption,
    ThreadsOption,
    WebOption,
    changes_of,
    examples,
    print_json,
    seconds_of,
)
from safelight.cli.runs import print_run
from safelight.cli.web import page_beside
from safelight.config import UserError
from safelight.terminal import bar, console, say

if TYPE_CHECKING:
    from safelight.report.comparison_page import Written
    from safelight.training.arms import Arm
    from safelight.training.grid import Combination
    from safelight.training.search import Searched
    from safelight.training.sweep import Sweep


app = typer.Typer()


@app.command(
    epilog=examples(
        "safelight train photos/ --minutes 20",
        "safelight train digits",
        "safelight train fashion optim.lr=5e-4 train.steps=4000 --name slower",
        "safelight train my.toml data.path=photos/ data.size=64",
    )
)
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="Name of a shipped recipe, a .toml file, or a folder or zip of pictures."
        ),
    ],
    changes: ChangesArgument = None,
    minutes: MinutesOption = None,
    device: DeviceOption = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the run. Default: RECIPE-1, -2, ...")
    ] = None,
    no_check: Annotated[
        bool, typer.Option("--no-check", envvar="SAFELIGHT_NO_CHECK", help="Skip the pre-flight checks.")
    ] = False,
    limit: ForOption = None,
    threads: ThreadsOption = None,
    web: WebOption = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a generator. Ctrl-C stops cleanly; `safelight resume` continues.

    For a folder of pictures a complete recipe is made first; `safelight new my.toml --from FOLDER` writes it.
    """
    settings = changes_of(changes) | ({"train.device": device} if device else {})
    seconds = seconds_of(limit)
    with page_beside(web and _first(), runs):
        directory = sl.train(
            recipe, settings, name=name, minutes=minutes, check=not no_check, seconds=seconds, runs=runs
        ).directory
    if _first():
        print_run(directory, as_json)


@app.command(
    epilog=examples(
        "safelight resume digits-1",
        "safelight resume digits-1 --steps 4000 --schedule extend",
        "safelight resume digits-1 --for 20min",
        "safelight resume digits-1 data.path=/mnt/photos",
    )
)
def resume(
    run: RunArgument,
    changes: ChangesArgument = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="New length of the run. Default: as planned.")
    ] = None,
    limit: ForOption = None,
    threads: ThreadsOption = None,
    schedule: ScheduleOption = None,
    web: WebOption = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Continue a run, bit-identical to an uninterrupted one, or train it longer.

    A finished run goes on with --steps, or with --for, which sets the length that fits the time.
    """
    keys = changes_of(changes) | ({"train.steps": steps} if steps else {})
    seconds = seconds_of(limit)
    with page_beside(web and _first(), runs, [Path(run).name]):
        directory = sl.resume(run, keys, schedule=schedule, seconds=seconds, runs=runs).directory
    if _first():
        print_run(directory, as_json)


@app.command(
    epilog=examples(
        "safelight sweep digits optim.lr=1e-3,2e-3 --seeds 2",
        "safelight sweep digits optim.lr=1e-3,2e-3 --seeds 2 --on local:2",
        "safelight sweep digits --search optim.lr=1e-3..1e-2,log --trials 12 --budget 2h",
    )
)
def sweep(
    recipe: RecipeArgument,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE,VALUE",
            help="Recipe keys and their values, e.g. optim.lr=1e-4,3e-4. A comma inside brackets or quotes "
            "is part of a value. With --search, ranges: optim.lr=1e-4..1e-2,log or network.width=32|64.",
        ),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Search the ranges for the best values through optuna, and train on what promises most.",
        ),
    ] = False,
    trials: Annotated[
        int,
        typer.Option(
            "--trials", min=1, help="Combinations that --search tries, those of earlier calls included."
        ),
    ] = 20,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", metavar="TIME", help="Time of --search, e.g. 2h, over all calls. Default: no limit."
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            metavar="COLUMN",
            help="Measured column that --search goes by. Default: held_out/mean.",
        ),
    ] = "",
    sampler: Annotated[
        str, typer.Option("--sampler", metavar="tpe|random", help="How --search chooses what to try next.")
    ] = "tpe",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed of --search.")] = 0,
    population: Annotated[
        int,
        typer.Option(
            "--population",
            min=0,
            metavar="N",
            help="Train N runs side by side with --search, the worst going on from the best with moved "
            "settings. Default: none.",
        ),
    ] = 0,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds", min=1, help="Seeds per combination; use 2 or more to separate differences from noise."
        ),
    ] = 1,
    on: OnOption = None,
    threads: ThreadsOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train every combination of values, then compare the runs.

    Ctrl-C stops cleanly; the same command continues.
    """
    words = words or []
    if search:
        stated: dict[str, Any] = {
            "--population": population or None,
            "--trials": trials,
            "--budget": budget,
            "--metric": metric or None,
            "--seed": seed or None,
            "--sampler": sampler if sampler != "tpe" else None,
            "--seeds": seeds if seeds > 1 else None,
            "--on": on,
            "--runs": runs,
        }
        how = {name.removeprefix("--"): value for name, value in stated.items()} | {
            "population": population,
            "budget": seconds_of(budget, "--budget"),
            "metric": metric,
            "sampler": sampler,
            "seed": seed,
            "seeds": seeds,
        }
        _search(recipe, words, _again(recipe, ["--search", *words], stated), as_json, how)
        return
    if ranges := [word for word in words if re.search(r"=[-+.\d]\S*\.\.[-+.\d]", word)]:
        raise UserError(f"{ranges[0]}: is a range; add --search, or write values such as optim.lr=1e-4,1e-2")
    call = partial(sl.sweep, recipe, words, seeds=seeds, on=on, runs=runs, tell=_reporter(as_json))
    if on:
        with bar() as (_, progress):
            done, written = call(progress=progress)
    else:
        done, written = call()  # each training shows its own progress
    if not _first():
        return
    if as_json:
        print_json(_to_dict(done, written))
    elif done.stopped:
        stated = {"--seeds": seeds if seeds > 1 else None, "--on": on, "--runs": runs}
        command = _again(recipe, words, stated)
        say(f"stopped; what is trained is kept. Continue with: {command}")
    elif done.hopeless:
        say("stopped: the first two failed for the same reason, so would the others")
    elif written:
        from safelight.render.page_terminal import print_page

        print_page(written.page, without=("Side by side", "Loss", "Held-out"))
        say("", f"page: {written.html}")
    if done.stopped or done.problems:
        raise typer.Exit(INTERRUPTED if done.stopped else 1)


def _again(recipe: str, words: Sequence[str], stated: Mapping[str, Any]) -> str:
    """The command that goes on with a sweep."""
    options = [str(part) for option in stated.items() if option[1] is not None for part in option]
    return shlex.join(["safelight", "sweep", recipe, *words, *options])


def _search(recipe: str, words: Sequence[str], command: str, as_json: bool, how: Mapping[str, Any]) -> None:
    """sweep --search."""
    out = console(as_json, quiet=as_json and not sys.stderr.isatty())

    def report(done: Searched, arm: Arm) -> None:
        ended = sum(other.fate != "begun" for other in done.arms)
        why = f" ({arm.problem})" if arm.problem else ""
        value = f", {done.space.metric} {arm.value:.4g} at step {arm.steps:,}" if arm.course else ""
        best = f"; best so far: {done.best[0].label}" if done.best else ""
        total = how["population"] or how["trials"]
        out.print(f"{ended}/{total}  {arm.label}: {arm.fate}{why}{value}{best}", soft_wrap=True)

    call = partial(sl.search_settings, recipe, words, tell=report, **how)
    if how["on"]:
        with bar() as (_, progress):
            done, written = call(progress=progress)
    else:
        done, written = call()  # each training shows its own progress
    if as_json:
        arms = [arm.to_dict() for arm in done.arms]
        facts = {
            "name": done.space.name,
            "metric": done.space.metric,
            "stopped": done.stopped,
            "over": done.over,
        }
        best = done.best[0].number if done.best else None
        print_json(
            {**facts, "arms": arms, "best": best, "comparison": written.to_dict() if written else None}
        )
    else:
        if done.best:
            best = done.best[0]
            say(f"best: {best.label}, {done.space.metric} {best.value:.4g}, run {best.cells[0].name}")
        if done.hopeless:
            say("stopped: the first two failed for the same reason, so would the others")
        elif done.stopped or done.over:
            why = "stopped" if done.stopped else "the budget is over"
            say(f"{why}; what is trained is kept. Continue with: {command}")
        if written:
            say(f"page: {written.html}")
    if done.stopped or done.hopeless:
        raise typer.Exit(INTERRUPTED if done.stopped else 1)


def _first() -> bool:
    """Whether this is the first of the processes that torchrun started; only that one prints."""
    return os.environ.get("RANK", "0") == "0"


def _reporter(as_json: bool) -> Callable[[Sweep, Combination], None]:
    """Prints a line as each combination ends; on stderr, and only to a terminal, with --json."""
    from safelight.render.wording import duration

    out = console(as_json, quiet=as_json and not sys.stderr.isatty())
    begun, trained = time.monotonic(), 0

    def report(done: Sweep, cell: Combination) -> None:
        nonlocal trained
        outcome = done.outcome(cell)
        if outcome == "not begun":
            return
        trained += outcome == "trained"
        place = [other.name for other in done.cells].index(cell.name) + 1
        words = f"{place}/{len(done.cells)}  {cell.label}: {outcome}"
        if outcome in ("trained", "resumed"):
            words += f" in {duration(done.seconds[cell.name])}"
        left = len(done.cells) - len(done.outcomes)
        if trained and left and not done.stopped:
            seconds = left * (time.monotonic() - begun) / trained
            words += f"; {left} to come, about {duration(seconds)}"
        if cell.name in done.problems:
            words += f" ({done.problems[cell.name]})"
        out.print(words, soft_wrap=True)

    return report


def _to_dict(done: Sweep, written: Written | None) -> dict[str, Any]:
    cells = [
        {
            "name": cell.name,
            "label": cell.label,
            "outcome": done.outcome(cell),
            "problem": done.problems.get(cell.name, ""),
        }
        for cell in done.cells
    ]
    return {"cells": cells, "stopped": done.stopped, "comparison": written.to_dict() if written else None}
