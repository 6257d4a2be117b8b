"""What training tells on a terminal, in a notebook, and in a log."""

from __future__ import annotations

import pytest
from rich.console import Console

from safelight.cli.progress import TrainingProgress
from safelight.store.metrics import Row


def rows(*steps: int) -> list[Row]:
    return [Row(step, {"d": 0.75, "g": 0.5}, 1.25, {}, (step + 1) * 8, 0.1, "") for step in steps]


def play(progress: TrainingProgress, first: bool = True) -> None:
    """A short session."""
    show = progress.show(first)
    show.tell("packing digits")
    if show.progress:
        show.progress("encoding digits", 512, 2048)
        show.progress("encoding digits", 2048, 2048)
    show.warn("environment differs")
    show.begin(0, 20, 8)
    show.rows(rows(0, 1, 2))
    show.rows(rows(3))
    show.end()


def test_a_log_holds_only_what_should_not_be_missed(capsys):
    play(TrainingProgress())
    assert capsys.readouterr() == ("", "environment differs\n")


@pytest.mark.parametrize("options", [{}, {"force_terminal": True}, {"force_jupyter": True}])
def test_of_several_processes_only_the_first_speaks(capsys, options):
    progress = TrainingProgress()
    progress.console = Console(stderr=True, **options)
    play(progress, first=False)
    assert capsys.readouterr() == ("", "")


def test_a_notebook_has_one_line_written_over(capsys):
    progress = TrainingProgress()
    progress.console = Console(stderr=True, force_jupyter=True)
    play(progress)
    first, second, *lines = capsys.readouterr().out.split("\n")
    assert (first, second) == ("packing digits", "environment differs")
    before, after = lines[0].split("\r")[1:]
    assert before.startswith("step 3 of 20  0 images/s  d 0.75, g 0.5")
    assert after.startswith("step 4 of 20")
    assert after.rstrip().endswith("d 0.75, g 0.5")
    assert len(before) == len(after)  # nothing of the longer one stays behind
    assert lines[1:] == [""]


def test_work_before_the_first_step_has_a_bar_of_its_own_that_goes_when_it_is_done(capsys):
    progress = TrainingProgress()
    progress.console = Console(stderr=True, force_terminal=True, width=120)
    show = progress.show()
    show.progress("encoding digits", 0, 2048)
    show.progress("encoding digits", 512, 2048)
    progress._before.shown.refresh()  # it paints ten times a second by itself
    show.progress("encoding digits", 2048, 2048)
    assert progress._before is None
    said = capsys.readouterr().err
    assert "encoding digits" in said
    assert "512/2048" in said
    assert "left" in said


def test_a_bar_of_work_that_failed_is_taken_away(capsys):
    progress = TrainingProgress()
    progress.console = Console(stderr=True, force_terminal=True)
    show = progress.show()
    show.progress("encoding digits", 512, 2048)
    show.end()
    assert progress._before is None
    assert capsys.readouterr().err.endswith("\x1b[2K")  # the line is blank again


def test_a_terminal_has_a_bar(capsys):
    progress = TrainingProgress()
    progress.console = Console(stderr=True, force_terminal=True, width=120)
    play(progress)
    said = capsys.readouterr().err
    assert "packing digits" in said
    assert "4/20" in said
    assert "d 0.75, g 0.5" in said
