"""Searches of a run, a folder each: searches/<name>/.

    search.json         what is searched for, and how: fixed when it begins
    journal.jsonl       one sealed line a generation: every score, and the best so far
    state.safetensors   what the search goes on from: written whole, every few generations
    result.json         the result, once the search has ended

The state is the truth: lines past it are of generations that are made again, with the same bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load, save

from safelight import files
from safelight.config import UserError
from safelight.store import lock, sealed
from safelight.store.durable import mendable, sweep, write_bytes

SEARCHES = "searches"
NAME = re.compile(r"[a-z][a-z0-9-]{0,79}")
SETTINGS, JOURNAL, STATE, RESULT = "search.json", "journal.jsonl", "state.safetensors", "result.json"
LARGE = 1 << 32  # bytes of a state
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class SearchDirectory:
    """A search on disk."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @contextmanager
    def begun(self, settings: Mapping[str, Any]) -> Iterator[None]:
        """Be the one writer of a search with these settings. Raises UserError where it has others."""
        with mendable(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with lock.held(self.path):
            sweep(self.path, alone=True)
            stated = sealed.unseal(sealed.line(settings)) or {}
            if (self.path / SETTINGS).exists():
                was = sealed.read(self.path / SETTINGS)
                if other := [key for key in {**was, **stated} if was.get(key) != stated.get(key)]:
                    raise UserError(
                        f"search {self.name}: has another {other[0]} ({was.get(other[0])}, not "
                        f"{stated.get(other[0])}); choose another --name"
                    )
            else:
                write_bytes(self.path / SETTINGS, sealed.pretty(settings))
            yield

    def settings(self) -> dict[str, Any]:
        """What search.json says. Raises UserError where it is missing or damaged."""
        return sealed.read(self.path / SETTINGS)

    def append(self, fields: Mapping[str, Any]) -> None:
        """A line about a generation."""
        with mendable(self.path / JOURNAL), (self.path / JOURNAL).open("ab") as file:
            file.write(sealed.line(fields))

    def lines(self) -> list[dict[str, Any]]:
        """The lines that are whole, up to the first that is not."""
        path = self.path / JOURNAL
        with mendable(path):
            texts = list(files.lines(path, links=False)) if path.exists() else []
        lines = []
        for text in texts:
            if (fields := sealed.unseal(text)) is None:
                break
            lines.append(fields)
        return lines

    def rewind(self, generations: int) -> None:
        """Keep the lines of so many generations. Raises UserError where some of them are lost."""
        lines = self.lines()
        if len(lines) < generations:
            raise UserError(
                f"{self.path / JOURNAL}: generation {len(lines)} is damaged; delete the search and begin anew"
            )
        write_bytes(self.path / JOURNAL, b"".join(sealed.line(line) for line in lines[:generations]))

    def save(self, arrays: Arrays) -> None:
        """Replace the state, durably."""
        write_bytes(
            self.path / STATE, save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        )

    def state(self) -> dict[str, NDArray[Any]] | None:
        """The state, None before the first. Raises UserError where it is damaged."""
        path = self.path / STATE
        if not path.exists():
            return None
        try:
            with mendable(path):
                return dict(load(files.read(path, LARGE, links=False)))
        except safetensors.SafetensorError as error:
            raise UserError(f"{path}: is damaged; delete {self.path} and search again") from error

    def end(self, result: Mapping[str, Any]) -> None:
        """Write what came of it."""
        write_bytes(self.path / RESULT, sealed.pretty(result))

    def result(self) -> dict[str, Any] | None:
        """What came of it, None before it has ended."""
        return sealed.read(self.path / RESULT) if (self.path / RESULT).exists() else None


def directory(run: Path, name: str) -> SearchDirectory:
    """The search of a name, whether or not it is there. Raises UserError for a name that is none."""
    if not NAME.fullmatch(name):
        raise UserError(f"--name {name}: use small letters, digits and hyphens, a letter first")
    return SearchDirectory(run / SEARCHES / name)
