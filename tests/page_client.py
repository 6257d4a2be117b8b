"""The page of a folder of runs, asked in this process."""

from __future__ import annotations

from pathlib import Path

from starlette.testclient import TestClient

from safelight.web.guard import Guard
from safelight.web.server import application

PORT = 8420
WRITE = {"origin": f"http://127.0.0.1:{PORT}", "x-safelight": "1"}


class Page:
    """A browser that was let in."""

    def __init__(self, folder: Path, read_only: bool = False) -> None:
        self.app = application(folder, read_only=read_only)
        self.guard = Guard(self.app, PORT)
        self.client = TestClient(self.guard, base_url=f"http://127.0.0.1:{PORT}")
        self.get, self.cookies = self.client.get, self.client.cookies

    def enter(self) -> Page:
        assert self.client.get(self.guard.link(), follow_redirects=False).status_code == 303
        return self

    def post(self, path: str, body: object, **headers: str):
        return self.client.post(path, json=body, headers={**WRITE, **headers})
