"""Samples on disk, and the records of those that are kept."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from safelight.config import UserError
from safelight.explore import specimens
from safelight.explore.collection import collection
from safelight.explore.samples import Samples
from safelight.store import sealed
from safelight.store.directory import RunDirectory
from safelight.types import DataSpec


@pytest.mark.parametrize("name", ["s.npz", "s.png"])
def test_a_file_of_samples_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch, name):
    images = np.zeros((2, 4, 4, 1), np.uint8)
    samples = Samples(images, {}, np.zeros(2, bool), DataSpec((1, 4, 4), {}), {})
    (tmp_path / name).write_bytes(b"what was there")

    def full(*paths: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="the disk is full"):
        samples.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"what was there"


def test_a_record_of_a_specimen_in_another_form_is_one_line(tmp_path):
    folder = tmp_path / specimens.FOLDER
    folder.mkdir()
    record = {"id": "5.0", "kept": "now", "source": "tape", "verdict": "exact", "sample": {}, "later": 1}
    (folder / "5.0.json").write_bytes(sealed.pretty(record))
    (kept,) = collection(RunDirectory(tmp_path))  # what a later version adds is passed over
    assert kept.id == "5.0"
    del record["sample"]
    (folder / "5.0.json").write_bytes(sealed.pretty(record))
    with pytest.raises(UserError, match=r"5\.0\.json: is not written as this safelight does it \(sample"):
        collection(RunDirectory(tmp_path))
