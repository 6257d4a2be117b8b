"""A training that is watched, badly, has the bits of one that is not."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette", reason="the page needs the extra web")

import httpx

from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.store import checkpoint_files, metrics
from safelight.store.metrics import MetricsRow
from safelight.training.progress import Show
from safelight.training.start import begin
from safelight.web.jobs import import_path
from tiny import TINY

READERS, KILLED = 50, 10


class Watchers:
    """A server in a process of its own and its readers: half never read, some are killed, then it is."""

    def __init__(self, runs: Path) -> None:
        words = [sys.executable, "-m", "safelight", "web", "--port", "0", "--runs", str(runs)]
        self.server = subprocess.Popen(
            words, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": import_path()}
        )
        assert self.server.stdout
        self.link = self.server.stdout.readline().strip()
        self.readers: list[socket.socket] = []
        self.killed_at = -1

    def begin(self, step: int, steps: int, batch_size: int) -> None:
        """Come in, before the first step."""
        with httpx.Client(timeout=300) as client:
            cookie = "; ".join(f"{name}={value}" for name, value in client.get(self.link).cookies.items())
        at = urlsplit(self.link)
        for number in range(READERS):
            reader = socket.create_connection((at.hostname, at.port), timeout=300)
            reader.sendall(
                f"GET /api/events?of=watched&of=~watched&of=* HTTP/1.1\r\nHost: {at.netloc}\r\n"
                f"Cookie: {cookie}\r\n\r\n".encode()
            )
            self.readers.append(reader)
            heard = b""
            while number % 2 and b'"changed"' not in heard:
                heard += reader.recv(4096)
        for reader in self.readers[:KILLED]:
            reader.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # closed by a reset
            reader.close()

    def rows(self, rows: list[MetricsRow]) -> None:
        """After some steps."""
        if self.killed_at < 0:
            self.killed_at = rows[-1].step
            self.server.kill()


def test_fifty_readers_killed_ones_and_a_killed_server_do_not_touch_a_training(finished, tmp_path):
    watchers = Watchers(tmp_path)
    try:
        run = begin(load("digits-class", TINY), tmp_path, "watched", World(),
                    Show(begin=watchers.begin, rows=watchers.rows))  # fmt: skip
    finally:
        for reader in watchers.readers:
            reader.close()
        watchers.server.kill()
        watchers.server.communicate()
    assert len(watchers.readers) == READERS
    assert 0 <= watchers.killed_at < TINY["train.steps"] - 1
    bits = [
        (metrics.read(each.path)["fingerprint"].tolist(),
         checkpoint_files.read(checkpoint_files.directory(each.path, 30)).digest)
        for each in (run, finished)
    ]  # fmt: skip
    assert bits[0] == bits[1]
