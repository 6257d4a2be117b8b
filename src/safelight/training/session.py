"""One start of the trainer on a run, until it ends: what is due after every step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property

from safelight.config import UserError
from safelight.data.edits import EditedStream
from safelight.data.prefetch import Prefetched
from safelight.engine import precision
from safelight.engine.ledger import Ledger
from safelight.engine.loop import BatchStream, Job, Signals, Stop, interrupts, train
from safelight.engine.precision import Execution
from safelight.engine.sharded import ShardedState
from safelight.engine.shares import gradient_shares
from safelight.engine.state import State
from safelight.explore.samples import draw_sheet
from safelight.loading.in_force import InForce, shared_interventions, take_edits
from safelight.loading.prepare import Prepared
from safelight.randomness import ASYNCHRONOUS
from safelight.recipe import Recipe
from safelight.store import checkpoint, checkpoint_files, metrics
from safelight.store.directory import RunDirectory
from safelight.store.durable import mendable
from safelight.store.journal import End
from safelight.store.journal_writer import JournalWriter
from safelight.training import watch
from safelight.training.audit import Audit
from safelight.training.evaluation import Evaluator, columns, pin_if_best
from safelight.training.forecast import Forecast, forecast
from safelight.training.health import Health, every_network
from safelight.training.progress import Show
from safelight.training.record import Record, frames_due, newest_good, note
from safelight.training.stop import Over
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
        halt: float = math.inf,
    ) -> None:
        """until: by `time.monotonic`; it stops in time for a checkpoint. halt: the step it stops after."""
        self.halt, self.why = halt, ""  # why it is stopped, if not by Ctrl-C
        self.until, self.longest = until, 0.0  # seconds of the slowest step with what followed it
        self.directory, self.ready, self.show, self.writer = directory, ready, show, writer
        self.execution, self.state = execution, state
        self.autocast = precision.autocast(ready.device, execution.precision)
        self.audit: Audit | None = None
        self._load_newest()
        self._take_edits(max(self.state.step, metrics.reached(directory.path)))
        self.evaluator = Evaluator(directory, ready, execution.precision, show.tell)
        self.signals = Signals()
        self.record: Record | None = None
        self.training: State | ShardedState = state  # what the loop trains: it, or a part of it

    @property
    def rests(self) -> bool:
        """Whether it stopped at the step where it was to, before the last one."""
        return self.halt <= self.state.step < self.in_force.plan_at(self.state.step).steps

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
            recipe_at = lambda step: self.in_force.recipe_at(step)  # noqa: E731  of the newest interventions
            self.record = Record(self.directory, self.ready, self.execution, self.state, self.writer,
                                 recipe_at, self.show, self.signals)  # fmt: skip
        write = self.record.rows if self.record else lambda rows: None
        self.ledger = Ledger(write, self.ready.recipe.train.batch_size)
        stream: BatchStream = EditedStream(self.ready.stream, lambda step: self.in_force.recipe_at(step).data)
        prefetched = Prefetched(stream, self.ready.device, lambda: self.in_force)
        if self.ready.cut:
            plan = self.in_force.plan_at(start)
            self.training = ShardedState(self.state, self.ready.method, plan, world, self.ready.device)
        job = Job(
            self.ready.method,
            self.training,
            prefetched if self.ready.device.type in ASYNCHRONOUS else stream,
            lambda step: self.in_force.plan_at(step),  # of the newest interventions
            self.ledger.add,
            self._boundary,
            self.signals,
            world,
            self.autocast,
            self.ready.device,
        )
        plan = self.in_force.plan_at(start)
        how = f"{self.ready.device}, {self.execution.words}"
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
            self._end("left", self.record.health.treatment.leaves if self.record else "")
            return True
        except Over as over:
            self._finish(str(over))
        except Stop:
            if why := self._hours():
                self._finish(why)
                return False
            self._end("stopped", self.why)
            if not self.rests:
                line = f"stopped after step {self.state.step}; go on with: safelight resume"
                self.show.tell(f"{line} {self.directory.name}")
        except BaseException as error:
            with suppress(UserError):  # a full disk cannot take this either; the error tells
                self._end("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            prefetched.close()
        return False

    # --- at the end of every step -----------------------------------------------------------------

    def _boundary(self, agreed: Signals) -> None:
        step = self.state.step = self.training.step
        recipe, steps = self.in_force.recipe_at(step), self.in_force.plan_at(step).steps
        last = step >= steps
        watched = watch.is_due(step, recipe, self.ready.pack.trained, steps)
        every, best = recipe.evaluate.every, False
        evaluated = every > 0 and (step % every == 0 or last)
        stops = not last and (agreed.stop or step >= self.halt)
        due = step % recipe.checkpoint.every == 0 or last or agreed.stop or stops or agreed.leave
        if isinstance(self.training, ShardedState) and (
            due or watched or evaluated or frames_due(step, steps, recipe) or self._seen_enough(step, recipe)
        ):
            self.training.gather_into(self.state)
        if self.audit and self.audit.due:
            self.audit.after_first_step(
                self.training, self.in_force.plan_at(step - 1), self.ready.method.phases, self.writer
            )
        self.noted: dict[str, float] = {}
        if self.record:
            with self._whole_on_device():
                self.record.frames(recipe, steps)
                if watched:
                    self._watch(step, recipe, self.record.health)
                best = evaluated and self._evaluate(recipe, self.record.writer)
        over = "" if last else self._over(step, recipe, watched or evaluated)
        if self.record and (due or best or over):
            self.ledger.flush()
            self.record.save(recipe)
        if agreed.edit:
            self._take_edits(step)
        if over:
            raise Over(over)
        if stops:
            raise Stop
        if agreed.leave:
            raise Leave
        self._keep_time()  # last: the next step agrees on it, and its boundary saves

    @contextmanager
    def _whole_on_device(self) -> Iterator[None]:
        """The networks of a whole state that is in the host's memory are on the device for as long."""
        moved = self.ready.device != self.state.device
        nets = [*self.state.nets.values(), *self.state.averages.networks.values()] if moved else []
        for net in nets:
            net.to(self.ready.device)
        yield
        for net in nets:
            net.to(self.state.device)

    def _seen_enough(self, step: int, recipe: Recipe) -> bool:
        """Whether stop.images finishes the run here."""
        images = recipe.stop.images
        return images is not None and step * recipe.train.batch_size >= images

    def _over(self, step: int, recipe: Recipe, measured: bool) -> str:
        """Why a rule of [stop] finishes the run here, on every process; "" where none does."""
        rules = recipe.stop
        if self._seen_enough(step, recipe):
            return f"stop.images: {step * recipe.train.batch_size:,} images seen"
        if not (measured and (rules.goal or rules.patience)):
            return ""
        stopping = self.record.stopping if self.record else None
        return str(self.ready.world.share(stopping.after(step, self.noted) if stopping else ""))

    def _hours(self) -> str:
        """Why the time spent finishes the run; "" where it does not."""
        stopping = self.record.stopping if self.record else None
        return stopping.hours(self.state.step) if stopping else ""

    def _note_columns(self, columns: Mapping[str, float]) -> None:
        """What was measured at this step, for the metrics and for the rules of [stop]."""
        self.noted |= columns
        self.ledger.note(columns)

    def _keep_time(self) -> None:
        """Ask for a stop while there is time for a checkpoint, and for what may come before it."""
        now = time.monotonic()
        self.longest, self.before = max(self.longest, now - self.before), now
        if now + 2 * self.longest + RESERVE >= self.until and not self.signals.stop:
            self.why = f"step {self.state.step:,}: the time of --for is over"
            self.show.tell(self.why)
            self.signals.stop = True
        if self._hours():
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
            show = self.show
            take_edits(self.directory.path, self.writer, ready.recipe, ready.pack, step, show.tell, show.warn)
        interventions = shared_interventions(ready.world, self.writer)
        self.in_force = InForce(ready.recipe, ready.pack.trained, interventions)

    def _watch(self, step: int, recipe: Recipe, health: Health) -> None:
        ready = self.ready
        with every_network(ready.method, self.state) as nets:
            model = ready.model(self.directory, recipe, nets, step, self.execution.precision)
            self._note_columns(watch.held_out_losses(model))
            self.ledger.note(watch.trained_losses(model))
        weights = self.in_force.plan_at(step).weights_at(step)
        if not ready.cut:
            shares = gradient_shares(ready.method, self.state, self._fixed, weights, self.autocast)
            self.ledger.note({f"share/{name}": share for name, share in shares.items()})
        for folder in (self.directory.sheets, self.directory.panels):
            with mendable(folder):
                folder.mkdir(exist_ok=True)
        if getattr(ready.method, "draws", True):
            conditions = watch.watched_conditions(model.data.recipe, ready.stream)
            images = watch.watched_images(model, conditions)
            self.ledger.note(health.look(images, conditions, model))
            path = self.directory.sheets / f"{step:08d}.png"
            draw_sheet(images, ready.stream.spec, f"step {step}", path, prompts=recipe.watch.prompts or ())
        watch.draw_figures(watch.figures(model), self.directory.panels, step)

    @cached_property
    def _fixed(self) -> Batch:
        """A few training images, the same at every step: what gradients are compared on."""
        return self.ready.stream.pick(self.ready.pack.train[:FIXED])

    def _evaluate(self, recipe: Recipe, writer: JournalWriter) -> bool:
        """Measure the samples of now; whether none were better. Then a checkpoint has to follow."""
        try:
            evaluation = self.evaluator.evaluate(self.state, recipe)
        except UserError as error:  # an edit while the run goes on: no reason to end it
            note(writer, f"step {self.state.step} is not evaluated: {error}", self.show.warn)
            return False
        self._note_columns(columns(evaluation))
        return pin_if_best(self.directory.path, evaluation, writer)

    # --- begin and end ----------------------------------------------------------------------------

    def _load_newest(self) -> None:
        """The newest checkpoint that verifies, into the state of every process."""
        saved = newest_good(self.directory, self.writer, self.show.warn) if self.writer else None
        step = self.ready.world.share(saved.step if saved else None)
        if isinstance(step, int):
            path = checkpoint_files.directory(self.directory.path, step)
            groups = checkpoint.load(path)
            self.state.load(groups, step)
            self.audit = Audit(self.state, groups, checkpoint_files.read(path).meta.get("trainable", {}))

    def _finish(self, why: str) -> None:
        """The end by a rule of [stop]."""
        self._end("finished", why)
        self.show.tell(f"finished after step {self.state.step:,}: {why}")

    def _end(self, status: End, message: str = "") -> None:
        if self.record:
            self.record.stopping = None
            self.ledger.flush()
            self.record.close(status, self.in_force.plan_at(self.state.step).steps, message)


def ahead(ready: Prepared, state: State, steps: int = 0) -> Forecast:
    """The disk that a training will need. steps: in force; the recipe's by default."""
    return forecast(ready.recipe, state, ready.pack.spec, steps or ready.plan.steps)
