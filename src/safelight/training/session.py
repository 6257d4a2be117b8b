"""One start of the trainer on a run, until it ends: what is due after every step, and the record of it."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

from safelight.config import UserError
from safelight.engine import precision
from safelight.engine.fingerprint import differences
from safelight.engine.ledger import Ledger
from safelight.engine.loop import Job, Signals, Stop, interrupts, train
from safelight.engine.precision import Execution
from safelight.engine.shares import gradient_shares
from safelight.engine.state import State
from safelight.explore.samples import draw_sheet
from safelight.loading.in_force import InForce, shared_interventions, take_edits
from safelight.loading.prepare import Prepared, environment_of
from safelight.loading.recorded import code_facts
from safelight.recipe import Recipe
from safelight.store import checkpoint, checkpoint_files, inbox, metrics, retention, tracks
from safelight.store.checkpoint_files import Saved
from safelight.store.directory import RunDirectory
from safelight.store.durable import mendable
from safelight.store.journal import End
from safelight.store.journal_writer import JournalWriter
from safelight.store.metrics import MetricsRow, MetricsWriter
from safelight.store.tape import TapeWriter
from safelight.training import watch
from safelight.training.audit import Audit, trainable
from safelight.training.evaluation import Evaluator, columns, pin_if_best
from safelight.training.forecast import Forecast, forecast
from safelight.training.health import Health, every_network
from safelight.training.live_film import LiveFilm
from safelight.training.live_log import LiveLog
from safelight.training.progress import Show
from safelight.training.stop import Over, Stopping
from safelight.types import Batch

RESERVE = 3.0  # seconds for the report, and for what a disk may take longer than before
FIXED = 16  # images that gradients are compared on


class Leave(Exception):
    """Raised by a boundary: a fork goes on in place of this run, or the run that it was forked from."""


class Session:
    """One start of the trainer on a run, until it ends. Only the first process has a journal writer."""

    def __init__(
        self,
        directory: RunDirectory,
        ready: Prepared,
        execution: Execution,
        state: State,
        show: Show,
        writer: JournalWriter | None,
        until: float = math.inf,
    ) -> None:
        """until: by `time.monotonic`; it stops in time for a checkpoint."""
        self.until, self.longest = until, 0.0  # seconds of the slowest step with what followed it
        self.directory, self.ready, self.show, self.writer = directory, ready, show, writer
        self.execution, self.state = execution, state
        self.autocast = precision.autocast(ready.device, execution.precision)
        self.audit: Audit | None = None
        self._load_newest()
        self._take_edits(max(self.state.step, metrics.reached(directory.path)))
        self.evaluator = Evaluator(directory, ready, execution.precision, show.tell)
        self.signals = Signals()
        self.metrics: MetricsWriter | None = None
        self.tape: TapeWriter | None = None
        self.film: LiveFilm | None = None
        self.records: list[MetricsWriter | TapeWriter | LiveFilm] = []  # what a checkpoint makes final
        self.health: Health | None = None
        self.stopping: Stopping | None = None
        self.live_log: LiveLog | None = None

    def go(self) -> bool:
        """Train until the plan is fulfilled, or until Ctrl-C, which ends it after the step in hand.

        Returns whether a monitor ended it: another run goes on under this one's name (see remedies.py).
        """
        world, start = self.ready.world, self.state.step
        if world.share(self.writer is not None and self._is_finished()):
            why = self.writer.journal.of_kind("end")[-1].fields["message"] if self.writer else ""
            left = f"{why}; change that rule to train on" if why else "none left to train"
            self.show.tell(f"{self.directory.name} is finished: {start:,} steps, {left}")
            return False
        if self.writer and (recipe := self.in_force.recipe_at(start)).evaluate.every:
            self.evaluator.judge(recipe)  # whatever is missing is told before the hours are spent
        if self.writer:
            self._announce_session(start)
            session = self.writer.journal.session
            self.metrics = MetricsWriter(self.directory.path, session, start)
            self.tape = TapeWriter(self.directory.path, session)
            tools = self.in_force.recipe_at(start).log.to
            self.live_log = LiveLog(self.directory.path, session, tools, self.show.warn)
            self.health = Health(
                self.directory,
                self.ready,
                self.writer,
                lambda step: self.in_force.recipe_at(step),
                start,
                self.show.warn,
            )
            rules_at = lambda step: self.in_force.recipe_at(step).stop  # noqa: E731
            self.stopping = Stopping(self.directory, rules_at, start, self.show.warn)
            self._tape(start, self.in_force.recipe_at(start), last=False)
            self.film = LiveFilm(self.directory, session, self.ready, self.execution.precision)
            self.records = [self.metrics, self.tape, self.film]
            self.film.take(start, self.state, self.in_force.recipe_at(start))
        self.ledger = Ledger(self._write_rows, self.ready.recipe.train.batch_size)
        job = Job(
            self.ready.method,
            self.state,
            self.ready.stream,
            lambda step: self.in_force.plan_at(step),  # of the newest interventions
            self.ledger.add,
            self._boundary,
            self.signals,
            world,
            self.autocast,
            self.ready.device,
        )
        plan = self.in_force.plan_at(start)
        how = f"{self.ready.device}, {self.execution.precision} {self.execution.memory_format}"
        self.show.tell(f"{self.directory.name}: trains step {start:,} to {plan.steps:,} on {how}")
        self.show.tell(f"disk: {ahead(self.ready, self.state, plan.steps).text}")
        self.before = time.monotonic()
        self.show.begin(start, plan.steps, self.ready.recipe.train.batch_size)
        try:
            with interrupts(self.signals, alone=world.size == 1):
                train(job)
            self.ledger.flush()
            if world.share(self.signals.leave):
                raise Leave
            self._end("finished")
        except Leave:
            self._end("left", self.health.treatment.leaves if self.health else "")
            return True
        except Over as over:
            self._finish(str(over))
        except Stop:
            if self.stopping and (why := self.stopping.hours(self.state.step)):
                self._finish(why)
                return False
            self._end("stopped")
            self.show.tell(
                f"stopped after step {self.state.step}; go on with: safelight resume {self.directory.name}"
            )
        except BaseException as error:
            with suppress(UserError):  # a full disk cannot take this either; the error tells
                self._end("failed", f"{type(error).__name__}: {error}")
            raise
        return False

    # --- at the end of every step -----------------------------------------------------------------

    def _boundary(self, agreed: Signals) -> None:
        step, recipe = self.state.step, self.in_force.recipe_at(self.state.step)
        steps = self.in_force.plan_at(step).steps
        last = step >= steps
        if self.audit and self.audit.due:
            self.audit.after_first_step(
                self.state, self.in_force.plan_at(step - 1), self.ready.method.phases, self.writer
            )
        if self.writer:
            self._tape(step, recipe, last)
            if tracks.is_due(step, steps) and (kept := self.state.averages.tracks()):
                tracks.save(self.directory.tracks, step, kept)
            if self.film:
                self.film.take(step, self.state, recipe, last)
        watched = watch.is_due(step, recipe, self.ready.pack.trained, steps)
        every, best = recipe.evaluate.every, False
        evaluated = every > 0 and (step % every == 0 or last)
        self.noted: dict[str, float] = {}
        if self.writer:
            if watched:
                self._watch(step, recipe)
            best = evaluated and self._evaluate(recipe)
        over = "" if last else self._over(step, recipe, watched or evaluated)
        if self.writer and (
            step % recipe.checkpoint.every == 0 or last or agreed.stop or agreed.leave or best or over
        ):
            self._save(step, recipe)
        if agreed.edit:
            self._take_edits(step)
        if over:
            raise Over(over)
        if agreed.stop and not last:
            raise Stop
        if agreed.leave:
            raise Leave
        self._keep_time()  # last: the next step agrees on it, and its boundary saves

    def _over(self, step: int, recipe: Recipe, measured: bool) -> str:
        """Why a rule of [stop] finishes the run here, on every process; "" where none does."""
        rules, images = recipe.stop, step * recipe.train.batch_size
        if rules.images is not None and images >= rules.images:
            return f"stop.images: {images:,} images seen"
        if not (measured and (rules.goal or rules.patience)):
            return ""
        here = self.stopping.after(step, self.noted) if self.stopping else ""
        return str(self.ready.world.share(here))

    def _note_columns(self, columns: Mapping[str, float]) -> None:
        """What was measured at this step, for the metrics and for the rules of [stop]."""
        self.noted |= columns
        self.ledger.note(columns)

    def _keep_time(self) -> None:
        """Ask for a stop while there is time for a checkpoint, and for what may come before it."""
        now = time.monotonic()
        self.longest, self.before = max(self.longest, now - self.before), now
        if now + 2 * self.longest + RESERVE >= self.until and not self.signals.stop:
            self.show.tell(f"step {self.state.step:,}: the time of --for is over")
            self.signals.stop = True
        if self.stopping and self.stopping.hours(self.state.step):
            self.signals.stop = True

    def _is_finished(self) -> bool:
        """Whether the last session came to the end or to a rule of [stop], and its checkpoint is there."""
        assert self.writer is not None
        kinds = ("session", "intervention", "end")
        last = [entry for entry in self.writer.journal.entries if entry.kind in kinds][-1:]
        return [(entry.fields.get("status"), entry.fields["step"]) for entry in last] == [
            ("finished", self.state.step)
        ]

    def _take_edits(self, step: int) -> None:
        """Interventions as they are in force from here on; those that wait take effect at `step`."""
        ready = self.ready
        if self.writer:
            show, images = self.show, ready.pack.trained
            take_edits(self.directory.path, self.writer, ready.recipe, images, step, show.tell, show.warn)
        interventions = shared_interventions(ready.world, self.writer)
        self.in_force = InForce(ready.recipe, ready.pack.trained, interventions)

    def _tape(self, step: int, recipe: Recipe, last: bool) -> None:
        """A frame of the averaged weights, where one is due; that of the last step always is."""
        every = recipe.tape.every
        if self.tape and every and (step % every == 0 or last):
            networks = self.state.averages.networks
            self.tape.append(step, {name: networks[name] for name in recipe.tape.networks or networks},
                             recipe.tape.keyframe)  # fmt: skip

    def _watch(self, step: int, recipe: Recipe) -> None:
        ready = self.ready
        with every_network(ready.method, self.state) as nets:
            model = ready.model(self.directory, recipe, nets, step, self.execution.precision)
            self._note_columns(watch.held_out_losses(model))
            self.ledger.note(watch.trained_losses(model))
        weights = self.in_force.plan_at(step).weights_at(step)
        shares = gradient_shares(ready.method, self.state, self._fixed, weights, self.autocast)
        self.ledger.note({f"share/{name}": share for name, share in shares.items()})
        for folder in (self.directory.sheets, self.directory.panels):
            with mendable(folder):
                folder.mkdir(exist_ok=True)
        if getattr(ready.method, "draws", True):
            conditions = watch.watched_conditions(model.data.recipe, ready.stream)
            images = watch.watched_images(model, conditions)
            if self.health:
                self.ledger.note(self.health.look(images, conditions, model))
            path = self.directory.sheets / f"{step:08d}.png"
            draw_sheet(images, ready.stream.spec, f"step {step}", path, prompts=recipe.watch.prompts or ())
        watch.draw_figures(watch.figures(model), self.directory.panels, step)

    @cached_property
    def _fixed(self) -> Batch:
        """A few training images, the same at every step: what gradients are compared on."""
        return self.ready.stream.pick(self.ready.pack.train[:FIXED])

    def _evaluate(self, recipe: Recipe) -> bool:
        """Measure the samples of now; whether none were better. Then a checkpoint has to follow."""
        assert self.writer is not None
        try:
            evaluation = self.evaluator.evaluate(self.state, recipe)
        except UserError as error:  # an edit while the run goes on: no reason to end it
            self._note(f"step {self.state.step} is not evaluated: {error}")
            return False
        self._note_columns(columns(evaluation))
        return pin_if_best(self.directory.path, evaluation, self.writer)

    def _save(self, step: int, recipe: Recipe) -> None:
        """A checkpoint, then the journal, then the older ones are let go."""
        assert self.writer is not None
        self.ledger.flush()
        for record in self.records:
            record.sync()
        saved = checkpoint.save(
            self.directory.path,
            step,
            self.state.groups(),
            {"edits": self.writer.journal.edits, "trainable": trainable(self.state.nets)},
        )
        self.writer.checkpoint(step, saved.digest)
        each = sum(file.bytes for file in saved.files)
        needed = self.health.kept() if self.health else []
        checkpoint_files.prune(
            self.directory.path, [*retention.kept(self.directory, recipe.checkpoint, each), *needed]
        )

    # --- the record -------------------------------------------------------------------------------

    def _load_newest(self) -> None:
        """The newest checkpoint that verifies, into the state of every process."""
        saved = self._newest_good() if self.writer else None
        info = self.directory.info()
        if self.writer and saved is None and (info.parent or info.facts.init):
            again = "fork" if info.parent else "train"
            raise UserError(f"{self.directory.path}: no checkpoint of this run is good; {again} it again")
        step = self.ready.world.share(saved.step if saved else None)
        if isinstance(step, int):
            path = checkpoint_files.directory(self.directory.path, step)
            groups = checkpoint.load(path)
            self.state.load(groups, step)
            self.audit = Audit(self.state, groups, checkpoint_files.read(path).meta.get("trainable", {}))

    def _newest_good(self) -> Saved | None:
        """The newest checkpoint that verifies. Others are put aside, and the journal says why.

        Raises UserError where one counts more interventions than the journal has.
        """
        assert self.writer is not None
        run, known = self.directory.path, self.directory.digests()
        if checkpoint_files.edits(run, known) > self.writer.journal.edits:
            raise UserError(f"{self.directory.journal_path}: has lost interventions; restore it from a copy")
        aside: dict[int, str] = {}
        saved = checkpoint_files.newest_good(run, known, aside=aside, tell=self.show.warn)
        if aside:
            steps = ", ".join(f"{step} ({reason})" for step, reason in sorted(aside.items()))
            self._note(f"checkpoints put aside: {steps}; continues from step {saved.step if saved else 0}")
        return saved

    def _announce_session(self, start: int) -> None:
        assert self.writer is not None
        now: dict[str, Mapping[str, Any]] = {
            "environment": environment_of(self.ready, self.execution),
            "code": code_facts(self.ready.recipe),
        }
        sessions = self.writer.journal.of_kind("session")
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "folder": os.getcwd(), **now}
        self.writer.start_session(start, self.in_force.plan_at(start).steps, facts)
        for name in now:
            if sessions and (changed := differences(sessions[-1].fields.get(name, {}), now[name])):
                self._note(f"{name} differs from the session before: " + "; ".join(changed))

    def _note(self, text: str) -> None:
        """Into the journal, and to the user."""
        assert self.writer is not None
        self.writer.append("note", {"text": text})
        self.show.warn(text)

    def _write_rows(self, rows: list[MetricsRow]) -> None:
        if self.metrics and self.health:
            rows = self.health.judged(rows)
            self.metrics.append(rows)
            self.show.rows(rows)
            if self.stopping:
                self.stopping.require_finite(rows)
            self.signals.edit = bool(inbox.waiting(self.directory.path))
            self.signals.leave = bool(self.health.treatment.leaves)

    def _finish(self, why: str) -> None:
        """The end by a rule of [stop]."""
        self._end("finished", why)
        self.show.tell(f"finished after step {self.state.step:,}: {why}")

    def _end(self, status: End, message: str = "") -> None:
        step, self.stopping = self.state.step, None
        if self.writer and self.records:
            self.ledger.flush()
            for record in self.records:
                record.close()
            if self.live_log:
                self.live_log.close()
            self.writer.end(status, step, self.in_force.plan_at(step).steps, message)


def ahead(ready: Prepared, state: State, steps: int = 0) -> Forecast:
    """The disk that a training will need. steps: in force; the recipe's by default."""
    return forecast(ready.recipe, state, ready.pack.spec, steps or ready.plan.steps)
