"""The progress of training: a bar on a terminal, a line in a notebook, a line a minute in a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from safelight.data.source import Progress
from safelight.store.metrics import MetricsRow
from safelight.terminal import Bar, console, rewrite, say
from safelight.types import Tell

if TYPE_CHECKING:
    from rich import progress

MINUTE = 60.0  # seconds from one line of a log to the next


@dataclass(frozen=True)
class Show:
    """What a session shows while it goes on. The default is quiet."""

    tell: Tell = lambda line: None  # one line
    begin: Callable[[int, int, int], None] = lambda step, steps, batch_size: None
    rows: Callable[[list[MetricsRow]], None] = lambda rows: None  # metrics, every half second or so
    end: Callable[[], None] = lambda: None
    warn: Tell = lambda line: None  # one line that should not be missed, also where only a log is kept
    progress: Progress | None = None  # of work on data, before the first step; None: told in lines


class TrainingProgress:
    """What a session shows; give `show` to the session."""

    def __init__(self) -> None:
        self.console = console(err=True)
        self._before: Bar | None = None  # of work before the first step
        self._progress: progress.Progress | None = None
        self._task: progress.TaskID | None = None
        self._steps = 0
        self._batch_size = 0
        self._last: tuple[int, float] | None = None  # step and time of the newest row
        self._rate = 0.0
        self._losses: dict[str, float] = {}  # components by name
        self._done, self._words = 0, ""  # steps, and losses, as the log has them
        self._begun = self._said = time.monotonic()  # of the session, and of the last line

    def show(self, first: bool = True) -> Show:
        """The callbacks of a session. Where stderr is a file: lines, one a minute while it trains.

        first: whether this is the first of several processes; only that one prints.
        """
        if not first:
            return Show()
        if self.console.is_jupyter:
            return Show(say, self._begin, self._line, say, say)
        if not self.console.is_terminal:
            return Show(self._tell, self._begin, self._log, self._log_end, self._tell)
        return Show(self._tell, self._begin_bar, self._bar, self._end_bar, self._tell, self._work)

    def _tell(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)

    def _begin(self, step: int, steps: int, batch_size: int) -> None:
        self._steps, self._batch_size = steps, batch_size
        self._last, self._rate, self._losses = None, 0.0, {}  # a fork goes on from an earlier step
        self._begun = self._said = time.monotonic()

    def _log(self, rows: list[MetricsRow]) -> None:
        """A line a minute."""
        rate, loss = self._measure(rows)
        self._words = loss
        self._done, now = rows[-1].step + 1, time.monotonic()
        if now - self._said >= MINUTE:
            self._said = now
            left = (self._steps - self._done) * self._batch_size / max(self._rate, 1e-9)
            about = timedelta(seconds=round(min(left, 1e9)))
            self._tell(f"step {self._done:,} of {self._steps:,}, {rate}, {loss}, {about} left")

    def _log_end(self) -> None:
        if self._done:
            took = timedelta(seconds=round(time.monotonic() - self._begun))
            self._tell(f"step {self._done:,} of {self._steps:,} after {took}, {self._words}")
            self._done = 0

    def _line(self, rows: list[MetricsRow]) -> None:
        """One line that is written over. (rich's bar in a notebook needs ipywidgets.)"""
        rate, loss = self._measure(rows)
        line = f"step {rows[-1].step + 1} of {self._steps}  {rate}  {loss}"
        rewrite(line)

    def _work(self, what: str, done: int, total: int) -> None:
        """A bar for each piece of work on the data; between two, lines have the terminal to themselves."""
        if self._before is None:
            self._before = Bar(self.console)
            self._before.display.start()
        self._before.progress(what, done, total)
        if done >= total:
            self._end_work()

    def _end_work(self) -> None:
        if self._before is not None:
            self._before.display.stop()
            self._before = None

    def _begin_bar(self, step: int, steps: int, batch_size: int) -> None:
        from rich import progress

        self._begin(step, steps, batch_size)
        self._end_work()
        self._progress = progress.Progress(
            progress.TextColumn("step"),
            progress.MofNCompleteColumn(),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TextColumn("{task.fields[loss]}"),
            progress.TimeRemainingColumn(compact=True),
            progress.TextColumn("left"),
            console=self.console,
        )
        self._task = self._progress.add_task("step", total=steps, completed=step, rate="", loss="")
        self._progress.start()

    def _bar(self, rows: list[MetricsRow]) -> None:
        if self._progress is not None and self._task is not None:
            rate, loss = self._measure(rows)
            self._progress.update(self._task, completed=rows[-1].step + 1, rate=rate, loss=loss)

    def _end_bar(self) -> None:
        self._end_work()
        if self._progress is not None:
            self._progress.stop()

    def _measure(self, rows: list[MetricsRow]) -> tuple[str, str]:
        """Images a second and the loss components by name, both smoothed, in words."""
        step, now = rows[-1].step + 1, time.monotonic()
        if self._last and now > self._last[1]:
            rate = (step - self._last[0]) * self._batch_size / (now - self._last[1])
            self._rate = 0.7 * self._rate + 0.3 * rate if self._rate else rate
        self._last = step, now
        for row in rows:
            for name, value in row.components.items():
                self._losses[name] = 0.95 * self._losses.get(name, value) + 0.05 * value
        losses = [f"{name} {value:.4g}" for name, value in self._losses.items()]
        extra = rows[-1].extra
        holding = [name.removeprefix("verdict/") for name in extra if name.startswith("verdict/")]
        tried = [f"tries {name.removeprefix('remedy/')}" for name in extra if name.startswith("remedy/")]
        return f"{self._rate:.0f} images/s", ", ".join([*losses, *holding, *tried])
