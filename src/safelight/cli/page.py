"""A page in a terminal: its words and tables, without its pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from safelight import terminal

if TYPE_CHECKING:
    from collections.abc import Collection

    from safelight.render.page import Page, ReportTable
    from safelight.terminal import Console


PIPED = 160  # columns where no terminal says how many it has
GAP = 2  # between columns


def print_page(page: Page, without: Collection[str] = ()) -> None:
    """Print a page. without: titles of sections that are left to the files."""
    from safelight.render.page import Definitions, Notes, TableBlock, Text

    out = terminal.console()
    if not out.is_terminal:
        out.width = PIPED
    if page.summary:
        out.print(page.summary)
    for section in page.sections:
        spoken = [
            block for block in section.blocks if isinstance(block, Notes | TableBlock | Text | Definitions)
        ]
        if section.title in without or not spoken:
            continue
        out.print()
        out.print(section.title, style="bold")
        for block in spoken:
            match block:
                case TableBlock():
                    if block.title:
                        out.print(block.title, style="dim")
                    _print_table(out, block.table)
                case Notes():
                    for line in block.lines:
                        out.print(f"- {line}")
                case Definitions():
                    for name, words in block.pairs:
                        out.print(f"{name}: {words}")
                case Text():
                    style = "dim" if block.quiet else None
                    out.print(block.words, style=style)


def _print_table(out: Console, table: ReportTable) -> None:
    fitting = _fitting(table, out.width)
    out.print(terminal.table(fitting.head, fitting.rows, fitting.head[fitting.numeric :]))


def _fitting(table: ReportTable, width: int) -> ReportTable:
    """The table, on its side where it is wider than the terminal and a column of few rows is not."""
    lines = [table.head, *table.rows]
    wide = sum(max(map(len, column)) + GAP for column in zip(*lines, strict=True)) - GAP
    if wide <= width or len(table.head) <= len(lines):
        return table
    head, *rows = zip(*lines, strict=True)
    return replace(table, head=head, rows=tuple(rows), numeric=1)
