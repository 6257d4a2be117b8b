"""The same tasks on processes of this machine, on a Ray cluster, or on Slurm.

A task is a function of a module with plain arguments and a small result. Where its process dies it is run
again, elsewhere, so it goes on from what is on the disk: a checkpoint, a frame, an evaluation. That disk is
one that every worker sees at the same path. A pool is an `Executor` of the standard library.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from safelight.config import UserError
from safelight.store.durable import mendable
from safelight.terminal import Progress

TRIES = 5  # processes that may die on one task before it is given up
POLL = 1.0  # seconds between two looks at what tasks have left on the disk


class Pool(Protocol):
    """What is needed of an `Executor`, and how many tasks it runs at once."""

    size: int

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]: ...


@contextmanager
def pool(
    on: str, tasks: int, *folders: Path, threads: int | None = None, device: str = "auto", tries: int = 0
) -> Iterator[Pool]:
    """Open the pool that `on` names: local, local:4, ray, ray://HOST:10001 or slurm. Raises UserError.

    tasks: as many as will be submitted at once, beyond which no process is started. folders: that every
    worker has to see. threads: of each task, on which its bits depend; by default local processes share the
    cores evenly, others have one. device: of the tasks; "auto" and "cuda" give each a card. tries: processes
    that may die on one task, TRIES by default. On leaving with an error or Ctrl-C what waits is cancelled,
    and what runs is stopped as by SIGTERM.
    """
    kind, count, place = _read(on)
    tries = tries or TRIES
    marks = [folder.absolute() / f".seen-{uuid4().hex}" for folder in folders] if kind != "local" else []
    for mark in marks:
        with mendable(mark):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
    made: Any  # an Executor with its size
    if kind == "local":
        from safelight.fanout.local import LocalPool

        made = LocalPool(count, tasks, threads, device, tries)
    elif kind == "ray":
        from safelight.fanout.on_ray import RayPool

        made = RayPool(place, marks, threads or 1, device, tries)
    else:
        from safelight.fanout.on_slurm import SlurmPool

        made = SlurmPool(place, marks, threads or 1, device, tries)
    try:
        yield made
    except BaseException:
        made.shutdown(wait=True, cancel_futures=True)
        raise
    else:
        made.shutdown()
    finally:
        for mark in marks:
            mark.unlink(missing_ok=True)


def each(
    pool: Pool, function: Callable[..., Any], tasks: Sequence[Sequence[Any]], *, what: str = "",
    progress: Progress = lambda what, done, total: None, seen: Callable[[], tuple[int, int]] | None = None,
) -> Iterator[tuple[int, Any]]:  # fmt: skip
    """(place, result) of every task as it ends; the first that fails raises what it raised.

    what: is being done, for `progress`. seen: what of it is done and of how much, from the disk; by default
    tasks are counted.
    """
    places = {pool.submit(function, *arguments): place for place, arguments in enumerate(tasks)}
    waiting, ended = set(places), 0
    while waiting:
        progress(what, *(seen() if seen else (ended, len(tasks))))
        done, waiting = wait(waiting, POLL, FIRST_COMPLETED)
        for future in sorted(done, key=places.__getitem__):
            ended += 1
            yield places[future], future.result()
    progress(what, *(seen() if seen else (ended, len(tasks))))


def in_order(
    pool: Pool, function: Callable[..., Any], tasks: Iterator[Sequence[Any]], ahead: int = 2
) -> Iterator[Any]:
    """The results of tasks in their order, `ahead` times as many being made or held as the pool runs."""
    futures: list[Future[Any]] = []
    for arguments in tasks:
        futures.append(pool.submit(function, *arguments))
        if len(futures) >= ahead * pool.size:
            yield futures.pop(0).result()
    for future in futures:
        yield future.result()


def call(
    function: Callable[..., Any], arguments: Sequence[Any], threads: int, marks: Sequence[Path] = ()
) -> Any:
    """Run a task in this process. Raises UserError where this machine does not see a file of the first one.

    threads: where torch was imported before this process could be given its number.
    """
    if unseen := [mark.parent for mark in marks if not mark.exists()]:
        raise UserError(
            f"{unseen[0]}: {socket.gethostname()} does not see it; put the runs on a disk that every "
            "worker mounts at the same path, with --runs or $SAFELIGHT_RUNS"
        )
    if "torch" in sys.modules:
        import torch

        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
    return function(*arguments)


def stated_threads() -> int | None:
    """The threads that --threads or $SAFELIGHT_THREADS states."""
    text = os.environ.get("SAFELIGHT_THREADS", "")
    return int(text) if text.isdecimal() and int(text) else None


def environment(threads: int) -> dict[str, str]:
    """The environment of a process that has so many threads."""
    number = str(threads)
    ours = {name: value for name, value in os.environ.items() if name.startswith("SAFELIGHT_")}
    return ours | {"OMP_NUM_THREADS": number, "SAFELIGHT_THREADS": number}


def given_up(tries: int) -> UserError:
    """Of a task that no process survives."""
    return UserError(
        f"a worker ended unexpectedly {tries} times on one task; if memory ran out, use fewer workers, such "
        'as --on local:1 (a script calls this under if __name__ == "__main__")'
    )


def _read(on: str) -> tuple[str, int | None, str]:
    """Kind, number of local processes, and address or cluster. Raises UserError."""
    if match := re.fullmatch(r"local|(?:local:)?(\d{1,4})", on):
        if match[1] and not int(match[1]):
            raise UserError(f"--on {on}: needs 1 process or more")
        return "local", int(match[1]) if match[1] else None, ""
    if on == "ray" or re.fullmatch(r"ray://[^/\s]+", on):
        return "ray", None, on if "//" in on else ""
    if match := re.fullmatch(r"slurm(?::(\w+))?", on):
        return "slurm", None, match[1] or "slurm"
    raise UserError(f"--on {on}: is not a place; use local, local:4, ray, ray://HOST:10001 or slurm")
