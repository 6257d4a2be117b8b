"""What training tells on a terminal, in a notebook, and in a log."""

from __future__ import annotations

import pytest
from rich.console import Console

from safelight import terminal
from safelight.store.metrics import MetricsRow
from safelight.training.progress import TrainingProgress


def rows(*steps: int) -> list[MetricsRow]:
    return [MetricsRow(step, {"d": 0.75, "g": 0.5}, 1.25, {}, (step + 1) * 8, 0.1, "") for step in steps]


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


def test_a_log_has_a_line_a_minute_with_rate_and_time_left(capsys, monkeypatch):
    clock = iter([0.0, 10.0, *[70.0] * 2, *[75.0] * 9])  # made, begun, rows of a minute later, and the end
    monkeypatch.setattr("safelight.training.progress.time.monotonic", lambda: next(clock))
    progress = TrainingProgress()
    show = progress.show()
    show.tell("digits-1: trains step 0 to 20 on cpu")
    show.warn("environment differs")
    show.begin(0, 20, 8)
    progress._last = (0, 10.0)
    show.rows(rows(0, 1, 2))
    show.rows(rows(3))
    show.end()
    show.end()  # said once
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "digits-1: trains step 0 to 20 on cpu",
        "environment differs",
        "step 3 of 20, 0 images/s, d 0.75, g 0.5, 0:05:40 left",
        "step 4 of 20 after 0:01:05, d 0.75, g 0.5",
    ]


def test_what_is_no_training_has_only_what_should_not_be_missed_in_a_log(capsys):
    tell, warn = terminal.messages()
    tell("recomputing steps 1 to 3")
    warn("environment differs")
    assert capsys.readouterr() == ("", "environment differs\n")


def test_long_work_has_a_line_every_half_minute_in_a_log(monkeypatch):
    now = 0.0
    monkeypatch.setattr("safelight.terminal.time.monotonic", lambda: now)
    lines: list[str] = []
    progress = terminal.paced(lines.append, at_once=False)
    for seconds, done in ((0, 0), (20, 20), (40, 40), (60, 60), (100, 100)):
        now = float(seconds)
        progress("packing", done, 1000)
    assert lines == ["packing: 40 of 1,000, 1/s, 0:16:00 left", "packing: 100 of 1,000, 1/s, 0:15:00 left"]


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
    progress._before.display.refresh()  # it paints ten times a second by itself
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
