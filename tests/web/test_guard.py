"""Attacks on the page: each is turned away before anything is read, and nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import struct
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the page needs the extra web")

from page_client import Page
from safelight.web import uploads
from safelight.web.guard import MOST, Guard
from safelight.web.shell import HERE

TUNE = {"act": "tune", "run": "whole", "options": {"changes": {"optim.lr": 1e-4}}}
ADDRESSES = ("/", "/api/runs", "/run/whole", "/static/main.js", "/api/run/whole/tiles/20.png", "/api/events")


@pytest.mark.parametrize("address", ADDRESSES)
def test_nothing_is_shown_without_the_cookie(page, address):
    page.cookies.clear()
    answer = page.get(address)
    assert answer.status_code == 401
    assert "whole" not in answer.text


@pytest.mark.parametrize("token", ["", "x", "guessed" * 8, "ünïcode"])
def test_a_guessed_token_is_turned_away(page, token):
    page.cookies.clear()
    assert page.get("/enter", params={"token": token}).status_code == 401
    assert not page.cookies


def test_a_link_is_good_once(page):
    link = page.guard.link()
    page.cookies.clear()
    answer = page.get(link, follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("safelight-8420=")
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    page.cookies.clear()
    assert page.get(link).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8420", "127.0.0.1.evil.example", "", "10.0.0.7:8420"]
)
def test_a_name_that_was_rebound_to_this_machine_is_not_answered(page, host):
    assert page.get("/api/runs", headers={"host": host}).status_code == 421


def test_other_ports_of_this_machine_are_answered_as_ssh_forwards_them(page):
    for host in ("127.0.0.1:9999", "localhost:8420", "[::1]:8420"):
        assert page.get("/api/runs", headers={"host": host}).status_code == 200


def test_with_a_host_of_ones_own_addresses_are_good_and_names_are_not():
    guard = Guard(None, 8420, "0.0.0.0")
    assert guard._is_own("10.0.0.7:8420")
    assert guard._is_own("[fe80::1]:8420")
    assert not guard._is_own("evil.example:8420")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:8421"},
        {"origin": "https://127.0.0.1:8420"},
        {"origin": "null"},
        {"x-safelight": ""},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=application/json"},
    ],
)
@pytest.mark.parametrize("address", ["/api/jobs", "/api/jobs/1/cancel", "/api/model", "/api/model/release"])
def test_a_write_of_another_site_or_of_a_form_is_refused(page, runs, headers, address):
    assert page.post(address, TUNE, **headers).status_code == 403
    assert not (runs / "whole" / "inbox").exists()
    assert not page.app.state.jobs.all


def test_a_write_without_an_origin_is_refused(page):
    headers = {"x-safelight": "1", "content-type": "application/json"}
    assert page.client.post("/api/jobs", content=json.dumps(TUNE), headers=headers).status_code == 403


def test_a_large_body_is_refused(page):
    assert page.post("/api/jobs", {"act": "x" * MOST}).status_code == 413


NAMES = (
    "..",
    ".",
    "%2e%2e",
    "..%2fwhole",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "whole%00",
    "%5c..%5c",
    "nobody",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_path_leads_nowhere_but_to_a_listed_run(page, name):
    for rest in ("", "/curves", "/journal", "/disk", "/sheets/00000020.png", "/tiles/20.png"):
        assert page.get(f"/api/run/{name}{rest}").status_code == 404


@pytest.mark.parametrize(
    "file", ["..%2frecipe.toml", "%2e%2e%2frun.json", "..%2f..%2fsecret.png", "none.png"]
)
def test_a_file_is_one_of_the_listing_of_its_folder(page, runs, file):
    (runs / "secret.png").write_bytes(b"secret")
    for folder in ("sheets", "panels", "specimens", "checkpoints", "..", "%2e%2e", "inbox"):
        assert page.get(f"/api/run/whole/{folder}/{file}").status_code == 404
    assert page.get(f"/static/{file}").status_code == 404
    assert page.get("/static/..%2fguard.py").status_code == 404


def test_links_in_a_run_are_not_followed(page, runs, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "00000077.png").write_bytes((runs / "whole/sheets/00000020.png").read_bytes())
    os.symlink(secret / "00000077.png", runs / "whole/sheets/00000078.png")
    assert page.get("/api/run/whole/sheets/00000078.png").status_code == 404
    assert page.get("/api/run/whole/tiles/78.png").status_code == 404
    answer = page.get("/api/run/whole")
    assert answer.status_code == 404
    assert "is a link out of the run" in answer.json()["mistake"]
    (runs / "whole/sheets/00000078.png").unlink()
    (runs / "whole/panels").rename(runs / "whole/elsewhere")
    os.symlink(secret, runs / "whole/panels")
    assert page.get("/api/run/whole/panels/00000077.png").status_code == 404


def test_a_name_that_is_markup_is_text(page, runs):
    name = '<img src=x onerror="alert(1)">'
    (runs / "whole").rename(runs / name)
    for address in ("/", "/run/" + name.replace("/", "%2f")):
        text = page.get(address).text
        assert "<img src=x" not in text
        assert "&lt;img" in text or address != "/"
    assert page.get("/api/runs").headers["content-type"] == "application/json"


def test_every_answer_forbids_what_is_from_elsewhere(page):
    for address in (*ADDRESSES[:-1], "/nowhere", "/api/run/none"):
        headers = page.get(address).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_the_page_names_no_other_site():
    for path in (HERE / "static").iterdir():
        assert not re.search(r"(src|href|from|url|fetch)\W{1,3}(https?:)?//", path.read_text()), path


@pytest.mark.parametrize("folder", [HERE / "vendor", Path(__file__).parent / "vendor"])
def test_vendored_files_are_what_was_fetched(folder):
    sums = json.loads((folder / "sha256.json").read_text())["files"]
    assert set(sums) == {path.name for path in folder.iterdir()} - {"sha256.json"}
    for name, sha256 in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256


# --- what acts may say ---


@pytest.mark.parametrize(
    ("act", "options"),
    [
        ("tune", {"changes": {"--runs": "/tmp"}}),
        ("tune", {"changes": {"optim.lr": "1\n2"}}),
        ("tune", {"changes": ["--help"]}),
        ("fork", {"step": "3; rm -rf /"}),
        ("fork", {"step": -1}),
        ("fork", {"step": True}),
        ("fork", {"step": 3, "name": "--help"}),
        ("fork", {"step": 3, "name": "../up"}),
        ("keep", {"ids": ["--out=x"]}),
        ("film", {"ids": ["20.1"], "changes": {"train.steps": 9}}),
        ("search", {"prompt": "a\x1bb"}),
        ("resume", {"steps": 9, "schedule": "--help"}),
        ("prune", {"budget": "--dry"}),
        ("train", {"recipe": "/etc/passwd"}),
        ("train", {"recipe": "my.toml"}),
        ("save-comparison", {"others": ["--out"]}),
        ("save-comparison", {"others": ["../runs"]}),
        ("save-comparison", {}),
        ("inspect", {"folder": "--help"}),
        ("inspect", {"folder": "a\nb"}),
        ("inspect", {"folder": ""}),
        ("inspect", {"folder": ["photos"]}),
        ("inspect", {"folder": "photos", "changes": {"train.steps": 9}}),
        ("export", {}),
        ("__class__", {}),
    ],
)
def test_an_act_takes_no_word_that_is_not_its_kind(page, act, options):
    answer = page.post("/api/jobs", {"act": act, "run": "whole", "options": options})
    assert answer.status_code == 400
    assert answer.json()["mistake"]
    assert not page.app.state.jobs.all


@pytest.mark.parametrize("run", ["../whole", "--help", "nobody", "", 3, None])
def test_an_act_is_on_a_listed_run(page, run):
    body = {"act": "tune", "run": run, "options": {"changes": {"optim.lr": 1}}}
    assert page.post("/api/jobs", body).status_code == 400


@pytest.mark.parametrize("body", [[], "x", 3])
def test_a_body_that_is_no_object_is_refused(page, body):
    assert page.post("/api/jobs", body).status_code == 400
    assert page.post("/api/model", body).status_code == 400


def test_read_only_refuses_acts(runs):
    shown = Page(runs, read_only=True).enter()
    assert "read-only" in shown.post("/api/jobs", TUNE).json()["mistake"]


# --- pictures that are sent ---


def saved(kind: str = "PNG", size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, kind)
    return file.getvalue()


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def header(width: int, height: int) -> bytes:
    """A PNG that says it is so large, with hardly any data."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


