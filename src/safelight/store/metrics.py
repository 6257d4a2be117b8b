"""metrics-<session>.jsonl: one line a step, flat, under the names of the columns.

step, images, seconds, total, fingerprint, raw/<component>, lr/<network>, and further scalars by their names.
The first line says at which step the session starts: rows of earlier sessions from there on are superseded,
because they are derived again. A row may be lost to a power cut (it is flushed, not fsynced), never half
read: every line ends with "check", the checksum of the bytes before it. Lines of format 1.0 have none; a file
whose first line has one holds none of those. JSON has no NaN and no infinities: they are written as the
strings "nan", "inf" and "-inf".
"""

from __future__ import annotations

import json
import math
import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight import files
from safelight.config import UserError
from safelight.files import last_lines
from safelight.store.durable import Announce, append, mendable, silence, write_bytes
from safelight.store.journal import counts
from safelight.store.sealed import FORMAT, require_known

if TYPE_CHECKING:
    from numpy.typing import NDArray

Line = dict[str, Any]
CHECK = re.compile(rb',"check":"([0-9a-f]{16})"\}$')
FIXED = frozenset({"step", "images", "seconds", "total", "fingerprint"})  # every row has them
TAKEN = FIXED | {"start", "check"}
INTEGERS = ("step", "images")
SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True)
class MetricsRow:
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
        header = _sealed({"session": session, "start": start, "format": FORMAT})
        write_bytes(self._path, header, announce, "metrics")  # whole: it decides over other rows
        with mendable(self._path):
            self._file = self._path.open("ab", buffering=0)
        self._next = start

    def append(self, rows: Iterable[MetricsRow]) -> None:
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
            append(self._file.fileno(), data)
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
        return np.array([number(line.get(name, math.nan)) for line in lines], dtype=np.float64)

    return {name: column(name) for name in names}


def merged(run: Path) -> list[Line]:
    """The lines of a run as they stand on disk, merged over its sessions, by increasing step."""
    lines: list[Line] = []
    for path in session_files(run):
        with mendable(path):
            checked, start = header(path)
            parsed = [line for text in files.lines(path, links=False) if (line := parse_line(text, checked))]
        if start is None and parsed:
            start = parsed[0]["step"]
        if start is not None:
            del lines[bisect_left(lines, start, key=lambda line: int(line["step"])) :]
        after = -1 if start is None else start
        for line in parsed:
            if line["step"] >= after:  # of a damaged or crafted file not all are
                lines.append(line)
                after = line["step"] + 1
    return lines


def rows(run: Path) -> list[MetricsRow]:
    """The metrics of a run as they were recorded, merged over its sessions, by increasing step."""
    return [_row(line) for line in merged(run)]


def last_row(run: Path) -> MetricsRow | None:
    """The row of the last step of a run, None if there is none. Reads little more than the last row."""
    return next(_backwards(run, math.inf), None)


def last_rows(run: Path, count: int, before: float = math.inf) -> list[MetricsRow]:
    """The rows of the last `count` recorded steps before a step, by increasing step. Reads little more."""
    return list(islice(_backwards(run, before), count))[::-1]


def _backwards(run: Path, before: float) -> Iterator[MetricsRow]:
    """The rows of a run as `rows` merges them, from the last before a step to the first."""
    limit = before  # where the sessions that come later start
    for path in reversed(session_files(run)):
        with mendable(path):
            checked, start = header(path)
            for text in last_lines(path):
                line = parse_line(text, checked)
                if line is not None and (start or 0) <= line["step"] < limit:
                    yield _row(line)
                    limit = line["step"]
        if start is not None:
            limit = min(limit, start)


def reached(run: Path) -> int:
    """The first step that has never run in any session, by the rows on disk, superseded ones included.

    Where an edit of a resting run takes effect: the steps before it are derived again as they were.
    """
    steps = 0
    for path in session_files(run):
        with mendable(path):
            checked, _ = header(path)
            lines = (parse_line(text, checked) for text in last_lines(path))
            steps = max(steps, next((line["step"] + 1 for line in lines if line), 0))
    return steps


def session_files(run: Path) -> list[Path]:
    """Metrics files in the order of their sessions."""
    numbered = [(int(match[1]), path) for path in run.glob("metrics-*.jsonl")
                if (match := re.fullmatch(r"metrics-(\d{1,15})\.jsonl", path.name))]  # fmt: skip
    return [path for _, path in sorted(numbered)]


def header(path: Path) -> tuple[bool, int | None]:
    """Whether the rows of a file have checksums, and the first step of its session; None where that is lost.

    Raises OSError, and UserError for a newer format.
    """
    text = next(files.lines(path, links=False), b"")
    line = _parsed(text, checked=b'"check":' in text)
    if line is None or not counts(line.get("start")):
        return False, None
    require_known(path, line)
    return "check" in line, line["start"]


def parse_line(text: bytes, checked: bool) -> Line | None:
    """A row; None for a first line, and for what is torn or damaged. checked: it has to have a checksum."""
    line = _parsed(text, checked)
    if line is None or not line.keys() >= FIXED:
        return None
    line.pop("check", None)
    sound = counts(line["step"]) and counts(line["images"]) and isinstance(line["fingerprint"], str)
    sound = sound and all(_is_number(value) for name, value in line.items() if name != "fingerprint")
    return line if sound else None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) or (isinstance(value, str) and value in SPECIAL)


def _parsed(text: bytes, checked: bool) -> Line | None:
    """The object of a line. A checksum that is there has to fit."""
    match = CHECK.search(text)
    if (checked and not match) or (match and match[1] != checksum(text[: match.start()])):
        return None
    try:
        line = files.parse_json(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _sealed(line: Line) -> bytes:
    """A line with its checksum, and its newline."""
    text = json.dumps(line, separators=(",", ":")).encode()[:-1]
    return text + b',"check":"' + checksum(text) + b'"}\n'


def checksum(text: bytes) -> bytes:
    """What a line is sealed with: 16 hexadecimal digits of the bytes before the seal."""
    return blake2b(text, digest_size=8).hexdigest().encode()


def number(value: Any) -> float:
    return SPECIAL.get(value, math.nan) if isinstance(value, str) else float(value)


def _encode(row: MetricsRow) -> bytes:
    line: Line = {"step": row.step, "images": row.images, "seconds": row.seconds, "total": row.total}
    line |= {f"raw/{name}": value for name, value in row.components.items()}
    line |= {f"lr/{name}": value for name, value in row.lr.items()}
    if taken := [name for name in row.extra if name in TAKEN or name.startswith(("raw/", "lr/"))]:
        raise ValueError(f"metrics {taken} have a meaning of their own")
    line |= row.extra
    strict = {name: value if math.isfinite(value) else str(float(value)) for name, value in line.items()}
    return _sealed({**strict, "fingerprint": row.fingerprint})


def _row(line: Line) -> MetricsRow:
    """A line as a Row; "raw/" and "lr/" tell components and learning rates from further scalars."""
    values = {name: number(value) for name, value in line.items() if name not in FIXED}

    def within(prefix: str) -> dict[str, float]:
        return {
            name.removeprefix(prefix): values.pop(name) for name in list(values) if name.startswith(prefix)
        }

    return MetricsRow(
        step=line["step"],
        components=within("raw/"),
        total=number(line["total"]),
        lr=within("lr/"),
        images=line["images"],
        seconds=number(line["seconds"]),
        fingerprint=line["fingerprint"],
        extra=values,
    )
