"""What is told of long work on data, and what a probe of precision costs."""

from __future__ import annotations

import pytest

from safelight import terminal
from safelight.config import UserError
from safelight.data import open_data
from safelight.engine import precision
from safelight.engine.distributed import World
from safelight.engine.precision import Execution
from safelight.loading import prepare, probe
from safelight.recipe import load
from safelight.training.progress import Show
from safelight.training.stages import train_stages


def test_long_work_is_told_again_with_its_rate_and_the_time_left(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    lines: list[str] = []
    progress = terminal.paced(lines.append)
    for now, done in ((0.0, 100), (10.0, 200), (40.0, 500), (50.0, 600), (71.0, 810)):  # noqa: B007 the clock
        progress("encoding", done, 1000)
    assert lines == [
        "encoding",
        "encoding: 500 of 1,000, 10/s, 0:00:50 left",
        "encoding: 810 of 1,000, 10/s, 0:00:19 left",
    ]


def test_a_recipe_without_its_data_says_so_before_anything_is_trained(tmp_path):
    with pytest.raises(UserError, match=r"^data.source: \"folder\" needs data\.path, where the images are"):
        train_stages(load("skin"), tmp_path, None, World(), Show)


@pytest.fixture
def prepared(monkeypatch, tmp_path, tiny):
    """TINY with two options to choose between, in a cache of its own but for the data."""
    pack = open_data(load("digits-class", tiny).data)
    monkeypatch.setenv("SAFELIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prepare, "open_data", lambda data, progress=None: pack)
    monkeypatch.setattr(precision, "_has_bf16", lambda device: True)
    return lambda **keys: prepare.prepare(
        load("digits-class", tiny | {"train.precision": "auto", "train.memory_format": "auto"} | keys),
        World(),
    )


def test_a_probe_is_paid_once(monkeypatch, prepared):
    """By check, plan and train together; what is stated since is another question."""
    made = []
    whole = probe._one_step
    monkeypatch.setattr(probe, "_one_step", lambda *arguments: made.append(arguments[1]) or whole(*arguments))
    first = probe.choose_execution(prepared())
    assert made
    made.clear()
    assert probe.choose_execution(prepared()) == first
    assert not made
    stated = probe.choose_execution(prepared(**{"train.memory_format": "contiguous"}))
    assert stated.memory_format == "contiguous"
    assert made


@pytest.mark.parametrize(("seconds", "rows"), [(0.2, 12), (0.3, 6), (1.4, 2), (1.6, 0)])
def test_a_probe_of_slow_steps_is_on_few_images(monkeypatch, prepared, seconds, rows):
    """Of batches of 12, by the seconds of a step on two: 1.5 s a step at most, or none at all."""
    now = [0.0]
    monkeypatch.setattr(probe, "_one_step", lambda *arguments: lambda: now.__setitem__(0, now[0] + seconds))
    assert probe._probed_rows(prepared(), Execution("fp32", "contiguous"), lambda: now[0]) == rows
