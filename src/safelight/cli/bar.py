"""A progress bar for one long piece of work after another; in a log, a line every half minute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from safelight.terminal import console, paced, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from safelight.terminal import Console


class RateColumn(ProgressColumn):
    """How much is done a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


class Bar:
    """A bar for each piece of work, gone when that is done. Silent where the console is no terminal."""

    def __init__(self, console: Console) -> None:
        self.shown = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def progress(self, what: str, done: int, total: int) -> None:
        """What is being done, how much of it is done, and of how much."""
        if what not in self._tasks:
            self._tasks[what] = self.shown.add_task(plain(what), total=total, completed=done)
        self.shown.update(self._tasks[what], completed=done, total=total, visible=done < total)


@contextmanager
def bar() -> Iterator[tuple[Callable[[str], None], Callable[[str, int, int], None]]]:
    """(tell, progress): one takes a line, the other what is being done, how much of it, and of how much."""
    out = console(err=True)
    bars = Bar(out)
    with bars.shown:
        tell = partial(out.print, soft_wrap=True)
        yield tell, bars.progress if out.is_terminal else paced(tell, at_once=False)
