"""The process that shows a run in other tools while it trains, where [log] names some; see export/live.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from safelight.export.live import FOLDER
from safelight.types import Tell

PATIENCE = 60.0  # seconds that the end of a session waits for it


class LiveLog:
    """A process that follows a session. Whatever becomes of it, training goes on."""

    def __init__(self, run: Path, session: int, tools: Sequence[str], warn: Tell) -> None:
        for name in tools:
            if find_spec(name) is None:
                warn(f"log.to: {name} is not installed, so nothing is shown there: pip install {name}")
        self.warn, self.said = warn, run / FOLDER / "log.txt"
        present = [name for name in tools if find_spec(name)]
        self.process: subprocess.Popen[bytes] | None = None
        if not present:
            return
        command = [sys.executable, "-m", "safelight.export.live", str(run), str(session), *present]
        try:
            self.said.parent.mkdir(exist_ok=True)
            with self.said.open("ab") as said:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=said,
                    stderr=said,
                    env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
                    start_new_session=True,  # Ctrl-C is for the training
                )
        except OSError as error:
            warn(f"log.to: cannot be started ({error})")

    def close(self) -> None:
        """Let it have a last look, and wait for it a while."""
        if self.process is None or self.process.stdin is None:
            return
        with suppress(OSError):
            self.process.stdin.close()
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.warn("log.to: is still at work, and goes on by itself")
        else:
            if code:
                self.warn(f"log.to: ended with an error, see {self.said}")
        self.process = None
