"""One writer a run: a lock that the system releases when its process ends, however it ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safelight import files
from safelight.config import UserError
from safelight.store.durable import mendable, write_json
from safelight.store.journal import utc_now

LOCK = "lock"  # an empty file; the system holds the lock on it
OWNER = "owner.json"  # who holds it, or held it last
PATIENCE = 0.5  # seconds: a reader's glance at the lock lasts microseconds, a writer stays


@dataclass(frozen=True)
class Owner:
    """The process that writes a run, or wrote it last."""

    pid: int
    host: str
    since: str  # ISO 8601, UTC


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Hold a run as its one writer. Raises UserError naming the process that holds it already."""
    import filelock

    lock = filelock.FileLock(run / LOCK, timeout=PATIENCE, thread_local=False)
    with mendable(run / LOCK):
        if os.path.lexists(run / LOCK):
            files.opened(run / LOCK, links=False).close()  # filelock would empty what a link leads to
        try:
            lock.acquire()
        except filelock.Timeout:
            by = owner(run)
            name = f"process {by.pid} on {by.host} since {by.since}" if by else "another process"
            raise UserError(f"{run}: is being written by {name}; stop it first, or fork the run") from None
    try:
        write_json(run / OWNER, {"pid": os.getpid(), "host": socket.gethostname(), "since": utc_now()})
        yield
    finally:
        lock.release()


def is_held(run: Path) -> bool:
    """Whether a process writes the run now. Does not disturb the writer or another reader."""
    try:
        import fcntl
    except ImportError:  # Windows
        return _taken(run)
    try:
        with files.opened(run / LOCK, links=False) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # released by closing
    except BlockingIOError:
        return True
    except OSError:
        return False  # never held, or a disk without locks
    return False


def owner(run: Path) -> Owner | None:
    """Who holds the run, or held it last; None if nobody said."""
    try:
        fields = files.parse_json(files.read(run / OWNER, links=False))
        return Owner(int(fields["pid"]), str(fields["host"]), str(fields["since"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _taken(run: Path) -> bool:
    """`is_held` where the system has no shared locks: take the lock for a moment."""
    import filelock

    if not (run / LOCK).exists():
        return False
    try:
        with filelock.FileLock(run / LOCK, timeout=0):
            return False
    except filelock.Timeout:
        return True
