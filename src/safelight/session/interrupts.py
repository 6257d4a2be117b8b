"""Ctrl-C and SIGTERM as wishes: the step in hand is finished and saved, then training stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from safelight.engine.loop import Signals


@contextmanager
def interrupts(signals: Signals, alone: bool) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask for a stop after the step in hand; a second Ctrl-C interrupts at once.

    alone: False among several processes. There the second one is passed over: a terminal sends Ctrl-C to all
    of them, and torchrun sends it to them once more. (It kills what has not ended 30 seconds later.)
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        signals.stop = True
        if alone:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
