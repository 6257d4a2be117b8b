"""The numbers a run recorded, as columns over its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from safelight.render.trends import Series, Steps

Axis = Literal["images", "hours"]  # what runs can be given equally much of


@dataclass(frozen=True)
class RecordedColumn:
    """One recorded value, at the rows that have it: a lazy phase and held-out losses are not in every row."""

    rows: Steps  # (n,) ascending, into the rows of the record
    values: Series  # (n,) as recorded, not finite ones among them


@dataclass(frozen=True)
class MetricsRecord:
    """What a run recorded, a row a step; a fork's begins with the rows of its parents."""

    steps: Steps  # (N,) steps behind the run
    images: Steps  # (N,) seen
    seconds: Series  # (N,) inside the step: no sheets, no checkpoints, no evaluation; 0 in inherited rows
    columns: Mapping[str, RecordedColumn] = field(default_factory=dict)
    inherited: int = 0  # rows at the beginning that are of the run it was forked from

    @cached_property
    def hours(self) -> Series:
        """(N,) spent inside steps so far."""
        return np.cumsum(self.seconds) / 3600

    @property
    def images_seen(self) -> int:
        return int(self.images[-1]) if len(self.images) else 0

    @property
    def hours_spent(self) -> float:
        return float(self.hours[-1]) if len(self.hours) else 0.0

    def along(self, axis: Axis) -> Series:
        """(N,) images seen, or hours."""
        return self.images.astype(np.float64) if axis == "images" else self.hours

    @property
    def sound(self) -> int:
        """Rows before the total stopped being finite for good; all of them in a sound run."""
        total = self.columns.get("total")
        finite = total.rows[np.isfinite(total.values)].tolist() if total else []
        return int(finite[-1]) + 1 if finite else 0

    def reach(self, axis: Axis) -> float:
        """How far the run came while its loss was finite; 0 where it recorded nothing."""
        return float(self.along(axis)[self.sound - 1]) if self.sound else 0.0

    @property
    def skipped(self) -> list[int]:
        """Rows of steps whose gradient was not finite, so that the weights were left alone."""
        norms = [column for name, column in self.columns.items() if name.startswith("grad_norm/")]
        return sorted({row for norm in norms for row in norm.rows[~np.isfinite(norm.values)].tolist()})

    @property
    def components(self) -> tuple[str, ...]:
        return self.named("raw/")

    def named(self, prefix: str) -> tuple[str, ...]:
        """Names of the columns with a prefix, without it."""
        return tuple(name.removeprefix(prefix) for name in self.columns if name.startswith(prefix))


def record_of(lines: Sequence[Mapping[str, Any]], inherited: int = 0) -> MetricsRecord:
    """The rows of a run's metrics, as they stand on disk, in columns. inherited: of them, from its parent."""
    columns = {}
    for name in dict.fromkeys(name for line in lines for name in line):
        if name not in ("step", "images", "seconds", "fingerprint"):
            rows = [row for row, line in enumerate(lines) if name in line]
            values = [float(lines[row][name]) for row in rows]
            columns[name] = RecordedColumn(np.array(rows, np.int64), np.array(values, np.float64))
    seconds = [0.0 if row < inherited else float(line["seconds"]) for row, line in enumerate(lines)]
    return MetricsRecord(
        steps=np.array([line["step"] + 1 for line in lines], np.int64),
        images=np.array([line["images"] for line in lines], np.int64),
        seconds=np.array([value if math.isfinite(value) else 0.0 for value in seconds], np.float64),
        columns=columns,
        inherited=inherited,
    )
