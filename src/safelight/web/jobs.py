"""Commands that the page runs: `safelight ... --json` in processes of their own, one at a time.

A crash of the page cannot hurt them, nor they it: they write to files, not to pipes, and are no part of the
server's session. What takes a moment, such as an edit, does not wait in the queue.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

from safelight.config import UserError

EVERY = 0.1  # seconds between two looks at a process
TAIL = 1 << 16  # bytes of output that are shown
KEPT = 200  # jobs that are remembered
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "100"}


class Placed(str):
    """A word that is a file in the job's folder."""


@dataclass
class Job:
    """A command and what became of it."""

    id: int
    words: Sequence[str]  # behind `safelight`
    hidden: Sequence[str]  # words that are not shown: --json, --runs
    run: str
    quick: bool
    folder: Path  # of its output, and of files that it makes
    status: Literal["waiting", "running", "done", "failed", "cancelled"] = "waiting"
    code: int | None = None
    begun: float | None = None  # seconds since 1970
    ended: float | None = None
    files: Sequence[str] = ()  # that it makes in its folder
    inputs: Sequence[str] = ()  # likewise, that it reads; they go with its end
    problem: str = ""  # why it never began
    _process: subprocess.Popen[bytes] | None = None
    _cancelled: bool = False

    @property
    def command(self) -> str:
        """What to type for the same."""
        return shlex.join(["safelight", *self.words])

    def to_dict(self) -> dict[str, Any]:
        """As the page shows it, its output to the end."""
        there = [name for name in self.files if (self.folder / name).exists()] if self.code == 0 else []
        return {
            "id": self.id, "command": self.command, "run": self.run, "status": self.status, "code": self.code,
            "begun": self.begun, "ended": self.ended, "output": self.problem or self._text("stderr"),
            "files": there,
            "result": self._result(),
        }  # fmt: skip

    def _text(self, name: str) -> str:
        try:
            with (self.folder / name).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - TAIL))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def _result(self) -> Any:
        if self.code != 0:
            return None
        if "--json" not in self.hidden:
            return self._text("stdout")
        with suppress(ValueError):
            return json.loads(self._text("stdout"))
        return None


@dataclass
class Jobs:
    """The queue. runs: the folder of runs that commands work on."""

    runs: Path
    version: int = 0
    all: dict[int, Job] = field(default_factory=dict)
    _ids: count[int] = field(default_factory=lambda: count(1))
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _place: Path | None = None

    def add(
        self,
        words: Sequence[str],
        run: str = "",
        quick: bool = False,
        files: Sequence[str] = (),
        inputs: Mapping[str, bytes] | None = None,
        in_words: bool = False,
    ) -> Job:
        """Queue a command. inputs: files that it reads, by name. in_words: it has no --runs, and its result
        is text. Call it in the loop. Raises OSError.
        """
        if self._place is None:
            self._place = Path(tempfile.mkdtemp(prefix="safelight-web-"))
        id = next(self._ids)
        folder = self._place / str(id)
        folder.mkdir()
        for name, data in (inputs or {}).items():
            (folder / name).write_bytes(data)
        hidden = [] if in_words else ["--json", "--runs", str(self.runs.absolute())]
        job = Job(id, words, hidden, run, quick, folder, files=files, inputs=[*(inputs or {})])
        self.all[id] = job
        for old in [known for known in self.all.values() if known.ended][:-KEPT]:
            del self.all[old.id]
        self._touch()
        task = asyncio.create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def get(self, id: int) -> Job:
        """Raises UserError where there is none."""
        if id not in self.all:
            raise UserError(f"job {id}: there is none; the server was started anew, or it is long ago")
        return self.all[id]

    def cancel(self, id: int) -> None:
        """Ctrl-C for a running job, so that a training stops cleanly; the second time it is killed."""
        job = self.get(id)
        if job._process is None:
            job._cancelled = True
        elif job.status == "running":
            with suppress(ProcessLookupError):
                os.killpg(job._process.pid, signal.SIGKILL if job._cancelled else signal.SIGINT)
            job._cancelled = True
        self._touch()

    async def close(self) -> None:
        """Forget what waits; what runs goes on by itself."""
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, job: Job) -> None:
        if job.quick:
            await self._execute(job)
            return
        async with self._turn:
            await self._execute(job)

    async def _execute(self, job: Job) -> None:
        try:
            await self._follow(job)
        except OSError as error:  # a full disk, or no memory for a process
            job.problem = f"it could not be started: {error.strerror or error}"
            job.ended, job.status = time.time(), "failed"
            self._touch()

    async def _follow(self, job: Job) -> None:
        if not job._cancelled:
            job.begun, job.status = time.time(), "running"
            self._touch()
            with (job.folder / "stdout").open("wb") as out, (job.folder / "stderr").open("wb") as err:
                # Not asyncio's: that kills its processes when the loop ends.
                job._process = subprocess.Popen(
                    [sys.executable, "-m", "safelight", *_placed(job), *job.hidden],
                    stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                    env={**os.environ, **ENVIRONMENT, "PYTHONPATH": import_path()},
                )  # fmt: skip
            while (code := job._process.poll()) is None:
                await asyncio.sleep(EVERY)
            job.code = code
        for name in job.inputs:
            (job.folder / name).unlink(missing_ok=True)
        job.ended = time.time()
        job.status = "cancelled" if job._cancelled else "done" if job.code == 0 else "failed"
        self._touch()

    def _touch(self) -> None:
        self.version += 1


def _placed(job: Job) -> list[str]:
    """The words of a job, its files in its folder."""
    return [str(job.folder / word) if isinstance(word, Placed) else word for word in job.words]


def import_path() -> str:
    """Where this process imports from, for one with another working directory."""
    return os.pathsep.join(os.path.abspath(place) for place in sys.path if place)
