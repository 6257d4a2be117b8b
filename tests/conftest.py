"""Shared by all tests: one cache a session, so that the digits are packed once; runs in a temporary place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

# Before anything imports torch: tests run in a process a core, and threads that wait for each other cost
# more than they bring. Programs that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SAFELIGHT_NO_CHECK", "1")  # training is not looked at before it begins, to be quick

from tiny import TINY

if TYPE_CHECKING:
    from safelight.store.directory import RunDirectory


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("SAFELIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.delenv("SAFELIGHT_RUNS", raising=False)


@pytest.fixture(scope="session")
def finished(_cache: None, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run "whole" of TINY, finished: trained once for all tests, which read it or copy it."""
    from safelight.engine.distributed import World
    from safelight.recipe import load
    from safelight.training.progress import Show
    from safelight.training.start import begin

    return begin(load("digits-class", TINY), tmp_path_factory.mktemp("finished"), "whole", World(), Show())


@pytest.fixture
def tiny() -> dict[str, object]:
    """Changes that shrink the recipe digits-class."""
    return dict(TINY)


@pytest.fixture
def tiny_words() -> list[str]:
    """The same as key=value words of the command line."""
    return [f"{name}={str(value).replace(chr(39), chr(34))}" for name, value in TINY.items()]
