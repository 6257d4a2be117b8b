"""Runs of a sweep trained at once: the same bits as one after another, whichever process is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from killing import LINUX, killing
from safelight.store import metrics
from safelight.store.directory import RunDirectory
from safelight.training.grid import grid
from safelight.training.sweep import sweep_at_once
from training.test_sweep import WORDS, digests, run, wanted


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("SAFELIGHT_THREADS", "1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Two runs that were trained here, one after another."""
    runs = tmp_path_factory.mktemp("whole")
    assert run(wanted().cells[:2], runs).problems == {}
    return runs


@LINUX
def test_workers_killed_at_random_are_replaced_and_the_bits_are_equal(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("safelight.fanout.TRIES", 9)
    cells = wanted().cells[:2]
    with killing(2) as killed:
        done = sweep_at_once(cells, tmp_path, "local:2")
    assert killed
    assert done.problems == {}
    assert set(done.outcomes.values()) <= {"trained", "resumed"}
    assert digests(tmp_path, cells) == digests(whole, cells)


DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from killing import LINUX, killing
from training.test_sweep import wanted
from safelight.training.grid import grid
from safelight.training.sweep import sweep_at_once
if __name__ == "__main__":
    sweep_at_once(wanted().cells[:1], Path({runs!r}), "local:2")
"""


def test_a_killed_driver_leaves_runs_that_go_on_where_they_were(whole, tmp_path):
    """Its workers stop after the step in hand, with a checkpoint: no step is trained twice."""
    cells, runs = wanted().cells[:1], tmp_path / "runs"
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(paths=[str(Path(__file__).parents[1])], runs=str(runs)))
    driver = subprocess.Popen([sys.executable, str(script)])
    while not any(metrics.reached(runs / cell.name) for cell in cells):
        assert driver.poll() is None
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    while any((runs / cell.name).exists() and RunDirectory(runs / cell.name).is_locked() for cell in cells):
        time.sleep(0.05)
    done = sweep_at_once(cells, runs, "local:2")
    assert done.problems == {}
    assert digests(runs, cells) == digests(whole, cells)
    for cell in cells:
        files = metrics.session_files(runs / cell.name)
        rows = sum(path.read_text().count("fingerprint") for path in files)
        assert rows == 6, files


def test_progress_counts_steps_of_all_and_a_failed_one_is_named(whole, tmp_path):
    cells, lines = wanted().cells[:2], list[tuple[str, int, int]]()
    (tmp_path / cells[0].name).mkdir()
    (tmp_path / cells[0].name / "run.json").write_text("{}")
    (tmp_path / cells[1].name).symlink_to(whole / cells[1].name)
    told: list[str] = []
    done = sweep_at_once(
        cells, tmp_path, "local:2", lambda sweep, cell: told.append(cell.name),
        lambda what, step, steps: lines.append((what, step, steps)),
    )  # fmt: skip
    assert [done.outcome(cell) for cell in cells] == ["failed", "done before"]
    assert "run.json" in done.problems[cells[0].name]
    assert sorted(told) == sorted(cell.name for cell in cells)
    assert lines[-1] == ("steps", 6, 12)


def test_the_command_takes_where(whole, tmp_path, monkeypatch, capsys):
    from command_line import run as command

    named = grid("digits-class", [*WORDS, "optim.lr=1e-3"], 2).cells
    for cell, done in zip(named, wanted().cells[:2], strict=True):
        (tmp_path / cell.name).symlink_to(whole / done.name)
    words = [*WORDS, "optim.lr=1e-3", "--seeds", "2", "--on", "local:2", "--runs", str(tmp_path)]
    code, out, err = command(monkeypatch, capsys, "sweep", "digits-class", *words)
    assert (code, out.count("done before")) == (0, 2), err
