"""A run read from its directory for comparing: settings, interventions, record, sheets, measurements.

Nothing here fails because of one bad run: what cannot be read is said in `problems`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from safelight.config import UserError, flatten, override
from safelight.evaluate.evaluation import Evaluation
from safelight.render.figures import LearningRate
from safelight.render.sheet import Picture
from safelight.render.trends import History, Series, Steps
from safelight.store import listing, results
from safelight.store.directory import RunDirectory, require_plain
from safelight.store.info import Parent
from safelight.store.journal import Intervention, changes_at
from safelight.store.listing import Status, summary

# --- Metrics that `safelight evaluate` stored with a run, each with what it needs to be trusted ---


@dataclass(frozen=True)
class Measured:
    """One metric of one evaluation of a run."""

    name: str  # "FD-classifier", "KID-classifier", "coverage"
    value: float
    step: int  # of the checkpoint
    basis: Mapping[str, str]  # what it was measured with: extractor and hash, n, reference, sampler, ...
    floor: float = math.nan  # the same metric, real images against real images
    spread: float = math.nan  # standard deviation over subsets, of a metric that has one


def read_measured(run: Path) -> tuple[tuple[Measured, ...], tuple[str, ...]]:
    """The stored evaluations of a run, by step, and a line for each that cannot be read."""
    stored, problems = results.read_all(run)
    found: list[Measured] = []
    for plain in stored:
        try:
            own = Evaluation.of(plain)
        except (AttributeError, LookupError, TypeError) as error:
            problems.append(f"{run / results.FOLDER}: an evaluation is not of this version ({error!r})")
            continue
        found += [
            Measured(name, one.value, own.step, own.basis, _known(one.floor), _known(one.spread))
            for name, one in own.results.items()
        ]
    return tuple(sorted(found, key=lambda one: one.step)), tuple(problems)


def _known(value: float | None) -> float:
    return math.nan if value is None else value


Axis = Literal["images", "hours"]  # what runs can be given equally much of


@dataclass(frozen=True)
class RecordedColumn:
    """One recorded value, at the rows that have it: a lazy phase and held-out losses are not in every row."""

    rows: Steps  # (n,) ascending, into the rows of the record
    values: Series  # (n,) as recorded, not finite ones among them


@dataclass(frozen=True)
class MetricsRecord:
    """What a run recorded, a row a step."""

    steps: Steps  # (N,) steps behind the run
    images: Steps  # (N,) seen
    hours: Series  # (N,) spent inside steps: no sheets, no checkpoints, no evaluation
    columns: Mapping[str, RecordedColumn] = field(default_factory=dict)
    inherited: int = 0  # rows at the beginning that are of the run it was forked from; they took it no hours

    def along(self, axis: Axis) -> Series:
        """(N,) images seen, or hours."""
        return self.images.astype(np.float64) if axis == "images" else self.hours

    @property
    def sound(self) -> int:
        """Rows before the total stopped being finite for good; all of them in a sound run."""
        total = self.columns.get("total")
        if total is None:
            return 0
        finite = np.flatnonzero(np.isfinite(total.values))
        return int(total.rows[finite[-1]]) + 1 if len(finite) else 0

    def reach(self, axis: Axis) -> float:
        """How far the run came while its loss was finite; 0 where it recorded nothing."""
        return float(self.along(axis)[self.sound - 1]) if self.sound else 0.0

    @property
    def skipped(self) -> int:
        """Steps of which a gradient was not finite, so that the weights were left alone."""
        norms = [column for name, column in self.columns.items() if name.startswith("grad_norm/")]
        return len({row for one in norms for row in one.rows[~np.isfinite(one.values)].tolist()})

    @property
    def components(self) -> tuple[str, ...]:
        return self.named("raw/")

    def named(self, prefix: str) -> tuple[str, ...]:
        """Names of the columns with a prefix, without it."""
        return tuple(name.removeprefix(prefix) for name in self.columns if name.startswith(prefix))


@dataclass(frozen=True)
class Sheet:
    """A saved sheet of fixed samples."""

    step: int
    path: Path


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
    data: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, Any] = field(default_factory=dict)
    environments: tuple[Mapping[str, Any], ...] = ()  # of each session; host among them
    parent: Parent | None = None
    parent_name: str = ""  # where it is beside the run
    verdicts: tuple[str, ...] = ()  # of the monitors, in force at the end
    record: MetricsRecord = field(default_factory=lambda: record_of(()))
    sheets: tuple[Sheet, ...] = ()
    measured: tuple[Measured, ...] = ()
    problems: tuple[str, ...] = ()  # what could not be read, and why
    readable: bool = True  # False: nothing but its name is known

    @property
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
            words.append(f"{record.skipped:,} steps were skipped: a gradient was not finite")
        return "; ".join(words)


def gather(directory: RunDirectory) -> RunFacts:
    """Everything of a run that comparing needs. Never raises for a damaged run, but says so."""
    try:
        return _gather(directory)
    except UserError as error:
        problem = str(error)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        problem = f"{directory.path}: is not written as this version of safelight does it ({error!r})"
    return RunFacts(directory.name, directory.path, "damaged", problems=(problem,), readable=False)


def _gather(directory: RunDirectory) -> RunFacts:
    short = summary(directory)
    if short.problem:
        raise UserError(short.problem)
    require_plain(directory.path)
    info, journal = directory.info(), directory.journal()
    problems: list[str] = []
    interventions: Sequence[Intervention] = ()
    try:
        interventions = journal.interventions
    except UserError as error:
        problems.append(str(error))
    measured, unread = read_measured(directory.path)
    sessions = journal.of_kind("session")
    lines, parent = listing.recorded(directory), listing.parent_of(directory)
    begun = info.parent.step if info.parent else 0
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
        data=info.facts.data,
        code=info.facts.code,
        environments=tuple(
            {"host": one.fields.get("host", ""), **one.fields.get("environment", {})} for one in sessions
        ),
        parent=info.parent,
        parent_name=parent.name if parent else "",
        verdicts=tuple(listing.verdicts(directory)),
        record=record_of(lines, sum(int(line["step"]) < begun for line in lines)),
        sheets=tuple(
            Sheet(int(path.stem), path)
            for path in sorted(directory.sheets.glob("*.png"))
            if path.stem.isdecimal()
        ),
        measured=measured,
        problems=(*problems, *unread),
    )


def record_of(lines: Sequence[Mapping[str, Any]], inherited: int = 0) -> MetricsRecord:
    """The rows of a run's metrics, as they stand on disk, in columns. inherited: of them, from its parent."""
    names = dict.fromkeys(name for line in lines for name in line)
    columns = {}
    for name in names:
        if name in ("step", "images", "seconds", "fingerprint"):
            continue
        own = [(row, float(line[name])) for row, line in enumerate(lines) if name in line]
        rows, values = zip(*own, strict=True)
        columns[name] = RecordedColumn(np.array(rows, np.int64), np.array(values, np.float64))
    seconds = [0.0 if row < inherited else float(line["seconds"]) for row, line in enumerate(lines)]
    return MetricsRecord(
        steps=np.array([line["step"] + 1 for line in lines], np.int64),
        images=np.array([line["images"] for line in lines], np.int64),
        hours=np.cumsum([value if math.isfinite(value) else 0.0 for value in seconds]) / 3600,
        columns=columns,
        inherited=inherited,
    )


