"""What a training will take of the disk is told before its first step, and what cannot fit is refused."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.store import listing
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from tiny import TINY

TAPED = {**TINY, "tape.every": 1, "tape.keyframe": 10, "checkpoint.every": 2, "watch.every": 5}


def forecast_of(tmp_path, **changes):
    """What was told, and the run that came of it."""
    lines: list[str] = []
    recipe = load("digits-class", {**TAPED, **changes})
    run = begin(recipe, tmp_path, "a", World(), Show(tell=lines.append))
    (line,) = (line for line in lines if line.startswith("disk: "))
    return line, listing.by_kind(run.path)


def size(line: str, kind: str) -> float:
    """Bytes of a kind in the words of a forecast."""
    number, unit = line.split(f"{kind} ", 1)[1].replace(")", ",").split(",")[0].split()
    return float(number) * {"B": 1, "KB": 1e3, "MB": 1e6}[unit]


def test_the_forecast_is_near_what_comes(tmp_path):
    line, kinds = forecast_of(tmp_path)
    assert line.startswith("disk: about ")
    assert size(line, "checkpoints") == pytest.approx(kinds["checkpoints"], rel=0.05)
    assert kinds["tape"] / 2 < size(line, "tape") < 3 * kinds["tape"]
    assert kinds["metrics"] / 2 < size(line, "metrics") < 3 * kinds["metrics"]


def test_a_budget_bounds_the_forecast_and_the_disk(tmp_path):
    line, kinds = forecast_of(tmp_path, **{"checkpoint.budget": "1 MB"})
    assert kinds["checkpoints"] <= 1e6
    assert 1e6 / 2 < size(line, "checkpoints") <= 1.3e6


def test_what_cannot_fit_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    run = begin(load("digits-class", TAPED), tmp_path, "a", World(), Show())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(
        UserError, match=r"needs about .* and 1.0 KB are free; free some, lower checkpoint.budget"
    ):
        begin(load("digits-class", TAPED), tmp_path / "new", "b", World(), Show())
    assert not (tmp_path / "new").exists()
    resume(run, World(), Show())  # what it takes is there already
