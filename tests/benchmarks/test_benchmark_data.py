"""benchmarks/data.py runs, and its table says what was timed. How fast that is, is not tested."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from safelight.data import open_data
from safelight.data.config import Data

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "data.py"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_data", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
    monkeypatch.setenv("SAFELIGHT_CACHE", str(tmp_path / "cache"))
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROUNDS", 1)
    return module


def rows(text: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line] for line in lines[1:]]


def test_times_are_medians_of_the_ratios_of_a_round(module: ModuleType) -> None:
    rates = {
        "plain": [100, 50, 400],
        "packing": [300, 75, 400],
        "bytes": [2100, 999, 9200],
        "batches": [1, 1, 1],
    }
    table = rows(module.table_of("x", rates))
    assert [row[1:3] for row in table] == [
        ["100", "1.00"],
        ["300", "1.50"],
        ["2,100", "21.00"],
        ["1", "0.01"],
    ]
    assert [row[3] for row in table] == ["", "1.8: missed", "20: met", "20: missed"]


def test_both_ways_make_the_same_pictures(module: ModuleType, tmp_path: Path) -> None:
    files = module.small(tmp_path / "small", 5)
    module.plain(files, tmp_path / "plain.npy")
    module.pack(files, tmp_path / "packed")
    pack = open_data(Data(path=str(tmp_path / "small"), size=module.SIZE, channels=3))
    np.testing.assert_array_equal(pack.images, np.load(tmp_path / "plain.npy"))
    files = module.photos(tmp_path / "photos", 3)
    module.plain(files, tmp_path / "plain.npy")
    pack = open_data(Data(path=str(tmp_path / "photos"), size=module.SIZE, channels=3))
    off = np.abs(pack.images.astype(int) - np.load(tmp_path / "plain.npy"))
    assert off.mean() < 4  # decoded at a quarter, then resized
    assert off.max() < 40


def test_it_runs(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["data", "70", "6"])
    module.main()
    packing = [row for row in rows(capsys.readouterr().out) if row[0].startswith("packing")]
    assert len(packing) == 2
    assert all(float(rate.replace(",", "")) > 0 for _, rate, _, _ in packing)
