"""A page in a terminal: its words and tables, without its pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection

    from rich.console import Console

    from safelight.render.page import Page
    from safelight.render.report_view import Table


PIPED = 160  # columns where no terminal says how many it has
GAP = 2  # between columns


def print_page(page: Page, without: Collection[str] = ()) -> None:
    """Print a page. without: titles of sections that are left to the files."""
    from rich.console import Console

    from safelight.render.page import Notes, Rows, Text, Told

    console = Console()
    if not console.is_terminal:
        console.width = PIPED
    if page.summary:
        console.print(page.summary, markup=False, highlight=False)
    for section in page.sections:
        spoken = [block for block in section.blocks if isinstance(block, Notes | Rows | Text | Told)]
        if section.title in without or not spoken:
            continue
        console.print(f"\n[bold]{section.title}[/bold]")
        for block in spoken:
            match block:
                case Rows():
                    if block.title:
                        console.print(block.title, style="dim", markup=False, highlight=False)
                    _print_table(console, block.table)
                case Notes():
                    for line in block.lines:
                        console.print(f"- {line}", markup=False, highlight=False)
                case Told():
                    for name, words in block.pairs:
                        console.print(f"{name}: {words}", markup=False, highlight=False)
                case Text():
                    style = "dim" if block.quiet else None
                    console.print(block.words, style=style, markup=False, highlight=False)


def _print_table(console: Console, table: Table) -> None:
    from rich.table import Table as Drawn
    from rich.text import Text

    table = _fitting(table, console.width)
    drawn = Drawn(box=None, pad_edge=False)
    for place, title in enumerate(table.head):
        justify: Literal["left", "right"] = "right" if place >= table.numeric else "left"
        drawn.add_column(Text(title), justify=justify, overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console.print(drawn)


def _fitting(table: Table, width: int) -> Table:
    """The table, on its side where it is wider than the terminal and a column of few rows is not."""
    lines = [table.head, *table.rows]
    wide = sum(max(map(len, column)) + GAP for column in zip(*lines, strict=True)) - GAP
    if wide <= width or len(table.head) <= len(lines):
        return table
    head, *rows = zip(*lines, strict=True)
    return replace(table, head=head, rows=tuple(rows), numeric=1)
