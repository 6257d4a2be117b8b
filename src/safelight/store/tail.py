"""The end of a file of lines, without reading what comes before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safelight import files

BLOCK = 1 << 14  # bytes read at a time, from the end


def last_lines(path: Path) -> Iterator[bytes]:
    """Lines from the last to the first, without their newlines; a torn last line is among them. Of one
    that is longer than any can be there is only a part, which says nothing.

    Reads only as much as the caller takes. Raises OSError.
    """
    with files.opened(path, links=False) as file:
        position = file.seek(0, 2)
        rest = b""
        while position > 0:
            begin = max(position - BLOCK, 0)
            file.seek(begin)
            first, *lines = (file.read(position - begin) + rest).split(b"\n")
            yield from (line for line in reversed(lines) if line)
            position, rest = begin, first if len(first) <= files.LONGEST else b"\0"  # no line: damage
        if rest:
            yield rest
