"""Runs behind the page: copies of the session's finished one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the page needs the extra web")

from page_client import Page
from safelight.store.directory import RunDirectory


@pytest.fixture
def runs(finished: RunDirectory, tmp_path: Path) -> Path:
    """The finished run of the session as "whole", copied."""
    shutil.copytree(finished.path, tmp_path / "runs" / "whole")
    return tmp_path / "runs"


@pytest.fixture
def page(runs: Path) -> Iterator[Page]:
    made = Page(runs)
    with made.client:
        yield made.enter()
