"""safelight show: one run, in a few lines or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli.options import JsonOption, RunArgument, RunsOption, print_json
from safelight.terminal import say

if TYPE_CHECKING:
    from safelight.store.directory import RunDirectory


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(show)


def show(
    run: RunArgument,
    runs: RunsOption = None,
    journal: Annotated[bool, typer.Option("--journal", help="Everything that happened to it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell one run: where it stands, what it weighs, where its report lies."""
    from safelight.store.directory import find, runs_directory

    directory = find(run, runs_directory(runs))
    if journal:
        print_journal(directory, as_json)
    else:
        print_run(directory, as_json)


def print_run(directory: RunDirectory, as_json: bool) -> None:
    """Print the facts of a run."""
    facts = facts_of(directory)
    if as_json:
        print_json(facts)
        return
    losses = ", ".join(f"{name} {value:.4g}" for name, value in facts["components"].items())
    progress = f"step {facts['step']:,} of {facts['steps']:,}"
    origin = ""
    if parent := facts["parent"]:
        origin = f"; forked from {parent['name'] or parent['run'][:8]} at step {parent['step']:,}"
    saved = facts["checkpoints"][-1] if facts["checkpoints"] else 0
    say(f"{facts['name']}: {facts['status']}, {progress} ({facts['recipe']}{origin})")
    say(f"data:    {facts['data']['train']:,} images of {facts['data']['name']}, {facts['images']:,} seen")
    say(f"losses:  {losses or 'none yet'}")
    weights = f"{facts['weights']} (checkpoint of step {saved:,})"
    say(f"weights: {weights if saved else 'no checkpoint yet'}")
    health = (f"{name}{' (since before the fork)' * (name in facts['inherited_verdicts'])}"
              for name in facts["verdicts"])  # fmt: skip
    say(f"health:  {'; '.join(health) or 'no verdict against it'}")
    for sentence in facts["remedies"]:
        say(f"remedy:  {sentence}")
    say(f"replay:  {facts['replay']}")
    say(f"report:  {facts['report'] or 'not written yet'}")


def facts_of(directory: RunDirectory) -> dict[str, Any]:
    """Facts of a run.

    `step`, `images` and `components` are those of the newest recorded step, `weights` are of the newest
    checkpoint, the last of `checkpoints`. A fork that has not trained has its parent's losses.
    """
    from dataclasses import asdict

    from safelight.loading.recorded import recipe_of
    from safelight.monitor.trial import told
    from safelight.store import checkpoint_files, retention
    from safelight.store.listing import last_rows, parent_of, summary, verdicts

    info = directory.info()
    row = next(iter(last_rows(directory, 1)), None)
    short, parent = summary(directory), parent_of(directory)
    steps = checkpoint_files.list_steps(directory.path)
    saved = checkpoint_files.read(checkpoint_files.directory(directory.path, steps[-1])) if steps else None
    bound = retention.bound_of(directory)
    report = directory.path / "report.html"
    batch_size = recipe_of(directory).train.batch_size if short.step and row is None else 0
    began = {entry.fields["name"] for entry in directory.journal().of_kind("verdict")}
    return {
        "name": directory.name,
        "path": str(directory.path),
        "id": info.id,
        "recipe": info.recipe,
        "status": short.status,
        "step": short.step,
        "steps": info.steps,
        "weights": saved.digest if saved else "",
        "fingerprint": row.fingerprint if row else "",
        "images": row.images if row else short.step * batch_size,
        "components": dict(row.components) if row else {},
        "lr": dict(row.lr) if row else {},
        "data": info.facts.data,
        "environment": dict(info.facts.environment),
        "execution": dict(info.facts.execution),
        "parent": asdict(info.parent) | {"name": parent.name if parent else ""} if info.parent else None,
        "verdicts": verdicts(directory),
        "inherited_verdicts": [name for name in verdicts(directory) if name not in began],
        "remedies": [told(entry.fields) for entry in directory.journal().of_kind("remedy")],
        "checkpoints": steps,
        "longest_replay": asdict(bound),
        "replay": bound.told,
        "report": str(report) if report.exists() else "",
    }


def print_journal(directory: RunDirectory, as_json: bool) -> None:
    """Print the journal of a run, oldest entry first."""
    entries = directory.journal().entries
    if as_json:
        print_json(
            [{"time": one.time, "kind": one.kind, "session": one.session, **one.fields} for one in entries]
        )
        return
    for one in entries:
        say(f"{one.time[:19]} {one.kind:12} {_words(one.fields)}")


def _words(fields: Mapping[str, Any]) -> str:
    """The fields of an entry in a line; values that an intervention changed, each under its own key."""
    told = {key: value for key, value in fields.items() if key not in ("environment", "code", "id")}
    changes = told.pop("changes", {})
    return " ".join(f"{key}={value}" for key, value in {**told, **changes}.items())
