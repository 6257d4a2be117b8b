"""A page in a terminal: its words and tables, without its pictures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from safelight import terminal
from safelight.render.page import Block, Commands, Definitions, Drawing, Notes, Page, Pairs, ReportTable, Text

if TYPE_CHECKING:
    from safelight.terminal import Console

PIPED = 160  # columns where no terminal says how many it has
GAP = 2  # between columns


def print_page(page: Page, without: Collection[str] = ()) -> None:
    """Print a page. without: titles of sections that are left to the files."""
    out = terminal.console()
    if not out.is_terminal:
        out.width = PIPED
    if page.summary:
        out.print(page.summary)
    for section in page.sections:
        blocks = [block for block in section.blocks if not isinstance(block, Drawing | Pairs)]
        if section.title in without or not blocks:
            continue
        out.print()
        out.print(section.title, style="bold")
        for block in blocks:
            if title := getattr(block, "title", ""):
                out.print(title, style="dim")
            _print_block(out, block)


def _print_block(out: Console, block: Block) -> None:
    match block:
        case Text():
            out.print(block.words, style="dim" if block.quiet else None)
        case Notes():
            for line in block.lines:
                out.print(f"- {line}")
        case Definitions():
            for name, words in block.pairs:
                out.print(f"{name}: {words}")
        case Commands():
            terminal.say(*block.lines)
        case ReportTable():
            print_table(out, block)
        case Drawing() | Pairs():
            pass
        case _:
            for title, pairs in block.groups:
                print_table(out, ReportTable((title or "name", "value"), pairs))


def print_table(out: Console, table: ReportTable) -> None:
    """Print a table, on its side where it does not fit."""
    shown = fitting(table, out.width)
    out.print(terminal.table(shown.head, shown.rows, shown.head[shown.numeric :]))


def fitting(table: ReportTable, width: int) -> ReportTable:
    """The table, on its side where it is wider than the terminal and a column of few rows is not."""
    lines = [table.head, *table.rows]
    wide = sum(max(map(len, column)) + GAP for column in zip(*lines, strict=True)) - GAP
    if wide <= width or len(table.head) <= len(lines):
        return table
    head, *rows = zip(*lines, strict=True)
    return replace(table, head=head, rows=tuple(rows), numeric=1)
