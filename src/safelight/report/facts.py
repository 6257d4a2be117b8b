"""A run as reports, comparisons and the log see it, read from its directory once.

A damaged run never stops the reading: what cannot be read is named in `problems`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from safelight.config import UserError, flatten, override
from safelight.evaluate.evaluation import Evaluation
from safelight.report.records import MetricsRecord, record_of
from safelight.store import checkpoint_files, listing, results
from safelight.store.directory import RunDirectory, require_plain
from safelight.store.info import Parent
from safelight.store.journal import Intervention, Journal, JournalEntry, changes_at
from safelight.store.listing import Status, summary


@dataclass(frozen=True)
class Measured:
    """One metric of one stored evaluation, with what it needs to be trusted."""

    name: str  # "FD-classifier", "KID-classifier", "coverage"
    value: float
    step: int  # of the checkpoint
    basis: Mapping[str, str]  # what it was measured with: extractor and hash, n, reference, sampler, ...
    floor: float = math.nan  # the same metric, real images against real images
    spread: float = math.nan  # standard deviation over subsets, of a metric that has one
    provenance: str = ""  # the basis, and the images of the floor, in one line


@dataclass(frozen=True)
class Sheet:
    """A saved sheet of fixed samples."""

    step: int
    path: Path


@dataclass(frozen=True)
class SessionFacts:
    """One start of the trainer, until it ended."""

    started: str  # date and time, as it should be printed
    first_step: int
    last_step: int  # exclusive: steps first_step .. last_step - 1 were done
    seconds: float  # wall time
    training_seconds: float  # of which inside steps
    ended: str = ""  # "finished", "stopped", "killed"
    environment: Mapping[str, Any] = field(default_factory=dict)  # host, torch, device, precision, ...


@dataclass(frozen=True)
class RunFacts:
    """One run, as far as it can be read."""

    name: str
    path: Path
    status: Status
    id: str = ""
    recipe: str = ""  # the name of the one it was made from
    created: str = ""  # ISO 8601, UTC
    step: int = 0  # steps behind it
    steps: int = 0  # planned
    tree: Mapping[str, Any] = field(default_factory=dict)  # the resolved recipe, before interventions
    interventions: tuple[Intervention, ...] = ()
    journal: Journal = field(default_factory=lambda: Journal(Path(), ()))
    data: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, Any] = field(default_factory=dict)
    sessions: tuple[SessionFacts, ...] = ()
    parent: Parent | None = None
    parent_name: str = ""  # where it is beside the run
    verdicts: tuple[str, ...] = ()  # of the monitors, in force at the end
    record: MetricsRecord = field(default_factory=lambda: record_of(()))
    sheets: tuple[Sheet, ...] = ()
    panels: tuple[Sheet, ...] = ()  # the family's figures: STEP-NAME.png
    measured: tuple[Measured, ...] = ()
    best: tuple[int, str] | None = None  # step that samples were best at, and by what
    problems: tuple[str, ...] = ()  # what could not be read, and why
    readable: bool = True  # False: nothing but its name is known

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Dotted keys of the resolved recipe, before interventions."""
        return flatten(self.tree)

    def settings_at(self, step: int) -> dict[str, Any]:
        """Dotted keys and values in force at a step: the recipe and the interventions so far."""
        return flatten(override(self.tree, changes_at(self.interventions, step)))

    @property
    def batch_size(self) -> int:
        return int(self.settings.get("train.batch_size", 1))

    @property
    def dataset_size(self) -> int:
        """Images in the training set; 0 where that is not recorded."""
        return int(self.data.get("train", 0))

    @property
    def images_seen(self) -> int:
        """Training images shown to the networks, repetitions counted."""
        return self.step * self.batch_size

    @property
    def seconds(self) -> float:
        """Wall time of all sessions."""
        return sum(session.seconds for session in self.sessions)

    @property
    def seconds_per_kimg(self) -> float | None:
        """Training seconds per thousand images, repeated steps included; None before the first step."""
        steps = sum(session.last_step - session.first_step for session in self.sessions)
        training = sum(session.training_seconds for session in self.sessions)
        return training / (steps * self.batch_size) * 1000 if steps > 0 else None

    @property
    def fate(self) -> str:
        """What is to be known before trusting its end; "" where it finished and was finite throughout."""
        record, words = self.record, []
        if self.status == "forked":
            words.append(f"not trained since it was forked, at step {self.step:,} of {self.steps:,}")
        elif self.status != "finished":
            words.append(f"{self.status} after step {self.step:,} of {self.steps:,}")
        if not len(record.steps) or (self.status != "forked" and record.inherited == len(record.steps)):
            words.append("it recorded no step")
        if record.sound < len(record.steps):
            first = int(record.steps[record.sound])
            words.append(f"its loss is not finite from step {first:,} on")
        if record.skipped:
            words.append(f"{len(record.skipped):,} steps were skipped: a gradient was not finite")
        return "; ".join(words)


