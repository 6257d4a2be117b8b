"""Time budgets: a check says how long it may take, and what it leaves out for time is told."""

from __future__ import annotations

import time


class OutOfTime(Exception):
    """What is left of a check would take longer than it may. The words say what was left out."""


class NotTold(Exception):
    """From outside nothing can be said: the method or network has another form. The words say which."""


class Clock:
    """Seconds that are left of a check's budget."""

    def __init__(self) -> None:
        self.begin(float("inf"))

    def begin(self, seconds: float) -> None:
        """A new budget."""
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.perf_counter()

    def afford(self, seconds: float, what: str) -> None:
        """Raises OutOfTime where so much is not left."""
        if seconds > self.left:
            raise OutOfTime(f"{what}: would take {seconds:.0f} s, {max(self.left, 0):.0f} s are left")
