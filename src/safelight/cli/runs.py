"""safelight runs, show, report, tree, disk, prune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight import api
from safelight.cli.options import JsonOption, RunArgument, RunsOption, examples, print_json
from safelight.config import UserError
from safelight.report import plain as run_facts
from safelight.report.forecasts import forecasts_of
from safelight.store import listing, retention, size
from safelight.store.directory import find, runs_directory
from safelight.store.listing import Summary, list_runs
from safelight.terminal import console, plain, say, table

if TYPE_CHECKING:
    from rich.tree import Tree

    from safelight.report.plain import Branch
    from safelight.store.directory import RunDirectory
    from safelight.store.retention import Held

app = typer.Typer()


@app.command()
def runs(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """List runs, newest first."""
    folder = runs_directory(runs)
    summaries = list_runs(folder)
    if as_json:
        print_json([asdict(run) for run in summaries])
        return
    if not summaries:
        say(f"no runs in {folder}; `safelight train digits` makes one")
        return
    rows = [
        (run.name, run.status, f"{run.step:,} / {run.steps:,}", run.headline, run.recipe,
         run.created[:16].replace("T", " "))
        for run in summaries
        if not run.problem
    ]  # fmt: skip
    if rows:
        titles = ("run", "status", "step", "measured", "recipe", "created")
        console().print(table(titles, rows, right=("step",)))
    for run in summaries:
        if run.problem:
            say(f"{run.name}: damaged: {run.problem}")


@app.command()
def show(
    run: RunArgument,
    runs: RunsOption = None,
    journal: Annotated[
        bool,
        typer.Option("--journal", help="Print the journal instead: everything that happened to the run."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a run: status, losses, checkpoint digest, report."""
    directory = find(run, runs_directory(runs))
    if journal:
        print_journal(directory, as_json)
    else:
        print_run(directory, as_json)


def print_run(directory: RunDirectory, as_json: bool) -> None:
    """Print the facts of a run."""
    facts = run_facts.run(directory)
    ahead = forecasts_of(directory)
    facts["forecast"] = {name: asdict(made) for name, made in ahead.items()}
    if as_json:
        print_json(facts)
        return
    losses = ", ".join(f"{name} {value:.4g}" for name, value in facts["components"].items())
    progress = f"step {facts['step']:,} of {facts['steps']:,}"
    origin = ""
    if parent := facts["parent"]:
        origin = f"; forked from {parent['name'] or parent['run'][:8]} at step {parent['step']:,}"
    if facts["init"]:
        origin += f"; with the weights of {facts['init']}"
    saved = facts["checkpoints"][-1] if facts["checkpoints"] else 0
    say(f"{facts['name']}: {facts['status']}, {progress} ({facts['recipe']}{origin})")
    say(f"data:    {facts['data']['train']:,} images of {facts['data']['name']}, {facts['images']:,} seen")
    say(f"losses:  {losses or 'none yet'}")
    for name, made in ahead.items():
        say(f"forecast: {name} {made.text} at step {made.step:,}, by {made.runs} finished runs")
    weights = f"{facts['weights']} (checkpoint of step {saved:,})"
    say(f"weights: {weights if saved else 'no checkpoint yet'}")
    health = (f"{name}{' (since before the fork)' * (name in facts['inherited_verdicts'])}"
              for name in facts["verdicts"])  # fmt: skip
    say(f"health:  {'; '.join(health) or 'no warnings'}")
    for sentence in facts["remedies"]:
        say(f"remedy:  {sentence}")
    say(f"replay:  {facts['replay']}")
    say(f"report:  {facts['report'] or 'not written yet'}")


def print_journal(directory: RunDirectory, as_json: bool) -> None:
    """Print the journal of a run, oldest entry first."""
    entries = directory.journal().entries
    if as_json:
        print_json(run_facts.journal(directory))
        return
    for entry in entries:
        say(f"{entry.time[:19]} {entry.kind:12} {_words(entry.fields)}")


def _words(fields: Mapping[str, Any]) -> str:
    """The fields of an entry in a line; values that an intervention changed, each under its key."""
    shown = {key: value for key, value in fields.items() if key not in ("environment", "code", "id")}
    changes = shown.pop("changes", {})
    return " ".join(f"{key}={value}" for key, value in {**shown, **changes}.items())


