"""Tables of a page in a terminal: on their side where they do not fit."""

from __future__ import annotations

from rich.console import Console

from safelight.render.page import ReportTable
from safelight.render.page_terminal import fitting, print_table

WIDE = ReportTable(
    ("run", *(f"component {n}" for n in range(8))), tuple((f"run {n}", *["0.123 ± 0.004"] * 8) for n in "ab")
)
LONG = ReportTable(("run", "value"), tuple((f"a run of a very long name {n}" * 3, "1") for n in range(9)))


def test_a_wide_table_of_few_rows_lies_on_its_side():
    turned = fitting(WIDE, 80)
    assert turned.head == ("run", "run a", "run b")
    assert turned.rows[3] == ("component 3", "0.123 ± 0.004", "0.123 ± 0.004")
    assert fitting(WIDE, 200) == WIDE  # there is room
    assert fitting(LONG, 80) == LONG  # turned, it would be wider yet


def test_no_line_is_broken(capsys):
    print_table(Console(width=80), WIDE)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert "component 7  0.123 ± 0.004  0.123 ± 0.004" in lines[8]
