from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from safelight.config import UserError
from safelight.data.cache import download

CONTENT = bytes(range(256)) * 4096  # 1 MiB: several chunks
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Mirrors(BaseHTTPRequestHandler):
    """/good/ has the file, /other/ a different one, /short/ breaks off half way, /empty/ answers 404."""

    def do_GET(self) -> None:
        mirror = self.path.split("/")[1]
        if mirror == "empty":
            self.send_error(404)
            return
        body = CONTENT if mirror != "other" else CONTENT[::-1]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if mirror == "short" else body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests are silent."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirrors) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_good_file_arrives_and_progress_is_told(server: str, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    path = download("a.gz", MD5, [f"{server}/good/"], tmp_path, lambda *now: seen.append(now))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("downloading a.gz", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})


def test_it_is_fetched_once(server: str, tmp_path: Path) -> None:
    download("a.gz", MD5, [f"{server}/good/"], tmp_path, None)
    assert download("a.gz", MD5, [f"{server}/empty/"], tmp_path, None).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("mirror", "says"),
    [
        ("empty", "answered 404"),
        ("short", f"broke off after {len(CONTENT) // 2} of {len(CONTENT)} bytes"),
        ("other", "sent a different file"),
    ],
)
def test_a_mirror_that_fails_leaves_nothing_and_the_next_is_asked(
    server: str, tmp_path: Path, mirror: str, says: str
) -> None:
    with pytest.raises(UserError, match=says) as error:
        download("a.gz", MD5, [f"{server}/{mirror}/"], tmp_path, None)
    assert "data.path" in str(error.value)
    assert files(tmp_path) == []
    path = download("a.gz", MD5, [f"{server}/{mirror}/", f"{server}/good/"], tmp_path, None)
    assert path.read_bytes() == CONTENT
    assert files(tmp_path) == ["a.gz"]


def test_no_answer_names_every_mirror(tmp_path: Path) -> None:
    closed = "http://127.0.0.1:9/"  # the discard port: refused
    with pytest.raises(UserError, match=r"a\.gz: could not be downloaded.*:9/one/.*refused.*:9/two/"):
        download("a.gz", MD5, [f"{closed}one/", f"{closed}two/"], tmp_path, None)
