"""A run goes on, and is read, on a machine that is not the one it was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

import safelight as sl
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.loading.prepare import DEVICE
from safelight.loading.replay import replay
from safelight.recipe import load
from safelight.run import Run
from safelight.store.directory import RunDirectory
from safelight.store.journal_writer import JournalWriter
from safelight.training.progress import Show
from safelight.training.start import begin
from tiny import TINY

SHORT = TINY | {"watch.every": 50, "watch.held_out": 0, "checkpoint.every": 4, "train.steps": 6}


def made(runs: Path) -> RunDirectory:
    return begin(load("digits-class", SHORT), runs, "run", World(), Show())


def test_another_precision_is_journalled_and_each_step_is_replayed_in_that_it_was_made_in(tmp_path):
    run = made(tmp_path)
    sl.resume("run", {"train.precision": "bf16", "train.steps": 9}, schedule="extend", runs=tmp_path)
    used = [entry.fields["environment"]["precision"] for entry in run.journal().of_kind("session")]
    assert used == ["fp32", "bf16"]
    assert "precision" in run.journal().of_kind("note")[-1].fields["text"]
    assert [replay(run, step)[1].verdict for step in (2, 7)] == ["exact", "exact"]
    with pytest.raises(UserError, match=r"train.precision: state fp32, bf16 or fp16"):
        sl.resume("run", {"train.precision": "auto"}, runs=tmp_path)


def test_reading_falls_back_to_the_device_there_is_and_says_so(tmp_path, monkeypatch):
    run = made(tmp_path)
    with run.lock(), JournalWriter(run.journal_path) as writer:
        writer.append("moved", {"changes": {"train.device": "cuda:93"}})
    lines: list[str] = []
    opened = Run(run, warn=lines.append)
    assert len(opened.sample(2, seed=1).images) == 2
    assert lines == ["train.device: 'cuda:93' is not available here; reading the run on cpu"]
    assert replay(run, 5)[1].verdict == "exact"
    monkeypatch.setenv(DEVICE, "cpu")
    Run(run, warn=lines.append)
    assert len(lines) == 1
    monkeypatch.setenv(DEVICE, "cuda:93")
    with pytest.raises(UserError, match=r"not available here"):
        Run(run)


def test_a_run_that_goes_on_elsewhere(tmp_path):
    run = made(tmp_path)
    with run.lock(), JournalWriter(run.journal_path) as writer:
        writer.append("moved", {"changes": {"train.device": "cuda:93"}})
    with pytest.raises(UserError, match=r"train.device: 'cuda:93' is not available here"):
        sl.resume("run", {"train.steps": 7}, schedule="extend", runs=tmp_path)
    with pytest.raises(UserError, match=r"'cuda:94' is not available here"):
        sl.resume("run", {"train.device": "cuda:94"}, runs=tmp_path)
    assert sl.resume("run", {"train.device": "cpu"}, runs=tmp_path).step == 7
