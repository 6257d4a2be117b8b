"""What a session shows while it goes on. The default is quiet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from safelight.data.source import Progress
from safelight.store.metrics import MetricsRow
from safelight.types import Tell


@dataclass(frozen=True)
class Show:
    """How a session tells the user what it does. The default is quiet."""

    tell: Tell = lambda line: None  # one line
    begin: Callable[[int, int, int], None] = lambda step, steps, batch_size: None
    rows: Callable[[list[MetricsRow]], None] = lambda rows: None  # metrics, every half second or so
    end: Callable[[], None] = lambda: None
    warn: Tell = lambda line: None  # one line that should not be missed, also where only a log is kept
    progress: Progress | None = None  # of work on data, before the first step; None: told in lines
