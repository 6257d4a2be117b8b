"""Metrics in other tools' formats. A value that a step does not have stays empty; NaN is a value."""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from safelight.config import UserError, install
from safelight.store import metrics
from safelight.store.directory import RunDirectory
from safelight.store.durable import mendable, write_bytes

Lines = Sequence[dict[str, Any]]  # of metrics, as they stand on disk


TEXT = ("fingerprint",)


def export_metrics(directory: RunDirectory, out: Path) -> list[str]:
    """Write a run's metrics to a .csv or .parquet file, or as TensorBoard events into a folder (no suffix).

    Returns the names of the columns. Raises UserError for another ending, a missing extra or a bad disk.
    """
    lines = metrics.merged(directory.path)
    names = list(dict.fromkeys(name for line in lines for name in line))
    match out.suffix:
        case ".csv":
            write_bytes(out, _csv(lines, names).encode())
        case ".parquet":
            write_bytes(out, _parquet(lines, names))
        case "":
            _tensorboard(directory, lines, names, out)
        case _:
            raise UserError(f"{out}: unknown output type; use .csv, .parquet, or a folder for TensorBoard")
    return names


def _csv(lines: Lines, names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _parquet(lines: Lines, names: Sequence[str]) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"parquet needs an extra: {install('parquet')}") from error

    def column(name: str) -> Any:
        values = [line.get(name) for line in lines]
        if name in TEXT:
            return pyarrow.array(values, pyarrow.string())
        if name in metrics.INTEGERS:
            return pyarrow.array(values, pyarrow.int64())
        return pyarrow.array([None if value is None else float(value) for value in values], pyarrow.float64())

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({name: column(name) for name in names}), sink)
    return bytes(sink.getvalue())


def _tensorboard(directory: RunDirectory, lines: Lines, names: Sequence[str], folder: Path) -> None:
    """Every scalar at every step that has it, and the sheets, under the time they were trained at."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise UserError(f"TensorBoard needs an extra: {install('tensorboard')}") from error
    if any(folder.glob("events.out.tfevents.*")):
        raise UserError(f"{folder}: holds events already; choose a new folder")
    begun = datetime.fromisoformat(directory.info().created).timestamp()
    clock = [begun + seconds for seconds in accumulate(float(line["seconds"]) for line in lines)]
    scalars = [name for name in names if name not in ("step", "seconds", *TEXT)]
    with mendable(folder):
        writer = EventFileWriter(str(folder))
        for line, time in zip(lines, clock, strict=True):
            values = [
                Summary.Value(tag=name, simple_value=float(line[name])) for name in scalars if name in line
            ]
            writer.add_event(Event(step=line["step"], wall_time=time, summary=Summary(value=values)))
        for path in sorted(directory.sheets.glob("*.png")):
            step = int(path.stem)  # steps behind it: the line of the step before is the last one
            image = Summary.Value(tag="samples", image=tensorboard_image(Summary.Image, path.read_bytes()))
            time = clock[min(step, len(clock)) - 1] if clock else begun
            writer.add_event(Event(step=step, wall_time=time, summary=Summary(value=[image])))
        writer.close()


def tensorboard_image(make: Any, png: bytes) -> Any:
    """A PNG as TensorBoard holds it: its size is in its header."""
    width, height = struct.unpack(">II", png[16:24])
    return make(height=height, width=width, colorspace=3, encoded_image_string=png)
