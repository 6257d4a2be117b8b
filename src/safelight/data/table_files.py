"""Files that hold a table: CSV and TSV, JSON and JSON lines, stylegan's dataset.json, Parquet."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from safelight.config import UserError, install
from safelight.data.images import blamed
from safelight.data.table import FILE_NAME, Table
from safelight.data.tree import Tree
from safelight.terminal import plain


def read_table(tree: Tree, name: str) -> Table:
    """The table in a file, by its ending. Raises UserError."""
    try:
        with tree.open(name) as file:
            content = file.read()
    except Exception as error:  # of the disk or of an archive
        raise UserError(f"{plain(name)}: cannot be read ({blamed(error, name)})") from error
    lower = name.lower()
    if lower.endswith(".jsonl"):
        return read_jsonl(name, content)
    if lower.endswith(".json"):
        return read_json(name, content)
    return read_parquet(name, content) if lower.endswith(".parquet") else read_csv(name, content)


def read_csv(name: str, content: bytes) -> Table:
    """A table with a header, between commas, semicolons or tabs.

    Repeated columns are numbered: text, text becomes text, text_1.
    """
    rows, where = [], []
    text = text_of(name, content)
    first = text.partition("\n")[0]
    between = "\t" if name.lower().endswith(".tsv") else next((mark for mark in ",;\t" if mark in first), ",")
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=between)
        header = _distinct([column.strip() for column in next(reader, [])])
        for row in reader:
            if row:
                if len(row) > len(header):
                    raise UserError(
                        f"{plain(name)}:{reader.line_num}: has {len(row)} values for {len(header)} columns; "
                        "put quotes about a value with a comma in it"
                    )
                rows.append(row + [""] * (len(header) - len(row)))
                where.append(f"{name}:{reader.line_num}")
    except csv.Error as error:
        raise UserError(f"{plain(name)}:{reader.line_num}: is not CSV ({error})") from error
    return Table({column: [row[place] for row in rows] for place, column in enumerate(header)}, where)


def read_jsonl(name: str, content: bytes) -> Table:
    """A table of one JSON object a line; an object may lack columns."""
    rows, where = [], []
    for number, line in enumerate(text_of(name, content).split("\n"), 1):
        if line.strip():
            row = parse_json(f"{name}:{number}", line)
            if not isinstance(row, dict):
                raise UserError(f'{plain(name)}:{number}: is not an object such as {{"file_name": "a.png"}}')
            rows.append(row)
            where.append(f"{name}:{number}")
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return Table({column: [row.get(column) for row in rows] for column in columns}, where)


def read_json(name: str, content: bytes) -> Table:
    """A table of a list of objects, an object by column or by file name, or stylegan's [[file, label], ...].

    Raises UserError.
    """
    known = parse_json(name, text_of(name, content))
    if isinstance(known, dict) and [*known] == ["labels"] and isinstance(known["labels"], list | None):
        return _stylegan(name, known["labels"] or ())
    if isinstance(known, dict) and any(
        str(column).lower() in FILE_NAME and isinstance(cells, list) for column, cells in known.items()
    ):
        return _by_column(name, known)
    if isinstance(known, dict) and len(known) == 1 and isinstance(only := next(iter(known.values())), list):
        known = only  # {"images": [...]}
    if isinstance(known, dict):
        known = [{"file_name": file, **(_by_file(row))} for file, row in known.items()]
    if not isinstance(known, list) or not all(isinstance(row, dict) for row in known):
        raise UserError(f"{plain(name)}: holds no table; expected a list of objects with a file_name each")
    return _of_rows(known, [f"{name}, row {place}" for place in range(1, len(known) + 1)])


def _by_column(name: str, columns: Mapping[str, Any]) -> Table:
    """A table of an object of columns, each a list. Raises UserError."""
    lengths = {len(cells) if isinstance(cells, list) else -1 for cells in columns.values()}
    if len(lengths) > 1 or -1 in lengths:
        raise UserError(f"{plain(name)}: expected lists of one length, one for each column")
    return Table(dict(columns), [f"{name}, row {place}" for place in range(1, lengths.pop() + 1)])


def _by_file(row: Any) -> Mapping[str, Any]:
    """The row of a file in an object by file name: an object, a caption, or several."""
    if isinstance(row, dict):
        tags = row.get("tags")
        return {**row, "tags": ", ".join(map(str, tags))} if isinstance(tags, list) else row
    return {"text": row} if isinstance(row, str | list) else {"label": row}


def _stylegan(name: str, labels: Sequence[Any]) -> Table:
    rows = []
    for place, pair in enumerate(labels, 1):
        match pair:
            case [str(file), int() | str() as label] if not isinstance(label, bool):
                rows.append({"file_name": file, "label": str(label)})
            case [str(file), list(values)]:
                rows.append(
                    {"file_name": file} | {f"label {index}": value for index, value in enumerate(values)}
                )
            case _:
                raise UserError(f'{plain(name)}: label {place} is {str(pair)[:40]}; expected ["FILE", CLASS]')
    return _of_rows(rows, [f"{name}, label {place}" for place in range(1, len(rows) + 1)])


def read_parquet(name: str, content: bytes) -> Table:
    """A table of a Parquet file. Raises UserError, also where pyarrow is missing."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{plain(name)}: needs the package pyarrow; run: {install('parquet')}") from error
    try:
        rows = parquet.read_table(io.BytesIO(content)).to_pydict()
    except Exception as error:  # pyarrow's, and whatever a damaged file leads to
        raise UserError(f"{plain(name)}: is not a whole Parquet file ({plain(str(error))[:80]})") from error
    columns = {column: cells for column, cells in rows.items() if column != "__index_level_0__"}
    pictures = [column for column, cells in columns.items() if any(_is_picture(cell) for cell in cells[:3])]
    if pictures:
        raise UserError(
            f"{plain(name)}: holds the images themselves, in {pictures[0]!r}; set data.source=hub"
        )
    count = len(next(iter(columns.values()), []))
    return Table(
        {column: [_plain(cell) for cell in cells] for column, cells in columns.items()},
        [f"{name}, row {place}" for place in range(1, count + 1)],
    )


def _is_picture(cell: Any) -> bool:
    return isinstance(cell, bytes) or (isinstance(cell, dict) and "bytes" in cell)


def _plain(cell: Any) -> Any:
    """A cell as JSON would hold it: dates as text."""
    return cell if cell is None or isinstance(cell, str | int | float | list | dict) else str(cell)


def _of_rows(rows: Sequence[Mapping[str, Any]], where: Sequence[str]) -> Table:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return Table({column: [row.get(column) for row in rows] for column in columns}, where)


def parse_json(where: str, text: str) -> Any:
    """A JSON value. Raises UserError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{plain(where)}: is not JSON ({plain(str(error))})") from error


def text_of(name: str, content: bytes) -> str:
    """The text of a file in UTF-8, or UTF-16 where it says so (Excel, Notepad). Raises UserError."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{plain(name)}: is not UTF-8 text; save it as UTF-8") from error


def _distinct(header: list[str]) -> list[str]:
    seen: set[str] = set()
    for place, column in enumerate(header):
        count = 0
        while header[place] in seen:
            count += 1
            header[place] = f"{column}_{count}"
        seen.add(header[place])
    return header
