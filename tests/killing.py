"""Workers that are killed at random while something goes on."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")


def workers() -> list[int]:
    """Processes of this one in which torch works, so that a kill hits a task."""
    listed = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = [int(pid) for path in listed for pid in path.read_text().split()]
    return [pid for pid in pids if "libtorch_cpu" in Path(f"/proc/{pid}/maps").read_text()]


@contextmanager
def killing(count: int, seed: int = 3, seconds: tuple[float, float] = (1.0, 2.0)) -> Iterator[list[int]]:
    """Kill so many workers, one every few seconds; those that were killed."""
    draw, over, killed = random.Random(seed), threading.Event(), list[int]()

    def kill() -> None:
        while len(killed) < count and not over.wait(draw.uniform(*seconds)):
            for pid in draw.sample(there := workers(), min(1, len(there))):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()
