"""Metrics in other tools' formats are the recorded values."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from safelight.config import UserError
from safelight.session.export import export_columns

COLUMNS = {
    "step": np.arange(4),
    "seconds": np.full(4, 0.5),
    "raw/mse": np.array([1.0, 0.5, 0.25, 0.125]),
    "held_out/mse": np.array([np.nan, 0.75, np.nan, 0.5]),
    "fingerprint": np.array(["a", "b", "c", "d"]),
}


def test_csv(tmp_path):
    export_columns(COLUMNS, tmp_path / "m.csv")
    rows = list(csv.DictReader((tmp_path / "m.csv").read_text().splitlines()))
    assert list(rows[0]) == list(COLUMNS)
    assert [float(row["raw/mse"]) for row in rows] == [1.0, 0.5, 0.25, 0.125]
    assert [row["held_out/mse"] for row in rows] == ["", "0.75", "", "0.5"]


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    export_columns(COLUMNS, tmp_path / "m.parquet")
    table = parquet.read_table(tmp_path / "m.parquet").to_pydict()
    assert table["raw/mse"] == [1.0, 0.5, 0.25, 0.125]
    assert table["held_out/mse"] == [None, 0.75, None, 0.5]
    assert table["fingerprint"] == ["a", "b", "c", "d"]


@pytest.mark.filterwarnings("ignore")
def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    export_columns(COLUMNS, tmp_path / "events")
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("raw/mse")] == [
        (0, 1.0),
        (1, 0.5),
        (2, 0.25),
        (3, 0.125),
    ]
    assert [(e.step, e.value) for e in events.Scalars("held_out/mse")] == [(1, 0.75), (3, 0.5)]


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(UserError, match="ends in none of"):
        export_columns(COLUMNS, tmp_path / "m.xls")


@pytest.mark.parametrize(("module", "out"), [("pyarrow", "m.parquet"), ("tensorboard", "events")])
def test_a_missing_extra_is_named_with_its_command(tmp_path, monkeypatch, module, out):
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match="pip install 'safelight"):
        export_columns(COLUMNS, tmp_path / out)
