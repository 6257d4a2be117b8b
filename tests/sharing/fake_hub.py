"""The part of the Hub's HTTP API that pushing and pulling a model needs, on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGE = (".safetensors", ".slr", ".png")  # what the Hub keeps apart from git
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(ThreadingHTTPServer):
    """files: by repository and name. created: repositories. refuse: a token that is wanted."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}
        self.created: dict[str, bool] = {}  # by name: whether it is private
        self.commits: list[str] = []
        self.broken = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        """Print nothing."""

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self) -> None:
        body, hub = self.body(), self.server
        if self.headers.get("Authorization") != "Bearer hf_me" and "/lfs/" not in self.path:
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            fields = json.loads(body)
            name = f"{fields.get('organization') or 'me'}/{fields['name']}"
            hub.created[name] = bool(fields.get("private") or fields.get("visibility") == "private")
            hub.files.setdefault(name, {})
            self.answer({"url": f"{hub.address}/{name}"})
        elif self.path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\n")
            self.answer({"errors": [], "warnings": []})
        elif re.search(r"/preupload/", self.path):
            named = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": name, "uploadMode": "lfs" if name.endswith(LARGE) else "regular",
                                    "shouldIgnore": False} for name in named]})  # fmt: skip
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            made = [{**entry, "actions": {"upload": {"href": f"{hub.address}/upload/{entry['oid']}"}}}
                    for entry in objects]  # fmt: skip
            self.answer({"transfer": "basic", "objects": made})
        elif match := re.match(r"/api/models/(.+?)/commit/", self.path):
            if hub.broken:
                self.answer({"error": "the disk is full"}, 507)
                return
            self.commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self.answer({"error": f"no {self.path}"}, 404)

    def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.commits.append(value["summary"])
            elif line["key"] == "file":
                self.server.files[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.files[name][value["path"]] = self.server.large[value["oid"]]
        url = f"{self.server.address}/{name}/commit/{COMMIT}"
        self.answer({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})

    def do_PUT(self) -> None:
        content = self.body()
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.large[oid] = content
        self.answer({})

    def do_GET(self) -> None:
        match = re.match(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        content = self.server.files.get(match[1], {}).get(match[3]) if match else None
        if match is None or content is None:
            code = "EntryNotFound" if match and match[1] in self.server.files else "RepoNotFound"
            self.answer({"error": "not there"}, 404, X_Error_Code=code, X_Repo_Commit=COMMIT)
            return
        self.answer(content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=COMMIT,
                    Accept_Ranges="bytes")  # fmt: skip

    do_HEAD = do_GET


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub that listens."""
    with FakeHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
