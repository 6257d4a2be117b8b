"""The one door to files that somebody else may have made: regular files only, and no more than a limit.

A pipe never answers, a device never ends, a link may lead to any file of this machine. Everything here raises
OSError; whoever calls names the file, as `store.durable.mendable` does.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

SMALL = 64 << 20  # bytes of a file that is read whole: a recipe, a record
LONGEST = 1 << 20  # bytes of a line
BLOCK = 1 << 14  # bytes read at a time from the end of a file
MOST = 10**15  # steps and images: beyond it a number is damage, and counting to it never ends
KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a link"}


class Refused(OSError):
    """What is there is no file to be read; the message says why, without its path."""


def opened(path: str | Path, links: bool = True) -> BufferedReader:
    """A regular file, for reading. links: whether the last part of the path may be a link.

    Raises OSError: `Refused` for anything but a file, at once.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags | (0 if links else getattr(os, "O_NOFOLLOW", 0)))
    except ValueError as error:
        raise Refused(f"is no file name ({error})") from error
    except OSError as error:
        if error.errno == errno.ELOOP and not links:
            raise Refused(
                "is a link, which is not followed here; put the file itself in its place"
            ) from error
        if error.errno == errno.ENXIO:
            raise Refused("is a socket or device, not a file") from error
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise Refused(f"is {kind(mode)}, not a file")
    return os.fdopen(descriptor, "rb")


def read(path: str | Path, limit: int = SMALL, links: bool = True) -> bytes:
    """All bytes of a regular file. Raises OSError: `Refused` where there are more than `limit`."""
    with opened(path, links) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise Refused(f"is larger than the {limit:,} bytes that such a file may have")
        return file.read(size)  # makes a buffer of that length at once; what a writer adds meanwhile is left


def _end(file: BufferedReader) -> int:
    """Where the data of a file end: at its first hole, which no writer of lines leaves, or at its size."""
    size = file.seek(0, 2)
    if size > LONGEST and hasattr(os, "SEEK_HOLE"):
        with suppress(OSError):  # of a file system that knows of none
            return os.lseek(file.fileno(), 0, os.SEEK_HOLE)
    return size


def lines(path: str | Path, links: bool = True) -> Iterator[bytes]:
    """The lines of a regular file, without their newlines; empty in place of one that is too long.

    A file made longer than its data, of which the rest is a hole, ends where its data do.
    """
    with opened(path, links) as file:
        end = _end(file)
        file.seek(0)
        while file.tell() < end and (text := file.readline(LONGEST)):
            whole = len(text) < LONGEST or text.endswith(b"\n")
            yield text.removesuffix(b"\n") if whole else b""
            while file.tell() < end and len(text) == LONGEST and not text.endswith(b"\n"):
                text = file.readline(LONGEST)


def last_lines(path: Path) -> Iterator[bytes]:
    """Lines from the last to the first, without their newlines; a torn last line is among them. Of one
    that is longer than any can be there is only a part, which says nothing.

    Reads only as much as the caller takes. Raises OSError.
    """
    with opened(path, links=False) as file:
        position = _end(file)
        rest = b""
        while position > 0:
            begin = max(position - BLOCK, 0)
            file.seek(begin)
            first, *lines = (file.read(position - begin) + rest).split(b"\n")
            yield from (line for line in reversed(lines) if line)
            position, rest = begin, first if len(first) <= LONGEST else b"\0"  # no line: damage
        if rest:
            yield rest


def parse_json(text: str | bytes) -> Any:
    """JSON as Python has it. Raises ValueError, also for what is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def to_json(value: Any, indent: int | None = None) -> str:
    """A value as JSON, in ASCII; a number that is not finite is null, which JSON has instead."""
    return json.dumps(_finite(value), indent=indent, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value


def kind(mode: int) -> str:
    """What a file's mode says it is, in words."""
    return KINDS.get(stat.S_IFMT(mode), "a file" if stat.S_ISREG(mode) else "a device")