# --- What a report is made of: plain facts, gathered by the session and handed over in one piece ---


@dataclass(frozen=True)
class SessionFacts:
    """One start of the trainer, until it ended."""

    started: str  # date and time, as it should be printed
    first_step: int
    last_step: int  # exclusive: steps first_step .. last_step - 1 were done
    seconds: float  # wall time of the session
    training_seconds: float  # of which inside steps: no sheets, checkpoints, evaluation
    ended: str = ""  # "finished", "stopped", "killed"
    environment: Mapping[str, str] = field(default_factory=dict)

    # machine, torch, device, precision, memory format, ...: any names, printed in this order


@dataclass(frozen=True)
class SheetFile:
    """A contact sheet saved while the run trained; every sheet shows the same fixed noises."""

    step: int
    path: PurePosixPath  # relative to the run's directory


@dataclass(frozen=True)
class Measurement:
    """A metric with what it needs to be trusted."""

    name: str  # "FD-classifier", "KID"
    value: float
    provenance: str  # extractor and its hash, n, reference split, resize rule, sampler, seed
    step: int | None = None
    floor: float | None = None  # the same metric, real images against real images
    spread: float | None = None  # standard deviation of the value, of a metric that knows it


@dataclass(frozen=True)
class Reproduce:
    """How to make this run again, and how to know that it is the same."""

    commands: tuple[str, ...] = ()  # in order, exactly as typed
    seed: int | None = None
    data_fingerprint: str = ""
    weights_digest: str = ""  # of a checkpoint
    weights_step: int | None = None  # the step of that checkpoint
    code_version: str = ""
    replay: str = ""  # what reaching any other step takes


@dataclass(frozen=True)
class ReportFacts:
    """Everything a report says. Whatever is empty is left out of it, or said to be missing."""

    name: str
    summary: str = ""  # one sentence: what was trained on what
    written: str = ""  # date of the report
    verdict: tuple[str, ...] = ()  # where the run stands and what is to be known of it, a sentence each
    unmeasured: tuple[str, ...] = ()  # what nothing can be said of, and what would measure it
    recipe: Mapping[str, Any] = field(default_factory=dict)  # resolved, nested by section
    step: int = 0  # steps done
    planned_steps: int | None = None
    history: History = field(default_factory=History)
    sessions: tuple[SessionFacts, ...] = ()
    skipped_steps: tuple[int, ...] = ()  # not applied because a gradient was not finite
    sheets: tuple[SheetFile, ...] = ()
    samples: tuple[Picture, ...] = ()
    panels: tuple[Picture, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    rate: LearningRate | None = None  # of a variational autoencoder
    best: str = ""  # which step samples were best at, and by what, in a sentence
    remarks: tuple[str, ...] = ()  # of pre-flight checks and monitors, one sentence each
    reproduce: Reproduce = field(default_factory=Reproduce)

    @property
    def images_seen(self) -> int:
        """Training images shown to the networks, repetitions counted."""
        return self.step * self.history.batch_size

    @property
    def epochs(self) -> float | None:
        """Times the data was gone through; None where its size is not known."""
        size = self.history.dataset_size
        return self.images_seen / size if size else None

    @property
    def seconds(self) -> float:
        """Wall time of all sessions."""
        return sum(session.seconds for session in self.sessions)

    @property
    def seconds_per_kimg(self) -> float | None:
        """Training seconds per thousand images, over all sessions, repeated steps included.

        None where no session recorded a step.
        """
        steps = sum(session.last_step - session.first_step for session in self.sessions)
        if steps <= 0:
            return None
        training = sum(session.training_seconds for session in self.sessions)
        return training / (steps * self.history.batch_size) * 1000
