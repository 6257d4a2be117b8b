"""The write protocol, in one place: a file is on disk whole or not at all, whatever happens meanwhile.

temporary in the same directory -> write -> flush -> fsync -> verify -> rename -> fsync of the directory

Every stage is announced by name just before it happens ("checkpoint.rename"), to a callable that does
nothing by default. A test passes one that raises or ends the process, and then opens what is left.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from safelight import files
from safelight.config import UserError

Announce = Callable[[str], None]
TEMPORARY = ".tmp-"  # what unfinished files and directories begin with; readers pass them over
WINDOWS = os.name == "nt"
DAY = 24 * 60 * 60.0  # seconds
MENDS = {
    errno.ENOSPC: "the disk is full; free some space, then resume",
    errno.EDQUOT: "the disk quota is used up; free some space, then resume",
    errno.EROFS: "the file system is read-only; choose another place with --runs",
    errno.EACCES: "permission denied; change its owner or mode, or choose another place with --runs",
    errno.EPERM: "permission denied; change its owner or mode, or choose another place with --runs",
    errno.ENOENT: "it or its directory is gone; put back what was moved or deleted",
    errno.ENOTDIR: "a part of this path is a file, not a directory; choose another place with --runs",
    errno.EEXIST: "is there already; move it away, or choose another place with --runs",
    errno.EIO: "the disk failed to read or write; check it, then resume",
}


def silence(stage: str) -> None:
    """The default listener: nobody wants to hear of `stage`."""


@contextmanager
def mendable(path: Path) -> Iterator[None]:
    """Turns the system's errors about `path` into a UserError of one line: path, what, mend."""
    try:
        yield
    except OSError as error:
        what = f"{error.strerror or error}; check the disk, then resume"
        what = str(error) if isinstance(error, files.Refused) else MENDS.get(error.errno or 0, what)
        raise UserError(f"{path}: {what}") from error


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with files.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_new(path: Path, data: bytes, announce: Announce = silence, name: str = "file") -> str:
    """Write a file that is not there yet, fsync it and read it back. Returns its SHA-256. Raises OSError.

    The directory is not fsynced and nothing is renamed: this is for files inside something temporary.
    Reading back is answered by the system's cache: it finds a short or garbled write, not a failing disk.
    That is found by whoever checks the hash on the next start.
    """
    announce(f"{name}.write")
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        announce(f"{name}.fsync")
        os.fsync(file.fileno())
    announce(f"{name}.verify")
    digest = hashlib.sha256(data).hexdigest()
    if sha256_of(path) != digest:
        raise OSError(errno.EIO, "read back differently from what was written")
    return digest


def publish(temporary: Path, path: Path, announce: Announce = silence, name: str = "file") -> None:
    """Give a finished temporary file or directory its name, durably. Raises OSError.

    An existing file is replaced; an existing directory is not, unless it is empty.
    """
    if temporary.is_dir():
        fsync_directory(temporary)
    announce(f"{name}.rename")
    os.replace(temporary, path)
    announce(f"{name}.directory")
    fsync_directory(path.parent)
    announce(f"{name}.done")


def write_bytes(path: Path, data: bytes, announce: Announce = silence, name: str = "file") -> None:
    """Replace a file, or make it, as a whole and durably. Raises UserError where the disk cannot."""
    with mendable(path):
        temporary = temporary_beside(path)
        try:
            write_new(temporary, data, announce, name)
            publish(temporary, path, announce, name)
        except OSError:
            with suppress(OSError):
                temporary.unlink()  # a full disk needs the space back
            raise


def append(descriptor: int, data: bytes | bytearray) -> None:
    """All of `data` at the end of an open file, or none of it. Raises OSError."""
    size = os.fstat(descriptor).st_size
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        os.ftruncate(descriptor, size)  # half a record must not stand before the next
        raise


def write_text(path: Path, text: str, announce: Announce = silence, name: str = "file") -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode(), announce, name)


def write_json(path: Path, value: Any, announce: Announce = silence, name: str = "file") -> None:
    """`write_bytes` of indented JSON. Raises ValueError for NaN and infinities, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n", announce, name)


def remove_tree(path: Path, announce: Announce = silence, name: str = "remove") -> None:
    """Delete a directory so that a crash never leaves half of it under its own name."""
    with mendable(path):
        doomed = temporary_beside(path)
        announce(f"{name}.rename")
        os.replace(path, doomed)
        fsync_directory(path.parent)
        announce(f"{name}.delete")
        shutil.rmtree(doomed)


def sweep(directory: Path, *, alone: bool = False, locked: bool = False, name: str = "") -> None:
    """Delete what killed processes left unfinished in a directory.

    alone: nobody else writes there, so that all of it goes; otherwise what a living process of this machine
    writes stays, and for a day what another machine may be writing. locked: it is a run whose lock is held
    here, so that what this process itself gave up goes, too; its folders are swept alike. name: of the file
    that was to be; of a user's folder nothing else goes, and only what a process began that is dead.
    """
    begins = f"{TEMPORARY}{name}-" if name else TEMPORARY
    with mendable(directory), suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(begins) and (alone or _is_left(entry, locked, bool(name))):
                with suppress(FileNotFoundError):  # somebody else sweeps, too
                    _delete(entry)
            elif locked and entry.is_dir(follow_symlinks=False):
                sweep(Path(entry.path), locked=True)


def _is_left(entry: os.DirEntry[str], locked: bool, known: bool) -> bool:
    """Whether nobody will finish a temporary file: its name says which process began it."""
    match = re.fullmatch(r".*-([0-9a-f]{8})-([0-9]{1,9})-[0-9a-f]{8}", entry.name)
    try:
        if match is None or match[1] != _machine():
            return not known and time.time() - entry.stat(follow_symlinks=False).st_mtime > DAY
        if locked and int(match[2]) == os.getpid():
            return True
        if WINDOWS:  # where os.kill would end it
            return time.time() - entry.stat(follow_symlinks=False).st_mtime > DAY
        os.kill(int(match[2]), 0)  # asks whether it lives
    except ProcessLookupError:
        return True
    except OSError:  # another user's process, or gone meanwhile
        pass
    return False


def _delete(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path)
    else:
        os.unlink(entry.path)


def temporary_beside(path: Path) -> Path:
    """A new name in the same directory, so that a rename never crosses a file system."""
    return path.with_name(f"{TEMPORARY}{path.name}-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}")


@cache
def _machine() -> str:
    """8 digits for the machine, or the container, within which a process number means one process."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.blake2b(f"{socket.gethostname()} {space}".encode(), digest_size=4).hexdigest()


def fsync_directory(path: Path) -> None:
    """Make renames inside a directory durable."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows cannot open a directory
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # what network disks without it answer
            raise
    finally:
        os.close(descriptor)
