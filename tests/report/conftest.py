"""Made-up runs for the tests of comparing."""

from __future__ import annotations

from pathlib import Path

import pytest

from compare_runs import Made


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "runs")
