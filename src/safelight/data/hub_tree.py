"""Images in the Arrow files of the library datasets, opened by name like those of a folder."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

from safelight.data.source import BadItem
from safelight.files import opened

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped, unused-ignore]


@dataclass(frozen=True)
class HubTree:
    """Files are named split/row/column."""

    files: Mapping[str, Sequence[str]]

    def open(self, name: str) -> IO[bytes]:
        split, row, column = name.split("/", 2)
        cell = self._columns[split, column][int(row)][column]
        if cell is None:
            raise BadItem("no image there")
        if cell["bytes"] is not None:
            return io.BytesIO(cell["bytes"])
        return opened(cell["path"])

    def describe(self) -> dict[str, Any]:
        return {"kind": "hub", "files": self.files}

    @cached_property
    def _columns(self) -> dict[tuple[str, str], Dataset]:
        """Each column of images by split, its cells not decoded."""
        from datasets import Dataset, Image, concatenate_datasets

        columns = {}
        for split, files in self.files.items():
            whole = concatenate_datasets([Dataset.from_file(file) for file in files])
            for column, feature in whole.features.items():
                if isinstance(feature, Image):
                    one = whole.select_columns([column])
                    columns[split, column] = one.cast_column(column, Image(decode=False))
        return columns
