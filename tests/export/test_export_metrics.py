"""Metrics in other tools' formats are the recorded values."""

from __future__ import annotations

import csv
import math
import sys
from datetime import datetime

import pytest
from PIL import Image

from safelight.config import UserError
from safelight.export.metrics import export_metrics
from safelight.store.directory import RunDirectory, create
from safelight.store.info import Facts
from safelight.store.metrics import MetricsRow, MetricsWriter

MSE = [1.0, 0.1, math.nan, 0.125]
HELD_OUT = {1: 0.75, 3: math.inf}
COLUMNS = ["step", "images", "seconds", "total", "raw/mse", "lr/net", "fingerprint", "held_out/mse"]


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """Four steps: a value that is not finite, and one that only some steps have."""
    directory = create(tmp_path, "", recipe="toy", steps=4, facts=Facts({}, {}, {}, {}), name="run")
    with MetricsWriter(directory.path, 1, 0) as writer:
        writer.append(
            MetricsRow(step, {"mse": mse}, mse, {"net": 0.01}, step * 8 + 8, 0.5, f"f{step}",
                {"held_out/mse": HELD_OUT[step]} if step in HELD_OUT else {})
            for step, mse in enumerate(MSE)
        )  # fmt: skip
    directory.sheets.mkdir()
    Image.new("RGB", (7, 5), "red").save(directory.sheets / "00000002.png")
    return directory


def same(values, expected) -> bool:
    """Equal, where NaN equals NaN and None equals None."""
    return [repr(value) for value in values] == [repr(value) for value in expected]


def test_csv(run, tmp_path):
    assert sorted(export_metrics(run, tmp_path / "m.csv")) == sorted(COLUMNS)
    rows = list(csv.DictReader((tmp_path / "m.csv").read_text().splitlines()))
    assert sorted(rows[0]) == sorted(COLUMNS)
    assert same([float(row["raw/mse"]) for row in rows], MSE)
    assert [row["held_out/mse"] for row in rows] == ["", "0.75", "", "inf"]
    assert [row["images"] for row in rows] == ["8", "16", "24", "32"]


def test_parquet(run, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    export_metrics(run, tmp_path / "m.parquet")
    table = parquet.read_table(tmp_path / "m.parquet")
    assert same(table["raw/mse"].to_pylist(), MSE)
    assert table["held_out/mse"].to_pylist() == [None, 0.75, None, math.inf]
    assert table["fingerprint"].to_pylist() == ["f0", "f1", "f2", "f3"]
    assert str(table.schema.field("step").type) == "int64"


@pytest.mark.filterwarnings("ignore")
def test_tensorboard(run, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    export_metrics(run, tmp_path / "events")
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    scalars = events.Scalars("raw/mse")
    assert [scalar.step for scalar in scalars] == [0, 1, 2, 3]
    assert [scalar.value for scalar in scalars[:2]] == pytest.approx(
        [1.0, 0.1], rel=1e-7
    )  # TensorBoard has float32
    assert math.isnan(scalars[2].value)
    assert [(scalar.step, scalar.value) for scalar in events.Scalars("held_out/mse")] == [
        (1, 0.75),
        (3, math.inf),
    ]
    begun = datetime.fromisoformat(run.info().created).timestamp()
    assert [scalar.wall_time - begun for scalar in scalars] == pytest.approx([0.5, 1.0, 1.5, 2.0], abs=1e-3)
    (sheet,) = events.Images("samples")
    assert (sheet.step, sheet.width, sheet.height) == (2, 7, 5)
    assert sheet.encoded_image_string == (run.sheets / "00000002.png").read_bytes()
    with pytest.raises(UserError, match="holds events already"):
        export_metrics(run, tmp_path / "events")


def test_a_run_without_metrics(run, tmp_path):
    for path in run.path.glob("metrics-*"):
        path.unlink()
    assert export_metrics(run, tmp_path / "m.csv") == []
    assert (tmp_path / "m.csv").read_text() == "\n"


def test_another_ending_is_refused(run, tmp_path):
    with pytest.raises(UserError, match=r"unknown output type; use \.csv, \.parquet"):
        export_metrics(run, tmp_path / "m.xls")


@pytest.mark.parametrize(("module", "out"), [("pyarrow", "m.parquet"), ("tensorboard", "events")])
def test_a_missing_extra_is_named_with_its_command(run, tmp_path, monkeypatch, module, out):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match="pip install"):
        export_metrics(run, tmp_path / out)
