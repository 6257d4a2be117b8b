"""What --json and the page say of runs, as plain values; read from their folders, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from safelight.monitor import trial
from safelight.store import checkpoint_files, listing, retention
from safelight.store.directory import RunDirectory
from safelight.store.listing import Summary

CYCLE = "its run.json names the run itself as its ancestor"


def run(directory: RunDirectory, seconds: Mapping[int, float] | None = None) -> dict[str, Any]:
    """Facts of a run. seconds: that each recorded step took, where they are known already.

    `step`, `images` and `components` are those of the newest recorded step, `weights` are of the newest
    checkpoint, the last of `checkpoints`. A fork that has not trained has its parent's losses.
    """
    info = directory.info()
    row = next(iter(listing.last_rows(directory, 1)), None)
    summary, parent = listing.summary(directory), listing.parent_of(directory)
    steps = checkpoint_files.list_steps(directory.path)
    saved = checkpoint_files.read(checkpoint_files.directory(directory.path, steps[-1])) if steps else None
    bound = retention.bound_of(directory, seconds=seconds)
    report = directory.path / "report.html"
    journal, verdicts = directory.journal(), listing.verdicts(directory)
    began = {entry.fields["name"] for entry in journal.of_kind("verdict")}
    images = row.images if row else 0
    if summary.step and row is None:
        images = summary.step * int(directory.recipe_tree()["train"]["batch_size"])
    return {
        "name": directory.name,
        "path": str(directory.path),
        "id": info.id,
        "recipe": info.recipe,
        "status": summary.status,
        "step": summary.step,
        "steps": summary.steps,
        "weights": saved.digest if saved else "",
        "fingerprint": row.fingerprint if row else "",
        "images": images,
        "components": dict(row.components) if row else {},
        "lr": dict(row.lr) if row else {},
        "data": info.facts.data,
        "environment": dict(info.facts.environment),
        "execution": dict(info.facts.execution),
        "parent": asdict(info.parent) | {"name": parent.name if parent else ""} if info.parent else None,
        "init": summary.init,
        "verdicts": verdicts,
        "inherited_verdicts": [name for name in verdicts if name not in began],
        "remedies": [trial.describe(entry.fields) for entry in journal.of_kind("remedy")],
        "checkpoints": steps,
        "longest_replay": asdict(bound),
        "replay": bound.text,
        "report": str(report) if report.exists() else "",
    }


def journal(directory: RunDirectory) -> list[dict[str, Any]]:
    """Everything that happened to a run, oldest first."""
    return [
        {"time": entry.time, "kind": entry.kind, "session": entry.session, **entry.fields}
        for entry in directory.journal().entries
    ]


def disk(directory: RunDirectory) -> dict[str, Any]:
    """Bytes by kind, and why each checkpoint is kept."""
    section = retention.section_of(directory)
    kinds = listing.by_kind(directory.path)
    return {
        "run": directory.name,
        "bytes": sum(kinds.values()),
        "kinds": kinds,
        "budget": section.budget,
        "checkpoints": [asdict(checkpoint) for checkpoint in retention.held(directory, section)],
        "longest_replay": asdict(retention.bound_of(directory)),
    }


@dataclass(frozen=True)
class Branch:
    """A run in the tree of runs. parent: the name of the run it came from, where that is here."""

    run: Summary
    parent: str | None
    problem: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        at = self.run.parent.step if self.run.parent else None
        return {"name": self.run.name, "parent": self.parent, "at": at, "init": self.run.init,
                "remedy": self.run.remedy, "problem": self.problem}  # fmt: skip


def lineage(runs: Sequence[Summary]) -> list[Branch]:
    """Runs with those they came from, the oldest first."""
    ordered = sorted(runs, key=lambda run: run.created)
    names = {run.id: run.name for run in ordered if not run.problem}
    parents = {run.name: names.get(run.parent.run) if run.parent else None for run in ordered}
    cyclic = {name for name in parents if _is_cyclic(name, parents)}
    return [
        Branch(
            run,
            None if run.name in cyclic else parents[run.name],
            run.problem or (CYCLE if run.name in cyclic else ""),
        )
        for run in ordered
    ]


def _is_cyclic(name: str, parents: Mapping[str, str | None]) -> bool:
    seen, parent = {name}, parents[name]
    while parent is not None and parent not in seen:
        seen.add(parent)
        parent = parents[parent]
    return parent == name