@app.command(
    epilog=examples("safelight report digits-1", "safelight report digits-1 --with-model --out page.html")
)
def report(
    run: RunArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.html", help="Page to write, alone. Default: in the run."),
    ] = None,
    with_model: Annotated[
        bool, typer.Option("--with-model", help="Let the page draw new samples by itself, offline.")
    ] = False,
    moments: Annotated[
        int,
        typer.Option(
            "--moments",
            min=1,
            help="Moments of training whose weights the page has. Steps that are not on disk are recomputed "
            "where that takes less than five minutes.",
        ),
    ] = 20,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write report.md and report.html of a run.

    The page is one file under 5 MB that needs no network: timeline, sheets and curves to move through, and
    every number as a table. With a model it is larger, and draws.
    """
    path = api.samples.report(
        run, out, with_model=with_model, moments=moments, runs=runs, tell=lambda line: say(line, err=True)
    )
    if as_json:
        made = {"html": str(path), **({} if out else {"markdown": str(path.with_suffix(".md"))})}
        print_json({**made, "bytes": path.stat().st_size})
    else:
        say(f"report: {path}", *([f"size:   {size.words(path.stat().st_size)}"] if out else []))


@app.command()
def tree(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """Draw the lineage of the runs: forks below the run they came from."""
    folder = runs_directory(runs)
    lineage = run_facts.lineage(list_runs(folder))
    if as_json:
        print_json([branch.to_dict() for branch in lineage])
        return
    from rich.tree import Tree

    root = Tree(plain(folder))
    _grow(root, None, lineage)
    console().print(root)


def _grow(above: Tree, parent: str | None, lineage: Sequence[Branch]) -> None:
    for branch in lineage:
        if branch.parent == parent:
            _grow(above.add(plain(_line(branch.run, branch.problem))), branch.run.name, lineage)


def _line(run: Summary, problem: str) -> str:
    if problem:
        return f"{run.name}: damaged: {problem}"
    origin = f", from step {run.parent.step:,}" if run.parent else ""
    origin += f", with the weights of {run.init}" if run.init else ""
    origin += f" with {run.remedy}" if run.remedy else ""
    return f"{run.name}{origin}: {run.status}, step {run.step:,} of {run.steps:,}"


@app.command()
def disk(run: RunArgument, runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """Show disk use by kind, and why each checkpoint is kept."""
    directory = find(run, runs_directory(runs))
    section = retention.section_of(directory)
    kinds, held = listing.by_kind(directory.path), retention.held(directory, section)
    bound = retention.bound_of(directory)
    if as_json:
        print_json(run_facts.disk(directory))
        return
    say(f"{directory.name}: {size.words(sum(kinds.values()))}")
    for kind, taken in kinds.items():
        say(f"  {kind:20} {size.words(taken):>8}")
    say(f"checkpoints, with a budget of {size.words(section.budget)}:")
    _print_checkpoints(held)
    say(f"replay: {bound.text}")
    if freed := sum(checkpoint.bytes for checkpoint in held if checkpoint.surplus):
        say(f"over the budget by {size.words(freed)}; free it with: safelight prune {directory.name}")


@app.command(epilog=examples("safelight pin digits-1 --step 500 --name calm"))
def pin(
    run: RunArgument,
    step: Annotated[int, typer.Option("--step", min=1, help="Step of the checkpoint.")],
    name: Annotated[
        str, typer.Option("--name", help="Name to give it; a pin of that name moves here. Usable as --step.")
    ],
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a checkpoint whatever the budget, under a name."""
    directory = find(run, runs_directory(runs), write=True)
    retention.pin(directory, name, step)
    if as_json:
        print_json({"run": directory.name, "name": name, "step": step})
    else:
        say(f"{directory.name}: step {step:,} is kept as {name}")


@app.command(epilog=examples("safelight prune digits-1 --budget 200MB"))
def prune(
    run: RunArgument,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="SIZE",
            help="Disk space for checkpoints, e.g. 1GB. Default: checkpoint.budget of the recipe.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be freed; delete nothing.")
    ] = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Free disk space: thin older checkpoints evenly, and delete damaged ones.

    The newest, pinned and best checkpoints stay, those where a run was forked, and every frame of the tape.
    """
    directory = find(run, runs_directory(runs))
    section = retention.section_of(directory)
    if budget is not None:
        section = section.model_copy(update={"budget": _size(budget)})
    freed = retention.plan(directory, section) if dry_run else retention.free(directory, section)
    total = sum(checkpoint.bytes for checkpoint in freed.checkpoints) + freed.damaged
    if as_json:
        steps = [checkpoint.step for checkpoint in freed.checkpoints]
        print_json({"run": directory.name, "bytes": total, "steps": steps, "damaged": freed.damaged,
                    "dry_run": dry_run, "longest_replay": freed.bound.steps})  # fmt: skip
        return
    _print_checkpoints(freed.checkpoints)
    if freed.damaged:
        say(f"  damaged ones    {size.words(freed.damaged):>8}")
    say(f"{directory.name}: {size.words(total)} {'would be freed' if dry_run else 'freed'}")
    if freed.left > section.budget:
        say(f"  {size.words(freed.left)} stay; safelight disk {directory.name} shows why")
    say(f"replay: {freed.bound.text}")


def _print_checkpoints(held: Sequence[Held]) -> None:
    for checkpoint in held:
        why = ", ".join(checkpoint.why)
        say(f"  step {checkpoint.step:>9,}  {size.words(checkpoint.bytes):>8}  {why}")


def _size(text: str) -> int:
    try:
        return int(size.parse(text))
    except ValueError as error:
        raise UserError(f"--budget: {error}") from error
