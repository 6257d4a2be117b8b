"""What is told of long work on data."""

from __future__ import annotations

import pytest

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.recipes.recipe import load
from safelight.session import prepare
from safelight.session.show import Show
from safelight.session.stages import begin


def test_long_work_is_told_again_with_its_rate_and_the_time_left(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    lines: list[str] = []
    progress = prepare._telling(lines.append)
    for now, done in ((0.0, 100), (10.0, 200), (40.0, 500), (50.0, 600), (71.0, 810)):  # noqa: B007 the clock
        progress("encoding", done, 1000)
    assert lines == [
        "encoding",
        "encoding: 500 of 1,000, 10/s, 0:00:50 left",
        "encoding: 810 of 1,000, 10/s, 0:00:19 left",
    ]


def test_a_recipe_without_its_data_says_so_before_anything_is_trained(tmp_path):
    with pytest.raises(UserError, match=r"^data.source: \"folder\" needs data\.path, where the images are"):
        begin(load("skin"), tmp_path, None, World(), Show)