NO_PICTURE, NO_FILE = "picture: is no PNG, JPEG or WebP file", "picture: expected a PNG, JPEG or WebP file"


@pytest.mark.parametrize(
    ("picture", "mistake"),
    [
        (None, NO_FILE),
        (3, NO_FILE),
        ("/etc/passwd", NO_FILE),
        ("../whole/sheets/00000020.png", NO_FILE),
        ("file:///etc/passwd", NO_FILE),
        ("data:image/png,plain", NO_FILE),
        ("data:image/png;base64,***", NO_PICTURE),
        ("data:image/png;base64,\u00e9", NO_PICTURE),
        (url(b""), NO_PICTURE),
        (url(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"), NO_PICTURE),
        (url(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"), NO_PICTURE),
        (url(saved("GIF")), NO_PICTURE),
        (url(saved("TIFF"), "image/jpeg"), NO_PICTURE),
        (url(bytes(uploads.MOST + 9)), "picture: is larger than 5 MB; make it smaller"),
        (url(header(10_000, 5_001)), "picture: has more than 50 million pixels; make it smaller"),
        (url(header(60_000, 60_000)), "picture: has more than 50 million pixels; make it smaller"),
    ],
)
def test_what_is_no_picture_or_too_large_a_one_is_refused_before_a_job(page, picture, mistake):
    answer = page.post("/api/jobs", {"act": "project", "run": "whole", "options": {"picture": picture}})
    assert (answer.status_code, answer.json()) == (400, {"mistake": mistake})
    assert not page.app.state.jobs.all


@pytest.mark.parametrize("kind", uploads.FORMATS)
def test_a_picture_is_what_its_content_says(kind):
    assert uploads.picture(url(saved(kind), "text/html")) == saved(kind)


def test_more_than_a_request_may_hold_is_refused_unread(page):
    body = {"act": "project", "run": "whole", "options": {"picture": url(bytes(MOST))}}
    assert page.post("/api/jobs", body).status_code == 413


@pytest.mark.parametrize(
    "options",
    [
        {"conditions": {"mask": "/etc/passwd"}},
        {"conditions": {"text": "../secret.npy"}},
        {"conditions": {"text": "/secret.NPZ"}},
        {"conditions": {"--out": "x"}},
        {"conditions": {"label": "3\n4"}},
        {"conditions": ["label=3"]},
        {"steps": 0},
        {"step": "../4"},
        {"changes": {"train.device": "cuda"}},
    ],
)
def test_a_projection_opens_no_file_that_the_sender_names(page, options):
    options = {"picture": url(saved()), **options}
    assert page.post("/api/jobs", {"act": "project", "run": "whole", "options": options}).status_code == 400
    assert not page.app.state.jobs.all


def test_names_that_a_sender_gives_a_picture_are_not_used(page, runs, tmp_path):
    before = set(tmp_path.rglob("*"))
    up = {"picture": url(saved()), "name": "../../up.png", "file": "../up.png", "out": "../../up.png"}
    job = page.post("/api/jobs", {"act": "project", "run": "whole", "options": up}).json()
    assert job["command"] == "safelight project whole picture --out project.png"
    made = page.app.state.jobs.get(job["id"])
    page.post(f"/api/jobs/{job['id']}/cancel", {})
    while made.ended is None:
        time.sleep(0.05)
    assert {path.name for path in made.folder.iterdir()} <= {"stdout", "stderr"}
    assert page.get(f"/api/jobs/{job['id']}/picture").status_code == 404  # what was sent is not handed out
    for name in ("..%2f..%2fup.png", "%2e%2e%2fstdout", "stderr"):
        assert page.get(f"/api/jobs/{job['id']}/{name}").status_code == 404
    assert set(tmp_path.rglob("*")) == before
