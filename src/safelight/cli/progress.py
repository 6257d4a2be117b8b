"""The progress bar of training: step, images a second, loss, time left. Silent where nobody watches."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from safelight.session.train import Show
    from safelight.store.metrics import Row


class TrainingProgress:
    """What a session shows on a terminal; give `show` to the session."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._batch_size = 0
        self._last: tuple[int, float] | None = None  # step and time of the newest row
        self._rate = 0.0
        self._loss = 0.0

    def show(self, first: bool = True) -> Show:
        """The callbacks of a session; those of a quiet one where stderr is no terminal.

        first: whether this is the first of several processes, which speaks for all.
        """
        from safelight.session.train import Show

        if not (first and self.console.is_terminal):
            return Show()
        return Show(self._tell, self._begin, self._rows, self._end)

    def _tell(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)

    def _begin(self, step: int, steps: int, batch_size: int) -> None:
        self._batch_size = batch_size
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
        )
        self._task = self._progress.add_task("step", total=steps, completed=step, rate="", loss="")
        self._progress.start()

    def _rows(self, rows: list[Row]) -> None:
        if self._progress is None or self._task is None:
            return
        step, now = rows[-1].step + 1, time.monotonic()
        if self._last and now > self._last[1]:
            rate = (step - self._last[0]) * self._batch_size / (now - self._last[1])
            self._rate = 0.7 * self._rate + 0.3 * rate if self._rate else rate
        self._last = step, now
        for row in rows:
            self._loss = 0.95 * self._loss + 0.05 * row.total if self._loss else row.total
        self._progress.update(
            self._task, completed=step, rate=f"{self._rate:.0f} images/s", loss=f"loss {self._loss:.4g}"
        )

    def _end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