def gather(directory: RunDirectory) -> RunFacts:
    """Everything that pages say of a run. Never raises for a damaged one, but names what is damaged."""
    try:
        return _gather(directory)
    except UserError as error:
        problem = str(error)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        problem = f"{directory.path}: was written by another version of safelight ({error!r})"
    return RunFacts(directory.name, directory.path, "damaged", problems=(problem,), readable=False)


def _gather(directory: RunDirectory) -> RunFacts:
    short = summary(directory)
    if short.problem:
        raise UserError(short.problem)
    require_plain(directory.path)
    info, journal = directory.info(), directory.journal()
    problems: list[str] = []
    interventions: Sequence[Intervention] = ()
    best = None
    try:
        interventions = journal.interventions
    except UserError as error:
        problems.append(str(error))
    try:
        best = checkpoint_files.read_pins(directory.path).get(checkpoint_files.BEST)
    except UserError as error:
        problems.append(str(error))
    measured, unread = read_measured(directory.path)
    lines, parent = listing.recorded(directory), listing.parent_of(directory)
    begun = info.parent.step if info.parent else 0
    record = record_of(lines, sum(int(line["step"]) < begun for line in lines))
    return RunFacts(
        name=directory.name,
        path=directory.path,
        status=short.status,
        id=info.id,
        recipe=info.recipe,
        created=info.created,
        step=short.step,
        steps=int(short.steps),
        tree=directory.recipe_tree(),
        interventions=tuple(interventions),
        journal=journal,
        data=info.facts.data,
        code=info.facts.code,
        sessions=_sessions(journal, record, short.step),
        parent=info.parent,
        parent_name=parent.name if parent else "",
        verdicts=tuple(listing.verdicts(directory)),
        record=record,
        sheets=_numbered(directory.sheets, r"[0-9]{1,15}"),
        panels=_numbered(directory.panels, r"[0-9]{1,15}-.+"),
        measured=measured,
        best=(best.step, best.why) if best else None,
        problems=(*problems, *unread),
    )


def read_measured(run: Path) -> tuple[tuple[Measured, ...], tuple[str, ...]]:
    """The stored evaluations of a run, by step, and a line for each that cannot be read."""
    stored, problems = results.read_all(run)
    measured: list[Measured] = []
    for fields in stored:
        try:
            made = Evaluation.from_dict(fields)
            for name, result in made.results.items():
                floor, spread = (
                    math.nan if value is None else value for value in (result.floor, result.spread)
                )
                words = made.description
                measured.append(Measured(name, result.value, made.step, made.basis, floor, spread, words))
        except (AttributeError, LookupError, TypeError, UserError) as error:
            problems.append(
                f"{run / results.FOLDER}: an evaluation was written by another version ({error!r}); "
                "evaluate again"
            )
    return tuple(sorted(measured, key=lambda metric: metric.step)), tuple(problems)


def _sessions(journal: Journal, record: MetricsRecord, done: int) -> tuple[SessionFacts, ...]:
    """Every start of the trainer. One without an end was killed; its time is that of its last entry."""
    starts = journal.of_kind("session")
    firsts = [int(start.fields["step"]) for start in starts]
    sessions = []
    for start, first, following in zip(starts, firsts, [*firsts, done][1:], strict=True):
        entries = [entry for entry in journal.entries if entry.session == start.session]
        end = next(
            (entry for entry in entries[::-1] if entry.kind == "end"), None
        )  # what comes later: a fork
        last = int(end.fields["step"]) if end else max(first, following)
        training = float(record.seconds[(record.steps > first) & (record.steps <= last)].sum())
        environment = {"host": start.fields.get("host", ""), **start.fields.get("environment", {})}
        wall = max(_seconds(start, end or entries[-1]), training)
        ended = str(end.fields["status"]) if end else "killed"
        sessions.append(SessionFacts(date(start.time), first, last, wall, training, ended, environment))
    return tuple(sessions)


def _seconds(start: JournalEntry, end: JournalEntry) -> float:
    return (datetime.fromisoformat(end.time) - datetime.fromisoformat(start.time)).total_seconds()


def date(time: str) -> str:
    """A time of the journal, as it should be printed."""
    return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M %Z").strip()


def _numbered(folder: Path, pattern: str) -> tuple[Sheet, ...]:
    """The pictures of a folder that are named after their step, in their order."""
    paths = sorted(path for path in folder.glob("*.png") if re.fullmatch(pattern, path.stem))
    return tuple(Sheet(int(path.stem.partition("-")[0]), path) for path in paths)
