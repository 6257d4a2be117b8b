"""A run whose data were moved goes on where they are now, and only with what it was trained on."""

from __future__ import annotations

import os

import numpy as np
import pytest

import safelight as sl
from data.files import opened, save
from safelight.cli.options import sample_changes
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.loading.recorded import recipe_of
from safelight.recipe import load
from safelight.store import metrics
from safelight.training.progress import Show
from safelight.training.start import begin
from tiny import TINY


@pytest.fixture(scope="module")
def moved(_cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("moved")
    for number in range(12):
        save(folder / f"photos/{number}.png")
    changes = {"data.path": str(folder / "photos"), "data.size": 8, "train.steps": 4, "checkpoint.every": 2}
    run = begin(load("digits", TINY | changes), folder / "runs", "r", World(), Show())
    (folder / "photos").rename(folder / "elsewhere")
    return run


def test_a_run_says_how_to_go_on_and_reads_its_data_where_they_are(moved):
    folder = moved.path.parents[1]
    with pytest.raises(UserError, match=r"data\.path: .* does not exist"):
        sl.replay("r", 3, runs=moved.path.parent)
    with pytest.raises(UserError, match=r"safelight resume RUN data\.path=x"):
        sl.tune("r", {"data.path": "x"}, runs=moved.path.parent)
    before = list(metrics.read(moved.path)["fingerprint"])
    assert sample_changes([f"data.path={folder / 'elsewhere'}"], "r", moved.path.parent) == {}
    assert recipe_of(moved).data.path == str(folder / "elsewhere")
    assert moved.journal().of_kind("moved")[-1].fields["changes"]["data.path"] == str(folder / "elsewhere")
    assert sl.replay("r", 3, runs=moved.path.parent).agreed
    assert list(metrics.read(moved.path)["fingerprint"]) == before
    fork = sl.fork("r", 2, {"data.path": str(folder / "elsewhere"), "optim.lr": 1e-4}, name="f",
                   train=False, runs=moved.path.parent)  # fmt: skip
    assert recipe_of(fork.directory).data.path == str(folder / "elsewhere")


def test_other_data_and_other_keys_are_refused_and_nothing_is_journalled(moved):
    folder, entries = moved.path.parents[1], len(moved.journal().of_kind("moved"))
    for number in range(12):
        save(folder / f"others/{number}.png", np.full((8, 8, 3), number, np.uint8))
    with pytest.raises(UserError, match="the data has changed"):
        sl.resume("r", {"data.path": str(folder / "others")}, runs=moved.path.parent)
    with pytest.raises(UserError, match=r"data\.flip: cannot be edited in a run"):
        sl.relocate("r", {"data.flip": True}, runs=moved.path.parent)
    assert len(moved.journal().of_kind("moved")) == entries


def test_an_edited_file_of_the_same_size_and_time_is_found(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 8, 8), np.uint8))
    before, status = opened(path).fingerprint, path.stat()
    np.save(path, np.ones((4, 8, 8), np.uint8))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert opened(path).fingerprint != before
