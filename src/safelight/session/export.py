"""Metrics in other tools' formats. A value that a step does not have stays empty."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.store.durable import write_bytes

Columns = Mapping[str, NDArray[Any]]  # of one length, by name; see store/metrics.py


def export_columns(columns: Columns, out: Path) -> None:
    """Write columns to a .csv or .parquet file, or as TensorBoard events into a folder (no suffix).

    Raises UserError for another ending, a missing extra, or a disk that cannot.
    """
    match out.suffix:
        case ".csv":
            write_bytes(out, _csv(columns).encode())
        case ".parquet":
            write_bytes(out, _parquet(columns))
        case "":
            _tensorboard(columns, out)
        case _:
            raise UserError(f"{out}: ends in none of .csv, .parquet, or nothing (a folder for TensorBoard)")


def _csv(columns: Columns) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*(column.tolist() for column in columns.values()), strict=True):
        writer.writerow("" if value != value else value for value in row)  # NaN is the one unequal to itself
    return text.getvalue()


def _parquet(columns: Columns) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("parquet needs an extra: pip install 'safelight[parquet]'") from error
    arrays = {name: pyarrow.array(column, from_pandas=True) for name, column in columns.items()}
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(arrays), sink)
    return bytes(sink.getvalue())


def _tensorboard(columns: Columns, folder: Path) -> None:
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise UserError("TensorBoard needs an extra: pip install 'safelight[tensorboard]'") from error
    try:
        writer = EventFileWriter(str(folder))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    clock = np.cumsum(columns["seconds"]) if "seconds" in columns else ()
    for name, column in columns.items():
        if column.dtype.kind not in "if" or name == "step":
            continue
        for step, time, value in zip(columns["step"].tolist(), clock, column.tolist(), strict=True):
            if value == value:
                summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
                writer.add_event(Event(step=step, wall_time=float(time), summary=summary))
    writer.close()
