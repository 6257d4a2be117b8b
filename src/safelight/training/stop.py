"""The rules of [stop] while a run trains. Their state is read from the metrics, as a resumed run has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from safelight.config import UserError
from safelight.monitor.stop import FiniteSteps, Measurement, StopRules, measured, reached, unknown
from safelight.store import checkpoint_files, listing
from safelight.store.directory import RunDirectory
from safelight.store.metrics import MetricsRow
from safelight.types import Tell


class Over(Exception):
    """Raised by a boundary: a rule of [stop] has finished the run."""


class Stopping:
    """The rules of a session that starts at a step. rules_at: as in force at a step."""

    def __init__(
        self, directory: RunDirectory, rules_at: Callable[[int], StopRules], start: int, warn: Tell
    ) -> None:
        self.directory, self.rules_at, self.warn = directory, rules_at, warn
        lines = [line for line in listing.recorded(directory) if int(line["step"]) < start]
        self.course: list[Measurement] = [
            (int(line["step"]) + 1, numbers) for line in lines if (numbers := measured(line))
        ]
        self.finite = FiniteSteps(listing.last_rows(directory, rules_at(start).non_finite, start))
        self.spent = sum(float(line["seconds"]) for line in lines)
        self.begun = time.monotonic()
        self._said: set[str] = set()

    def require_finite(self, rows: list[MetricsRow]) -> None:
        """Raises UserError after too many steps in a row without a finite gradient."""
        for row in rows:
            limit = self.rules_at(row.step).non_finite
            if self.finite.add(row) >= limit > 0:
                run, since = self.directory.name, self.finite.since
                good = [step for step in checkpoint_files.list_steps(self.directory.path) if step <= since]
                advice = (
                    f"the last good checkpoint is of step {good[-1]}: "
                    f"safelight rollback {run} --step {good[-1]} optim.lr=..."
                    if good
                    else "no checkpoint is from before: train again with a lower optim.lr"
                )
                raise UserError(
                    f"{run}: no step of {since:,} to {row.step:,} had a finite gradient, so the weights did "
                    f"not change (stop.non_finite={limit}); {advice}"
                )

    def after(self, step: int, columns: Mapping[str, float]) -> str:
        """Why what was measured after `step` steps finishes the run; "" where it does not."""
        rules = self.rules_at(step)
        if not (columns := measured(columns)):
            return ""
        for name in set(unknown(rules, columns)) - self._said:
            self._said.add(name)
            self.warn(f"stop: {name} is not measured; what is: {', '.join(columns)}")
        self.course.append((step, columns))
        return reached(rules, self.course)

    def hours(self, step: int) -> str:
        """Why the time spent finishes the run; "" where it does not."""
        limit = self.rules_at(step).hours
        over = limit is not None and self.spent + time.monotonic() - self.begun >= limit * 3600
        return f"stop.hours: {limit:g} hours are over" if over else ""
