"""A sweep goes on where it was: after Ctrl-C, after a kill, after a run that failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from safelight.engine.distributed import World
from safelight.store import checkpoint_files
from safelight.store.directory import RunDirectory
from safelight.store.listing import summary
from safelight.training.grid import Combination, Grid, grid
from safelight.training.progress import Show
from safelight.training.sweep import Sweep, sweep
from tiny import TINY

SMALL = {**TINY, "train.steps": 6, "watch.every": 6, "checkpoint.every": 2, "watch.held_out": 0}
WORDS = [f"{key}={str(value).replace(chr(39), chr(34))}" for key, value in SMALL.items()]


def wanted() -> Grid:
    return grid("digits-class", [*WORDS, "optim.lr=1e-3,1e-2"], seeds=2)


def run(cells, runs: Path, show=Show) -> Sweep:
    return sweep(cells, runs, World(), show)


def digests(runs: Path, cells) -> list[str]:
    saved = [checkpoint_files.directory(runs / cell.name, 6) for cell in cells]
    return [checkpoint_files.read(path).digest for path in saved]


@pytest.fixture(scope="module", autouse=True)
def _without_reports() -> Iterator[None]:
    """Reports take longer than these runs, and are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("safelight.training.start.write_report", lambda directory: directory.path)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A sweep of four runs that nothing disturbed."""
    runs = tmp_path_factory.mktemp("whole")
    done = run(wanted().cells, runs)
    assert done.problems == {}
    assert set(done.outcomes.values()) == {"trained"}
    return runs


def shows(at: dict[int, Show]) -> Iterator[Show]:
    """The shows of the first, second, ... run that is trained; quiet ones by default."""
    number = 0
    while True:
        yield at.get(number, Show())
        number += 1


def test_what_is_done_is_skipped(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    done = run(wanted().cells, whole)
    assert set(done.outcomes.values()) == {"done before"}
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()} == before


def test_more_values_leave_what_is_done_where_it_is(whole):
    more = grid("digits-class", [*WORDS, "optim.lr=1e-3,5e-3,1e-2"], seeds=2)
    named = {cell.name for cell in more.cells}
    assert {cell.name for cell in wanted().cells} <= named


def test_ctrl_c_ends_the_sweep_and_the_same_sweep_goes_on(whole, tmp_path):
    cells = wanted().cells[:3]

    written = []

    def interrupt(rows) -> None:
        written.extend(rows)
        if len(written) == len(rows):  # once: a second Ctrl-C would not wait for the step
            os.kill(os.getpid(), signal.SIGINT)

    given = shows({1: Show(rows=interrupt)})
    done = run(cells, tmp_path, lambda: next(given))
    assert [done.outcome(cell) for cell in cells] == ["trained", "stopped", "not begun"]
    assert done.stopped
    assert summary(RunDirectory(tmp_path / cells[1].name)).status == "stopped"
    done = run(cells, tmp_path)
    assert [done.outcome(cell) for cell in cells] == ["done before", "resumed", "trained"]
    assert digests(tmp_path, cells) == digests(whole, cells)


KILLED = """
import os, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_sweep import run, wanted
from safelight.training.progress import Show
begun = []
def show():
    begun.append(1)
    return Show(rows=lambda rows: os._exit(9) if len(begun) == 2 and rows[-1].step >= 2 else None)
run(wanted().cells[:2], Path({runs!r}), show)
"""


def test_a_killed_sweep_goes_on_from_the_last_checkpoint_bit_for_bit(whole, tmp_path):
    here = Path(__file__).parent
    code = KILLED.format(paths=[str(here), str(here.parent)], runs=str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert killed.returncode == 9, killed.stderr
    cells = wanted().cells[:2]
    statuses = [summary(RunDirectory(tmp_path / cell.name)).status for cell in cells]
    assert statuses == ["finished", "interrupted"]
    done = run(cells, tmp_path)
    assert [done.outcome(cell) for cell in cells] == ["done before", "resumed"]
    assert digests(tmp_path, cells) == digests(whole, cells)


def test_a_cell_that_fails_is_named_and_the_next_one_begun(whole, tmp_path):
    cells = wanted().cells[:2]

    def fail(rows) -> None:
        raise RuntimeError("out of memory")

    given = shows({0: Show(rows=fail)})
    done = run(cells, tmp_path, lambda: next(given))
    assert [done.outcome(cell) for cell in cells] == ["failed", "trained"]
    assert done.problems == {cells[0].name: "RuntimeError: out of memory"}
    assert not done.stopped
    done = run(cells, tmp_path)
    assert [done.outcome(cell) for cell in cells] == ["resumed", "done before"]
    assert digests(tmp_path, cells) == digests(whole, cells)


def test_a_run_of_another_recipe_under_that_name_is_not_taken_for_done(whole, tmp_path):
    first, second = wanted().cells[0], wanted().cells[2]
    (tmp_path / first.name).symlink_to(whole / second.name)
    done = run([first], tmp_path)
    assert done.outcome(first) == "failed"
    assert "holds another recipe" in done.problems[first.name]


def test_a_run_that_another_process_trains_is_left_alone(whole, tmp_path):
    cell = wanted().cells[0]
    with RunDirectory(whole / cell.name).lock():
        done = run([cell], whole)
    assert done.outcome(cell) == "failed"
    assert "is being trained by another process" in done.problems[cell.name]


def test_what_happens_is_told_before_and_after_each_cell(whole):
    lines: list[tuple[str, str]] = []

    def tell(done: Sweep, cell: Combination) -> None:
        lines.append((cell.label, done.outcome(cell)))

    sweep(wanted().cells[:2], whole, World(), Show, tell)
    assert lines == [
        ("lr = 0.001 · seed 0", "not begun"),
        ("lr = 0.001 · seed 0", "done before"),
        ("lr = 0.001 · seed 1", "not begun"),
        ("lr = 0.001 · seed 1", "done before"),
    ]


def test_a_damaged_run_is_a_problem_of_its_own(whole, tmp_path):
    cell = wanted().cells[0]
    (tmp_path / cell.name).mkdir()
    (tmp_path / cell.name / "run.json").write_text("{}")
    done = run([cell], tmp_path)
    assert done.outcome(cell) == "failed"
    assert "run.json" in done.problems[cell.name]
