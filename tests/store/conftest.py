"""A quick disk for the tests of the store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def _in_memory() -> Iterator[None]:
    """Temporary files live in memory where the system has such a place: these tests fsync very often."""
    before = tempfile.tempdir
    if Path("/dev/shm").is_dir():
        tempfile.tempdir = "/dev/shm"
    yield
    tempfile.tempdir = before


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A temporary directory, removed after the test."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
