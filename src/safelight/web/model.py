"""The process that holds a model for the page: one, started when it is needed, let go after idle minutes.

While it computes, only the latest request of each place of the page waits: a slider that is dragged leaves no
queue behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from safelight.config import UserError
from safelight.web.jobs import import_path

IDLE = 300.0  # seconds
LONGEST = 64 << 20  # bytes of an answer


class Superseded(Exception):
    """A later request of the same place came."""


@dataclass
class ModelProcess:
    """Sends requests to the worker, one at a time."""

    _process: asyncio.subprocess.Process | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: dict[str, object] = field(default_factory=dict)
    _release: asyncio.TimerHandle | None = None

    async def ask(self, place: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request. Raises `Superseded`, and UserError where the worker says so, or died."""
        ticket = self._waiting[place] = object()
        async with self._turn:
            if self._waiting.get(place) is not ticket:
                raise Superseded
            del self._waiting[place]
            if self._release:
                self._release.cancel()
            try:
                answer = await self._answer(request)
            finally:
                self._release = asyncio.get_running_loop().call_later(IDLE, self.stop)
        if "mistake" in answer:
            raise UserError(str(answer["mistake"]))
        return answer

    @property
    def pid(self) -> int | None:
        """Of the worker, while there is one."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def stop(self) -> None:
        """Let the model go; the next request starts another process."""
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        self._process = None

    async def close(self) -> None:
        """Let the model go, and wait until it has."""
        process = self._process
        if self._release:
            self._release.cancel()
        self.stop()
        if process:
            await process.communicate()

    async def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "safelight.web.worker",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LONGEST,
                start_new_session=True, env={**os.environ, "PYTHONPATH": import_path()},
            )  # fmt: skip
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
            answer: dict[str, Any] = json.loads(line)
        except (OSError, ValueError) as error:
            self.stop()
            raise UserError("the process with the model ended; ask again to start another") from error
        except asyncio.CancelledError:
            self.stop()  # its answer would be taken for that of the next request
            raise
        return answer
