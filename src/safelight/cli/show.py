"""safelight show: one run, in a few lines or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli.options import JsonOption, RunArgument, RunsOption, print_json
from safelight.terminal import say

if TYPE_CHECKING:
    from safelight.store.run import RunDirectory


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
    from safelight.store.run import find, runs_directory

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
    say(f"{facts['name']}: {facts['status']}, {progress} ({facts['recipe']})")
    say(f"data:    {facts['data']['train']:,} images of {facts['data']['name']}, {facts['images']:,} seen")
    say(f"losses:  {losses or 'none yet'}")
    say(f"weights: {facts['weights'] or 'no checkpoint yet'}")
    say(f"health:  {'; '.join(facts['verdicts']) or 'no verdict against it'}")
    for sentence in facts["remedies"]:
        say(f"remedy:  {sentence}")
    say(f"replay:  {facts['replay']}")
    say(f"report:  {facts['report'] or 'not written yet'}")


def facts_of(directory: RunDirectory) -> dict[str, Any]:
    """What is told of a run. `step` and `weights` are those of its newest checkpoint."""
    from dataclasses import asdict

    from safelight.monitor.trial import told
    from safelight.store import keep, manifest, metrics, retention
    from safelight.store.lineage import verdicts
    from safelight.store.listing import summary

    info = directory.info()
    row = metrics.last_row(directory.path)
    steps = keep.list_steps(directory.path)
    saved = manifest.read(keep.directory(directory.path, steps[-1])) if steps else None
    bound = retention.bound_of(directory)
    report = directory.path / "report.html"
    return {
        "name": directory.name,
        "path": str(directory.path),
        "id": info.id,
        "recipe": info.recipe,
        "status": summary(directory).status,
        "step": saved.step if saved else 0,
        "steps": info.steps,
        "weights": saved.digest if saved else "",
        "fingerprint": row.fingerprint if row else "",
        "recorded_step": row.step + 1 if row else 0,
        "images": row.images if row else 0,
        "components": dict(row.components) if row else {},
        "lr": dict(row.lr) if row else {},
        "data": info.facts.data,
        "environment": dict(info.facts.environment),
        "execution": dict(info.facts.execution),
        "verdicts": verdicts(directory),
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
