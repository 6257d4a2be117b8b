"""metrics-<session>.jsonl: one line a step, flat, under the names of the columns.

step, images, seconds, total, fingerprint, raw/<component>, lr/<network>, and further scalars by their names.
The first line says at which step the session starts: rows of earlier sessions from there on are superseded,
because they are derived again. A row may be lost to a power cut (it is flushed, not fsynced), never half
read. JSON has no NaN and no infinities: they are written as the strings "nan", "inf" and "-inf".
"""

from __future__ import annotations

import json
import math
import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.config import UserError
from safelight.store.durable import Announce, mendable, silence, write_bytes
from safelight.store.tail import last_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

Line = dict[str, Any]
FIXED = frozenset({"step", "images", "seconds", "total", "fingerprint"})  # every row has them
INTEGERS = ("step", "images")
SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True)
class Row:
    """What is known of one step."""

    step: int  # from 0: the state after it has step + 1 steps behind it
    components: Mapping[str, float]  # raw: unweighted means over the batch
    total: float
    lr: Mapping[str, float]  # by network
    images: int  # seen since step 0
    seconds: float  # this step took
    fingerprint: str  # of the weights after the step
    extra: Mapping[str, float] = field(default_factory=dict)  # by column name


class MetricsWriter:
    """The writer of one session's metrics; hold the run's lock. Use as a context manager, or close it.

    start: the first step of the session. Raises UserError where the disk cannot.
    """

    def __init__(self, run: Path, session: int, start: int, announce: Announce = silence) -> None:
        self._path = run / f"metrics-{session:04d}.jsonl"
        if self._path.exists():
            raise UserError(f"{self._path}: exists, but the journal has no such session; move the file away")
        header = json.dumps({"session": session, "start": start}) + "\n"
        write_bytes(self._path, header.encode(), announce, "metrics")  # whole: it decides over other rows
        with mendable(self._path):
            self._file = self._path.open("ab", buffering=0)
        self._next = start

    def append(self, rows: Iterable[Row]) -> None:
        """Write rows through to the system, all or none. Raises UserError where the disk cannot.

        Raises ValueError unless steps increase from the start of the session.
        """
        data = bytearray()
        after = self._next
        for row in rows:
            if row.step < after:
                raise ValueError(f"metrics of step {row.step} come after those of step {after - 1}")
            after = row.step + 1
            data += _encode(row)
        with mendable(self._path):
            size = os.fstat(self._file.fileno()).st_size
            try:
                written = 0
                while written < len(data):
                    written += self._file.write(data[written:]) or 0
            except OSError:
                self._file.truncate(size)  # half a line must not stand before the next one
                raise
        self._next = after

    def sync(self) -> None:
        """Make the rows so far durable, for example before the checkpoint that makes them final."""
        with mendable(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read(run: Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """The metrics of a run as columns of one length, merged over its sessions, by increasing step.

    names: the columns wanted, all by default. A value that a step does not have is NaN. "step" and "images"
    are int64, "fingerprint" is a string, everything else float64.
    """
    import numpy as np

    lines = merged(run)
    if names is None:
        names = list(dict.fromkeys(name for line in lines for name in line))

    def column(name: str) -> NDArray[Any]:
        if name == "fingerprint":
            return np.array([line.get(name, "") for line in lines], dtype=np.str_)
        if name in INTEGERS:
            return np.array([line[name] for line in lines], dtype=np.int64)
        return np.array([_number(line.get(name, math.nan)) for line in lines], dtype=np.float64)

    return {name: column(name) for name in names}


def merged(run: Path) -> list[Line]:
    """The lines of a run as they stand on disk, merged over its sessions, by increasing step."""
    lines: list[Line] = []
    for path in _files(run):
        with mendable(path):
            parsed = [line for text in path.read_bytes().split(b"\n") if (line := _line(text)) is not None]
        if parsed:
            del lines[bisect_left(lines, _start(parsed[0]), key=lambda line: int(line["step"])) :]
            lines += [line for line in parsed if "step" in line]
    return lines


def rows(run: Path) -> list[Row]:
    """The metrics of a run as they were recorded, merged over its sessions, by increasing step."""
    return [_row(line) for line in merged(run)]


def last_row(run: Path) -> Row | None:
    """The row of the last step of a run, None if there is none. Reads little more than the last row."""
    return next(_backwards(run, math.inf), None)


def last_rows(run: Path, count: int, before: float = math.inf) -> list[Row]:
    """The rows of the last `count` recorded steps before a step, by increasing step. Reads little more."""
    return list(islice(_backwards(run, before), count))[::-1]


def _backwards(run: Path, before: float) -> Iterator[Row]:
    """The rows of a run as `rows` merges them, from the last before a step to the first."""
    limit = before  # where the sessions that come later start
    for path in reversed(_files(run)):
        with mendable(path):
            for text in last_lines(path):
                line = _line(text)
                if line is not None and "step" in line and line["step"] < limit:
                    yield _row(line)
            with path.open("rb") as file:
                first = next((line for text in file if (line := _line(text)) is not None), None)
        if first is not None:
            limit = min(limit, _start(first))


def reached(run: Path) -> int:
    """The first step that has never run in any session, by the rows on disk, superseded ones included.

    Where an edit of a resting run takes effect: the steps before it are derived again as they were.
    """
    steps = 0
    for path in _files(run):
        with mendable(path):
            lines = (_line(text) for text in last_lines(path))
            steps = max(steps, next((line["step"] + 1 for line in lines if line and "step" in line), 0))
    return steps


def _files(run: Path) -> list[Path]:
    """Metrics files in the order of their sessions."""
    numbered = [(int(found[1]), path) for path in run.glob("metrics-*.jsonl")
                if (found := re.fullmatch(r"metrics-(\d+)\.jsonl", path.name))]  # fmt: skip
    return [path for _, path in sorted(numbered)]


def _line(text: bytes) -> Line | None:
    """A first line or a row; None for what is torn or damaged."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    if not isinstance(line, dict):
        return None
    whole = "start" in line or line.keys() >= FIXED
    return line if whole and isinstance(_start(line), int) else None


def _start(line: Line) -> int:
    """The first step of a session by its first line, or by its first row where that line is damaged."""
    return line["start"] if "start" in line else line["step"]  # type: ignore[no-any-return]


def _number(value: Any) -> float:
    return SPECIAL.get(value, math.nan) if isinstance(value, str) else float(value)


def _encode(row: Row) -> bytes:
    line: Line = {"step": row.step, "images": row.images, "seconds": row.seconds, "total": row.total}
    line |= {f"raw/{name}": value for name, value in row.components.items()}
    line |= {f"lr/{name}": value for name, value in row.lr.items()}
    if taken := [name for name in row.extra if name in FIXED | {"start"} or name.startswith(("raw/", "lr/"))]:
        raise ValueError(f"metrics {taken} have a meaning of their own")
    line |= row.extra
    strict = {name: value if math.isfinite(value) else str(float(value)) for name, value in line.items()}
    return json.dumps({**strict, "fingerprint": row.fingerprint}, separators=(",", ":")).encode() + b"\n"


def _row(line: Line) -> Row:
    """A line as a Row; "raw/" and "lr/" tell components and learning rates from further scalars."""
    values = {name: _number(value) for name, value in line.items() if name not in FIXED}

    def within(prefix: str) -> dict[str, float]:
        return {
            name.removeprefix(prefix): values.pop(name) for name in list(values) if name.startswith(prefix)
        }

    return Row(
        step=line["step"],
        components=within("raw/"),
        total=_number(line["total"]),
        lr=within("lr/"),
        images=line["images"],
        seconds=_number(line["seconds"]),
        fingerprint=line["fingerprint"],
        extra=values,
    )
