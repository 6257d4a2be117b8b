"""The door to the terminal. Names, classes, captions and recipes come from strangers: nothing passes raw."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from unicodedata import category

if TYPE_CHECKING:
    from rich.console import Console as Console
    from rich.console import RenderableType
    from rich.progress import Task, TaskID
    from rich.table import Table

Tell = Callable[[str], None]
Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, and of how much

PATIENCE = 30.0  # seconds between two lines about the same long work
HIDING = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, formats (bidirectional ones too), surrogates, separators
JOINERS = "\u200c\u200d"  # Persian and Devanagari are spelt with them, and emoji


def plain(text: object) -> str:
    r"""One line of visible text: what would move, hide or reorder it is spelt out, as \x1b or \u202e."""
    words = str(text)
    return words if words.isprintable() else "".join(map(_visible, words))


def _visible(character: str) -> str:
    if category(character) not in HIDING or character in JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")


def say(*lines: object, err: bool = False) -> None:
    """Print each on one line of its own, whatever it holds."""
    print(*map(plain, lines), sep="\n", file=sys.stderr if err else sys.stdout, flush=True)


def rewrite(line: str) -> None:
    """Write over the line that was written last, in a notebook."""
    print(f"\r{plain(line):60}", end="", flush=True)


def paced(tell: Tell, at_once: bool = True) -> Progress:
    """Progress (what, done, of how much) as lines: every half minute, with rate and time left.

    at_once: a line as soon as something new begins, too.
    """
    begun: dict[str, tuple[float, int]] = {}
    last = 0.0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if what not in begun:
            begun[what], last = (now, done), now
            if at_once:
                tell(what)
        elif now - last > PATIENCE:
            last, (start, before) = now, begun[what]
            rate = max(done - before, 1) / (now - start)
            left = timedelta(seconds=round((total - done) / rate))
            tell(f"{what}: {done:,} of {total:,}, {rate:,.0f}/s, {left} left")

    return progress


def console(err: bool = False, **options: Any) -> Console:
    """rich's console, which prints a string as one line of plain text, without markup and emoji."""
    return _door()(stderr=err, markup=False, emoji=False, highlight=False, **options)


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> Table:
    """A table without lines. right: titles of the columns of numbers."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False)
    for title in titles:
        drawn.add_column(plain(title), justify="right" if title in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*map(plain, row))
    return drawn


@cache
def _door() -> type[Console]:
    """rich is imported by those who need it: --help stays instant."""
    from rich import console, segment

    class Door(console.Console):
        def print(self, *objects: Any, **options: Any) -> None:
            super().print(*(plain(item) if isinstance(item, str) else item for item in objects), **options)

        def render(
            self, renderable: RenderableType, options: console.ConsoleOptions | None = None
        ) -> Iterable[segment.Segment]:
            """Styles are added to segments after this, so that an escape in one was in the text."""
            for part in super().render(renderable, options):
                text = part.text if part.control else "\n".join(map(plain, part.text.split("\n")))
                yield part if text == part.text else segment.Segment(text, part.style)

    return Door


def messages() -> tuple[Tell, Tell]:
    """(tell, warn), to stderr: both take a line; in a log `tell` is silent and `warn` is not."""
    out = console(err=True)
    warn = partial(out.print, soft_wrap=True)
    return warn if out.is_terminal else lambda line: None, warn


class Bar:
    """A bar for each piece of work, removed when that is done. Silent where the console is no terminal."""

    def __init__(self, console: Console) -> None:
        from rich import progress
        from rich.text import Text

        class RateColumn(progress.ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(f"{task.speed:,.0f}/s" if task.speed else "")

        self.display = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            RateColumn(),
            progress.TimeRemainingColumn(compact=True),
            progress.TextColumn("left"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def progress(self, what: str, done: int, total: int) -> None:
        """What is being done, how much of it is done, and of how much."""
        if what not in self._tasks:
            self._tasks[what] = self.display.add_task(plain(what), total=total, completed=done)
        self.display.update(self._tasks[what], completed=done, total=total, visible=done < total)


@contextmanager
def bar() -> Iterator[tuple[Tell, Progress]]:
    """(tell, progress), to stderr: a bar for each piece of work; in a log, a line every half minute."""
    out = console(err=True)
    bars = Bar(out)
    with bars.display:
        tell = partial(out.print, soft_wrap=True)
        yield tell, bars.progress if out.is_terminal else paced(tell, at_once=False)
