"""What the first process of a session writes into its run: journal, metrics, tape, film and checkpoints."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from safelight.config import UserError
from safelight.engine.fingerprint import differences
from safelight.engine.loop import Signals
from safelight.engine.precision import Execution
from safelight.engine.state import State
from safelight.loading.prepare import Prepared, environment_of
from safelight.loading.recorded import code_facts
from safelight.recipe import Recipe
from safelight.store import checkpoint, checkpoint_files, inbox, retention, tracks
from safelight.store.checkpoint_files import Saved
from safelight.store.directory import RunDirectory
from safelight.store.journal import End
from safelight.store.journal_writer import JournalWriter
from safelight.store.metrics import MetricsRow, MetricsWriter
from safelight.store.tape import TapeWriter
from safelight.training.audit import trainable
from safelight.training.health import Health
from safelight.training.live_film import LiveFilm
from safelight.training.live_log import LiveLog
from safelight.training.progress import Show
from safelight.training.stop import Stopping
from safelight.types import Tell


class Record:
    """The record of a session that begins now, at the step of its state. Close it."""

    def __init__(
        self,
        directory: RunDirectory,
        ready: Prepared,
        execution: Execution,
        state: State,
        writer: JournalWriter,
        recipe_at: Callable[[int], Recipe],
        show: Show,
        signals: Signals,
    ) -> None:
        """recipe_at: as in force at a step. signals: set where an edit or a remedy waits."""
        self.directory, self.state, self.writer = directory, state, writer
        self.show, self.signals = show, signals
        start, recipe = state.step, recipe_at(state.step)
        steps = recipe.plan(ready.pack.trained).steps
        now: dict[str, Mapping[str, Any]] = {
            "environment": environment_of(ready, execution),
            "code": code_facts(ready.recipe),
        }
        sessions = writer.journal.of_kind("session")
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "folder": os.getcwd(), **now}
        writer.start_session(start, steps, facts)
        for name in now:
            if sessions and (changed := differences(sessions[-1].fields.get(name, {}), now[name])):
                note(writer, f"{name} differs from the session before: " + "; ".join(changed), show.warn)
        session = writer.journal.session
        self.metrics = MetricsWriter(directory.path, session, start)
        self.tape = TapeWriter(directory.path, session)
        self.live_log = LiveLog(directory.path, session, recipe.log.to, show.warn)
        self.health = Health(directory, ready, writer, recipe_at, start, show.warn)
        rules_at = lambda step: recipe_at(step).stop  # noqa: E731
        self.stopping: Stopping | None = Stopping(directory, rules_at, start, show.warn)
        self._tape(recipe, last=False)
        self.film = LiveFilm(directory, session, ready, execution.precision)
        self.film.take(start, state, recipe)

    def rows(self, rows: list[MetricsRow]) -> None:
        """Rows of metrics, judged. Raises UserError where training has come to nothing."""
        rows = self.health.judged(rows)
        self.metrics.append(rows)
        self.show.rows(rows)
        if self.stopping:
            self.stopping.require_finite(rows)
        self.signals.edit = bool(inbox.waiting(self.directory.path))
        self.signals.leave = bool(self.health.treatment.leaves)

    def frames(self, recipe: Recipe, steps: int) -> None:
        """Frames of the tape, of the averages' tracks and of the film, where they are due."""
        step, last = self.state.step, self.state.step >= steps
        self._tape(recipe, last)
        if tracks.is_due(step, steps) and (kept := self.state.averages.tracks()):
            tracks.save(self.directory.tracks, step, kept)
        self.film.take(step, self.state, recipe, last)

    def _tape(self, recipe: Recipe, last: bool) -> None:
        every, networks = recipe.tape.every, self.state.averages.networks
        if every and (self.state.step % every == 0 or last):
            names = recipe.tape.networks or networks
            self.tape.append(self.state.step, {name: networks[name] for name in names}, recipe.tape.keyframe)

    def save(self, recipe: Recipe) -> None:
        """A checkpoint, then the journal, then the older ones are let go. All rows are written before."""
        for file in (self.metrics, self.tape, self.film):
            file.sync()
        meta = {"edits": self.writer.journal.edits, "trainable": trainable(self.state.nets)}
        saved = checkpoint.save(self.directory.path, self.state.step, self.state.groups(), meta)
        self.writer.checkpoint(self.state.step, saved.digest)
        each = sum(file.bytes for file in saved.files)
        kept = [*retention.kept(self.directory, recipe.checkpoint, each), *self.health.kept()]
        checkpoint_files.prune(self.directory.path, kept)

    def close(self, status: End, steps: int, message: str) -> None:
        """The end of the session, of a run of that many steps. All rows are written before."""
        for file in (self.metrics, self.tape, self.film):
            file.close()
        self.live_log.close()
        self.writer.end(status, self.state.step, steps, message)


def frames_due(step: int, steps: int, recipe: Recipe) -> bool:
    """Whether a frame of the tape, of the tracks or of a film may be due at a step."""
    every = [recipe.tape.every, recipe.watch.film_every if recipe.watch.film else 0]
    return step >= steps or tracks.is_due(step, steps) or any(step % n == 0 for n in every if n)


def note(writer: JournalWriter, text: str, warn: Tell) -> None:
    """Into the journal, and to the user."""
    writer.append("note", {"text": text})
    warn(text)


def newest_good(directory: RunDirectory, writer: JournalWriter, warn: Tell) -> Saved | None:
    """The newest checkpoint that verifies. Others are put aside, and the journal says why.

    Raises UserError where one counts more interventions than the journal has, and where a run that did not
    begin from nothing has none that is good.
    """
    run, known, info = directory.path, directory.digests(), directory.info()
    if checkpoint_files.edits(run, known) > writer.journal.edits:
        raise UserError(f"{directory.journal_path}: has lost interventions; restore it from a copy")
    aside: dict[int, str] = {}
    saved = checkpoint_files.newest_good(run, known, aside=aside, tell=warn)
    if aside:
        steps = ", ".join(f"{step} ({reason})" for step, reason in sorted(aside.items()))
        step = saved.step if saved else 0
        note(writer, f"checkpoints put aside: {steps}; continues from step {step}", warn)
    if saved is None and (info.parent or info.facts.init):
        again = "fork" if info.parent else "train"
        raise UserError(f"{run}: no checkpoint of this run is good; {again} it again")
    return saved
