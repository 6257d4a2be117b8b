"""Server-sent events: which of the watched runs changed. What changed is asked for where it is shown.

One task of the server looks, whoever watches; a slow reader misses steps in between and nothing else. The id
of an event says what its reader has seen of all that it watches, so that one who comes back with it as
Last-Event-ID gets what changed meanwhile, once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from safelight.files import to_json
from safelight.store.directory import RunDirectory, names
from safelight.web.jobs import Jobs
from safelight.web.views import Views, rows_stamp, stamp

EVERY = 0.7  # seconds between two looks at what somebody watches
SLOWLY = 3  # looks until the list of all runs is looked at again
QUIET = 15.0  # seconds after which a comment keeps the connection
LIST, JOBS, ROWS = "*", "!", "~"  # watched besides runs by name; ~NAME: the rows of a run


@dataclass
class Watcher:
    """States of what is watched: a short text each, another one after every change."""

    views: Views
    jobs: Jobs
    states: dict[str, str] = field(default_factory=dict)
    _watched: Counter[str] = field(default_factory=Counter)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _looking: asyncio.Task[None] | None = None

    @contextmanager
    def watching(self, subjects: Sequence[str]) -> Iterator[None]:
        """Look at these meanwhile."""
        self._watched.update(subjects)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._watched.subtract(subjects)

    async def events(self, subjects: Sequence[str], last: str = "") -> AsyncIterator[str]:
        """Events for one reader, without end. last: the id of the last one it had."""
        seen = (
            dict(zip(subjects, last.split("."), strict=False)) if last.count(".") == len(subjects) - 1 else {}
        )
        with self.watching(subjects):
            await self.refresh(subjects)
            yield "retry: 1000\n\n"
            while True:
                now = {name: self.states[name] for name in subjects if name in self.states}
                if changed := [name for name, state in now.items() if seen.get(name) != state]:
                    seen |= now
                    id = ".".join(seen.get(name, "") for name in subjects)
                    yield f"id: {id}\ndata: {to_json({'changed': changed})}\n\n"
                    continue  # a slow reader: there may have been more since
                try:
                    async with self._changed:
                        await asyncio.wait_for(self._changed.wait(), QUIET)
                except TimeoutError:
                    yield ": still here\n\n"

    async def refresh(self, subjects: Sequence[str]) -> None:
        """Look at some subjects now."""
        self.states |= await run_in_threadpool(self._states, subjects)

    async def _look(self) -> None:
        turn = 0
        while subjects := [name for name, count in self._watched.items() if count > 0]:
            slow = LIST in subjects and turn % SLOWLY != 0
            now = await run_in_threadpool(
                self._states, [name for name in subjects if not (slow and name == LIST)]
            )
            if any(self.states.get(name) != state for name, state in now.items()):
                self.states |= now
                async with self._changed:
                    self._changed.notify_all()
            turn += 1
            await asyncio.sleep(EVERY)

    def _states(self, subjects: Sequence[str]) -> dict[str, str]:
        return {subject: self._state(subject) for subject in subjects}

    def _state(self, subject: str) -> str:
        if subject == JOBS:
            return str(self.jobs.version)
        folder, there = self.views.folder, names(self.views.folder)
        if subject.startswith(ROWS):
            seen: object = [rows_stamp(folder / name) for name in there if name == subject.removeprefix(ROWS)]
        else:
            paths = [folder / name for name in there if subject in (LIST, name)]
            seen = [(path.name, stamp(path), RunDirectory(path).is_locked(),
                     rows_stamp(path) if subject == LIST else ()) for path in paths]  # fmt: skip
        return hashlib.blake2b(repr(seen).encode(), digest_size=6).hexdigest()
