"""A folder of runs, served to a real browser. A console message fails a test: a violation of the content
security policy is one, and so is an exception.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from playwright import sync_api

from safelight.store import sealed
from safelight.web.guard import Guard
from safelight.web.server import application

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).parent / "web" / "vendor" / "axe.min.js"
sync_api.expect.set_options(timeout=300_000)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server of the folder in a thread; gives a link that lets a browser in."""
    guard = Guard(application(folder), 0)
    server = uvicorn.Server(uvicorn.Config(guard, port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}{guard.link()}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def chromium() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


class Tab:
    """A page of the browser; `said` is what its console said, and what was asked for from elsewhere."""

    def __init__(self, context: sync_api.BrowserContext, base: str) -> None:
        self.page, self.base, self.said = context.new_page(), base, []
        self.page.set_default_timeout(300_000)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self._seen(request.url))

    def _seen(self, url: str) -> None:
        if not url.startswith((self.base, "data:", "blob:")):
            self.said.append(f"asked for {url}")

    def open(self, address: str) -> None:
        self.page.goto(self.base + address)
        self.page.wait_for_selector("main > :not(.note)")

    def serious(self) -> list[tuple[str, str]]:
        """Serious findings of axe-core: rule and element."""
        if not self.page.evaluate("'axe' in globalThis"):
            self.page.evaluate(AXE.read_text())
        result = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert len(result["passes"]) > 10
        return [(each["id"], each["nodes"][0]["html"]) for each in result["violations"]
                if each["impact"] in ("serious", "critical")]  # fmt: skip


def another(run: Path, name: str) -> Path:
    """A copy of a run beside it, as a run of its own."""
    copy = shutil.copytree(run, run.parent / name)
    fields = sealed.read(copy / "run.json")
    (copy / "run.json").write_bytes(sealed.pretty({**fields, "id": f"{sum(name.encode()):032x}"}))
    return copy
