"""A film, a replay, an evaluation and a sweep on 1, 2 and 4 local processes, and a simulation of 100 workers.

    python benchmarks/fanout.py [FOLDER] [--steps 200] [--workers 1 2 4]

Seconds, and processor seconds of all processes together: where other programs share the cores, the latter say
what fanning out costs, and the former little. Efficiency is the seconds in this process, divided by those of
n workers times n. Results are asserted to be equal. The simulation takes what was measured here.
"""

from __future__ import annotations

import argparse
import heapq
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safelight as sl
from safelight.fanout import each, pool

SMALL: dict[str, Any] = {
    "network.width": 16, "train.precision": "fp32", "train.memory_format": "contiguous", "watch.every": 10**6,
    "watch.epochs": [], "check.before_training": False, "monitor.warmup": 0.99,
}  # fmt: skip
DISK = 1e9  # bytes a second that a shared disk gives to all workers together, stated, not measured
IMPORTS = (
    0.5e9  # bytes of Python and torch that a process reads when it starts cold: `du` of torch's libraries
)


def clock() -> tuple[float, float]:
    """Seconds, and processor seconds of this process and of those that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.monotonic(), sum(one.ru_utime + one.ru_stime for one in used)


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, processor seconds, result."""
    begun, result = clock(), work()
    ended = clock()
    return ended[0] - begun[0], ended[1] - begun[1], result


def simulated(tasks: int, seconds: float, workers: int, start: float, head: float, read: float) -> float:
    """Seconds until all tasks have ended.

    seconds: of a task. start: of a process, once it has read `read` bytes from the disk that all share. head:
    seconds of the driver for each task, one after another.
    """
    busy = min(workers, tasks)
    ready = start + read * busy / DISK
    free, given, last = [ready] * busy, 0.0, 0.0
    for _ in range(tasks):
        given += head
        ends = max(heapq.heappop(free), given) + seconds
        heapq.heappush(free, ends)
        last = max(last, ends)
    return last


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", default=tempfile.mkdtemp(prefix="safelight-fanout-"), type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    given = parser.parse_args()
    folder, steps = Path(given.folder), given.steps
    run = sl.train("digits-class", {**SMALL, "train.steps": steps, "checkpoint.every": steps // 8},
                   name="run", runs=folder)  # fmt: skip

    def film(on: str | None) -> Any:
        out = folder / f"film-{on}"
        return sl.film(run, [f"{steps}.1"], out, begin=1, every=2, changes={"sample.steps": 4}, on=on).sources

    def sweep(on: str | None) -> Any:
        words = [f"{key}={value}".replace("'", '"') for key, value in SMALL.items()]
        words += [f"train.steps={steps // 4}", f"checkpoint.every={steps}"]
        done, _ = sl.sweep("digits-class", words, seeds=4, on=on, runs=folder / f"sweep-{on}")
        return [sl.open_run(cell.name, runs=folder / f"sweep-{on}").digest for cell in done.cells]

    works: dict[str, Callable[[str | None], Any]] = {
        "film": film,
        "replay": lambda on: sl.replay(run, steps, begin=0, on=on),
        "evaluate": lambda on: run.evaluate(2000, "random", how={"sample.steps": 4}, on=on),
        "sweep": sweep,
    }
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {steps} steps\n")
    heads = [f"{count} workers" for count in given.workers]
    print("| seconds (processor seconds), efficiency | here | " + " | ".join(heads) + " |")
    print("|---" * (2 + len(heads)) + "|")
    for name, work in works.items():
        alone, used, result = timed(lambda work=work: work(None))  # type: ignore[misc]
        cells = [f"{alone:.1f} ({used:.1f})"]
        for count in given.workers:
            seconds, processor, there = timed(lambda work=work, count=count: work(f"local:{count}"))  # type: ignore[misc]
            assert there == result, (name, count)
            cells.append(f"{seconds:.1f} ({processor:.1f}), {alone / seconds / count:.0%}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    with pool("local:1", 1, folder, threads=1) as workers:
        start, used, _ = timed(lambda: workers.submit(_opened, folder / "run").result())
        empty, _, _ = timed(lambda: list(each(workers, abs, [(1,)] * 200)))
    head = empty / 200
    print(f"\na process until it has opened a run: {start:.1f} s; the driver, a task: {head * 1e3:.1f} ms")
    print("\n| simulated: tasks x seconds | 1 | 10 | 100 workers | of these: imports from the disk | head |")
    print("|---" * 6 + "|")
    for tasks, seconds in ((100, 60.0), (100, 3600.0), (10_000, 1.0)):
        results = [simulated(tasks, seconds, count, start, head, IMPORTS) for count in (1, 10, 100)]
        shown = " | ".join(f"{seconds * tasks / count / taken:.0%}"
                           for count, taken in zip((1, 10, 100), results, strict=True))  # fmt: skip
        print(
            f"| {tasks:,} x {seconds:g} s | {shown} | {IMPORTS * 100 / DISK:.0f} s | {head * tasks:.1f} s |"
        )


def _opened(path: Path) -> str:
    return sl.open_run(path).model.precision


if __name__ == "__main__":
    main()
