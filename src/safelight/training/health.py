"""The health of a run while it trains: rows judged as they are written, verdicts journalled and told.

Only the first process has it. Nothing here changes a weight; see remedies.py for what may follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor, nn

from safelight.engine.state import State
from safelight.loading.model import Model, evaluated
from safelight.loading.prepare import Prepared
from safelight.monitor.judge import Change, HealthMonitor, watched
from safelight.monitor.remedies import command, remedies
from safelight.monitor.sample_statistics import RealImages, reaction
from safelight.monitor.vitals import Vitals
from safelight.recipe import Recipe
from safelight.render.sheet import Images
from safelight.store import checkpoint_files
from safelight.store.checkpoint_files import Pin
from safelight.store.directory import RECIPE, RunDirectory
from safelight.store.journal import JournalEntry
from safelight.store.journal_writer import JournalWriter
from safelight.store.listing import last_rows, owner_of, verdicts
from safelight.store.metrics import MetricsRow
from safelight.training import watch
from safelight.training.remedies import Treatment
from safelight.types import Balances, Method, Tell, Values

TAIL = 5000  # recorded steps that a resumed session judges again, to know what it would have known
REACTING = 16  # samples drawn once more, under other conditions


class Health:
    """The monitor of a session that starts at a step.

    recipe_at: as in force at a step. tell: one line that should not be missed.
    """

    def __init__(
        self,
        directory: RunDirectory,
        ready: Prepared,
        writer: JournalWriter,
        recipe_at: Callable[[int], Recipe],
        start: int,
        tell: Tell,
    ) -> None:
        self.directory, self.ready, self.writer, self.tell = directory, ready, writer, tell
        self.recipe_at = recipe_at
        self.steps = steps = recipe_at(start).plan(ready.pack.trained).steps
        vitals = Vitals(steps, isinstance(ready.method, Balances))
        self.judge = HealthMonitor(vitals, lambda step: recipe_at(step).monitor)
        self.treatment = Treatment(directory, writer, recipe_at, steps, tell)
        recorded = last_rows(directory, TAIL, start)
        if len(recorded) == TAIL:  # what held before them; nothing did before the first step
            holds = verdicts(owner_of(directory, recorded[0].step), recorded[0].step)
            for name, course in self.judge.courses.items():
                course.holds = name in holds
        for row in recorded:
            self.judge.add(row)
        self._real: RealImages | None = None

    def judged(self, rows: list[MetricsRow]) -> list[MetricsRow]:
        """Rows with a column for each verdict that holds, and for the remedy under trial.

        What begins or ends is journalled and told.
        """
        judged = []
        for row in rows:
            for change in self.judge.add(row):
                self._take(change)
            self.treatment.consider(row.step + 1, self.judge, watched(row))
            columns = {f"verdict/{name}": 1.0 for name in self.judge.holding}
            if self.treatment.trial:
                columns[f"remedy/{self.treatment.trial.words}"] = 1.0
            judged.append(replace(row, extra={**row.extra, **columns}) if columns else row)
        return judged

    def look(self, images: Images, conditions: tuple[Values, Tensor], model: Model) -> dict[str, float]:
        """Columns of watched samples (N, H, W, C): beside real images, and under other conditions.

        conditions: given and present (N,), which the samples were drawn under.
        """
        stream = self.ready.stream
        given, present = conditions
        columns: dict[str, float] = {}
        if images.shape[1:] == stream.pack.images.shape[1:]:  # a decoder may draw them larger
            if self._real is None or len(self._real.groups) != len(images):
                labels = given["label"].cpu().numpy() if "label" in given and bool(present.all()) else None
                flip = model.recipe.data.flip
                self._real = RealImages(stream.pack, len(images), labels, flip, stream.space.factor)
            columns = self._real.columns(images)
        few = min(REACTING, len(images))
        if few > 1 and bool(present[:few].all()):
            others = {name: value[:few].roll(1, 0) for name, value in given.items()}
            redrawn = watch.watched_images(model, (others, present[:few]))
            if not math.isnan(change := reaction(images[:few], redrawn)):
                columns["monitor/condition"] = change
        return columns

    def kept(self) -> list[int]:
        """The checkpoint that a verdict which is building up would have pinned."""
        since = self.judge.troubled_since
        step = self._healthy(since) if since is not None else 0
        return [step] if step else []

    def _healthy(self, since: int) -> int:
        """The newest checkpoint from before trouble showed, and a little earlier; 0 where there is none."""
        steps = checkpoint_files.list_steps(self.directory.path)
        lag = self.steps // 50
        early = [step for step in steps if step <= since - lag] or [step for step in steps if step < since]
        return early[-1] if early else 0

    def _take(self, change: Change) -> None:
        """Journal a verdict that begins or ends, once, and pin the checkpoint before it."""
        entries = self.writer.journal.of_kind("verdict")
        if any(_same(entry, change) for entry in entries):
            return  # told by a session before: these steps were trained again
        fields = {"name": change.name, "begins": change.begins, "step": change.step, "since": change.since}
        if change.finding is None:
            self.writer.append("verdict", fields)
            self.tell(f"step {change.step}: no longer: {change.name}")
            return
        rescue = self._healthy(change.since)
        run, path = self.directory.name, str(self.directory.path / RECIPE)
        advice = [
            {"words": remedy.words, "command": command(remedy, run, path, rescue)}
            for remedy in remedies(change.name, self.recipe_at(change.step).tree, rescue)
        ]
        measured = {"measured": change.finding.measured, "expected": change.finding.expected}
        self.writer.append("verdict", {**fields, **measured, "rescue": rescue, "advice": advice})
        if rescue:
            pin = f"before-{change.name.replace(' ', '-')}"
            checkpoint_files.pin(
                self.directory.path, pin, Pin(rescue, f"before {change.name}", {}), self.writer
            )
        symptom = change.finding
        self.tell(f"step {change.step}: {change.name}: {symptom.measured}; expected {symptom.expected}")
        if advice and not self.recipe_at(change.step).monitor.act:
            self.tell(f"  {advice[0]['words']}: {advice[0]['command']}")


def _same(entry: JournalEntry, change: Change) -> bool:
    fields = entry.fields
    return (fields["name"], fields["begins"], fields["step"]) == (change.name, change.begins, change.step)


@contextmanager
def every_network(method: Method, state: State) -> Iterator[dict[str, nn.Module]]:
    """The networks that samples use, and those without averages, for as long in evaluation mode."""
    nets = evaluated(method, state)
    others = [net for name, net in state.nets.items() if name not in nets and net.training]
    for net in others:
        net.eval()
    yield {**state.nets, **nets}
    for net in others:
        net.train()
