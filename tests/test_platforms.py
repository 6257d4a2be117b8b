"""What Windows and macOS do otherwise, through simulated layers: neither was at hand."""

from __future__ import annotations

import os
import re
import time

import pytest

from docs.test_readme import PLAIN, SMALL
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.store import directory, durable, lock
from safelight.training.progress import Show
from safelight.training.start import begin

LONGEST = 120  # characters of a path within a run; of Windows' 260 the rest is for the folder of runs


@pytest.mark.parametrize("name", ["con", "AUX", "nul.1", "Com1", "lpt9.x"])
def test_a_run_has_no_name_that_windows_keeps_for_a_device(name):
    with pytest.raises(UserError, match="Windows keeps this name"):
        directory._check_name(name)
    directory._check_name(f"{name}-1".replace(".", ""))


def test_files_of_a_run_have_names_of_every_system(tmp_path):
    run = begin(load("digits", SMALL | PLAIN), tmp_path, "plain", World(), Show()).path
    paths = [str(path.relative_to(run)) for path in run.rglob("*")]
    assert len({path.lower() for path in paths}) == len(paths) > 10
    for path in paths:
        assert len(path) < LONGEST
        for part in path.split(os.sep):
            assert not re.search(r'[<>:"\\|?*\x00-\x1f]|[. ]$', part), path
            assert not directory.RESERVED.fullmatch(part), path


def test_a_process_is_not_signalled_where_that_would_end_it(tmp_path, monkeypatch):
    """os.kill(pid, 0) asks on POSIX and kills on Windows: there a day decides."""
    monkeypatch.setattr(durable, "WINDOWS", True)
    monkeypatch.setattr(os, "kill", lambda *words: pytest.fail("a process was signalled"))
    path = durable.temporary_beside(tmp_path / "x")
    path.write_bytes(b"")
    durable.sweep(tmp_path)
    assert path.exists()
    os.utime(path, (time.time() - 2 * durable.DAY,) * 2)
    durable.sweep(tmp_path)
    assert not path.exists()


def test_without_fcntl_and_folders_to_open_a_lock_and_a_rename_work(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fcntl", None)
    monkeypatch.delattr(os, "O_DIRECTORY")
    durable.write_bytes(tmp_path / "x", b"1")
    durable.write_bytes(tmp_path / "x", b"2")
    assert (tmp_path / "x").read_bytes() == b"2"
    assert not lock.is_held(tmp_path)
    (tmp_path / lock.LOCK).touch()
    assert not lock.is_held(tmp_path)
