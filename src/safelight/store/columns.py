"""The metrics of a run as arrays that grow with it: parsed once, then from where the file ended.

100,000 rows of 18 columns take half a second of processor time the first time, and little memory: rows are
parsed a block at a time. Bins keep the smallest and the largest value, so that no spike is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from safelight import files
from safelight.store import metrics
from safelight.store.durable import mendable
from safelight.store.metrics import FIXED, Line

BLOCK = 1 << 22  # bytes parsed at a time
SEAL = len(b',"check":"0123456789abcdef"}')
TEXTS = ("fingerprint", "check")

Series = NDArray[np.float64]


@dataclass
class _File:
    """A session's file, as far as it was read."""

    path: Path
    node: int
    checked: bool
    start: int | None
    offset: int = 0
    after: int = -1


@dataclass(frozen=True)
class Bins:
    """Columns within a range of steps, a bin of `width` steps each; bins without a row are left out."""

    width: int
    steps: NDArray[np.int64]  # (n,) steps behind the run after the last row of each bin
    low: dict[str, Series]  # (n,) by column; NaN where no row of the bin has it
    high: dict[str, Series]
    mean: dict[str, Series]


@dataclass
class Columns:
    """The recorded rows of a run, merged over its sessions as `metrics.read` does, without fingerprints."""

    run: Path
    rows: int = 0
    names: list[str] = field(default_factory=list)
    _table: Series = field(default_factory=lambda: np.empty((0, 0)))
    _files: list[_File] = field(default_factory=list)

    def update(self) -> bool:
        """Read what was written since. Returns whether there was anything. Raises UserError."""
        with mendable(self.run):
            there = [(path, path.stat()) for path in metrics.session_files(self.run)]
        known = [(file.path, file.node) for file in self._files]
        same = known == [(path, stat.st_ino) for path, stat in there[: len(known)]]
        grown = all(
            stat.st_size == file.offset for (_, stat), file in zip(there, self._files[:-1], strict=False)
        )
        shrunk = any(stat.st_size < file.offset for (_, stat), file in zip(there, self._files, strict=False))
        if not same or not grown or shrunk:
            self.rows, self.names, self._files = 0, [], []
            self._table = np.empty((0, 0))
        before, files_before = self.rows, len(self._files)
        for path, stat in there[len(self._files) :]:
            with mendable(path):
                self._files.append(_File(path, stat.st_ino, *metrics.header(path)))
        for file in self._files[max(files_before - 1, 0) :]:
            self._read(file)
        return self.rows != before or len(self._files) != files_before

    @property
    def steps(self) -> NDArray[np.int64]:
        """(rows,) steps behind the run after each row."""
        return self["step"].astype(np.int64) + 1

    def __getitem__(self, name: str) -> Series:
        """(rows,) the values of a column; NaN where a row does not have it."""
        if name not in self.names:
            return np.full(self.rows, math.nan)
        return self._table[self.names.index(name), : self.rows]

    def bins(self, names: Sequence[str], begin: int, end: int, most: int) -> Bins:
        """Columns over the steps begin..end in at most so many bins, as wide as a power of two.

        Bins lie at multiples of their width, so that those of the past stay as they are while a run grows.
        """
        width = 1
        while (end - begin) / width > most:
            width *= 2
        steps = self.steps
        first, last = np.searchsorted(steps, [begin, end + 1])
        part = steps[first:last]
        if not len(part):
            empty: dict[str, Series] = {name: np.empty(0) for name in names}
            return Bins(width, part, empty, dict(empty), dict(empty))
        starts = np.flatnonzero(np.diff((part - 1) // width, prepend=-1))
        ends = np.append(starts[1:], len(part)) - 1
        low, high, mean = {}, {}, {}
        for name in names:
            values = self[name][first:last]
            finite = np.isfinite(values)
            low[name], high[name] = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)
            total = np.add.reduceat(np.where(finite, values, 0.0), starts)
            count = np.add.reduceat(finite, starts)
            mean[name] = np.divide(total, count, out=np.full(len(starts), math.nan), where=count > 0)
        return Bins(width, part[ends], low, high, mean)

    def _read(self, file: _File) -> None:
        """Whole lines of a file behind what was read of it, a block at a time."""
        with mendable(file.path), files.opened(file.path, links=False) as data:
            while True:
                data.seek(file.offset)
                block = data.read(BLOCK)
                end = block.rfind(b"\n") + 1
                if not end and len(block) < BLOCK:
                    return
                file.offset += end or len(block)  # a line longer than a block is damage
                self._take(file, _rows(block[:end].split(b"\n")[:-1], file.checked))

    def _take(self, file: _File, lines: list[Line]) -> None:
        if not lines:
            return
        try:
            values = _values(lines)
        except (KeyError, TypeError, ValueError):  # sealed, but by no safelight
            return
        if file.after < 0:
            file.after = lines[0]["step"] if file.start is None else file.start
            self.rows = int(np.searchsorted(self["step"], file.after)) if self.rows else 0
        steps = values["step"]
        # Of a damaged file not all rise.
        least = np.maximum.accumulate(np.append(file.after - 1.0, steps[:-1]))
        kept = steps > least
        file.after = max(file.after, int(steps.max()) + 1)
        self.names += [name for name in values if name not in self.names]
        begin, end = self.rows, self.rows + int(kept.sum())
        self._grow(end)
        self._table[:, begin:end] = math.nan
        for name, column in values.items():
            self._table[self.names.index(name), begin:end] = column[kept]
        self.rows = end

    def _grow(self, rows: int) -> None:
        columns, room = self._table.shape
        if columns < len(self.names) or room < rows:
            table = np.full((len(self.names), room if room >= rows else max(rows * 5 // 4, 1024)), math.nan)
            table[:columns, : self.rows] = self._table[:, : self.rows]
            self._table = table


def _rows(lines: list[bytes], checked: bool) -> list[Line]:
    """Rows of lines, at once where all of them are whole; otherwise one by one, as `metrics` reads them."""
    try:
        if checked and all(line[-18:-2] == metrics.checksum(line[:-SEAL]) for line in lines):
            rows = from_json(b"[" + b",".join(lines) + b"]", cache_strings="keys")
            return [row for row in rows if row.keys() >= FIXED]
    except (ValueError, AttributeError):
        pass
    return [line for text in lines if (line := metrics.parse_line(text, checked))]


def _values(lines: list[Line]) -> dict[str, Series]:
    """The columns of rows; NaN where a row does not have a value. Most rows have the same columns."""
    size = len(lines[0])
    common = [name for name in lines[0] if name not in TEXTS]
    alike = [len(line) == size for line in lines]
    values = map(itemgetter(*common), (line for line in lines if len(line) == size))
    table = np.fromiter(chain.from_iterable(values), np.float64).reshape(-1, len(common))
    columns = {name: np.full(len(lines), math.nan) for name in common}
    for name, column in zip(common, table.T, strict=True):
        columns[name][alike] = column
    for at, line in enumerate(lines):
        if len(line) != size:
            for name, value in line.items():
                if name not in TEXTS:
                    columns.setdefault(name, np.full(len(lines), math.nan))[at] = metrics.number(value)
    return columns
