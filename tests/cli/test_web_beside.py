"""train --web: the page beside a training, in a process that cannot hurt it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the page needs the extra web")

from command_line import run as command
from safelight.cli import web
from safelight.config import UserError


def test_the_page_answers_while_the_block_lasts_and_no_longer(tmp_path, capfd, monkeypatch):
    httpx = pytest.importorskip("httpx")
    said: list[str] = []
    spoke = threading.Event()
    monkeypatch.setattr(web, "say", lambda line, err: (said.append(line), spoke.set()))
    with web.page_beside(True, tmp_path):
        assert spoke.wait(120)
        link = re.fullmatch(r"page: (http://127\.0\.0\.1:\d+)/enter\?token=\S+", said[0])
        assert httpx.get(f"{link[1]}/").status_code == 401
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{link[1]}/")


def test_a_training_goes_on_where_the_page_dies_or_cannot_start(tmp_path, monkeypatch, capsys, tiny_words):
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def dying(words, **options):
        started.append(popen([sys.executable, "-c", "import os; os.abort()"], **options))
        return started[-1]

    monkeypatch.setattr(web.subprocess, "Popen", dying)
    words = [*tiny_words, "train.steps=2", "--no-check", "--web", "--runs", str(tmp_path), "--json"]
    code, _, _ = command(monkeypatch, capsys, "train", "digits-class", *words, "--name", "first")
    assert code == 0
    assert len(started) == 1

    def refused(words, **options):
        raise OSError(12, "no memory")

    monkeypatch.setattr(web.subprocess, "Popen", refused)
    code, _, err = command(monkeypatch, capsys, "train", "digits-class", *words, "--name", "second")
    assert code == 0
    assert "--web: cannot be started" in err


def test_a_page_beside_ends_with_a_training_that_was_killed(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "safelight", "web", "--port", "0", "--beside", "--runs", str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as page:  # fmt: skip
        assert page.stdout
        assert "/enter?token=" in page.stdout.readline()
        nice = int(Path(f"/proc/{page.pid}/stat").read_text().split()[18])
        assert nice == min(19, os.nice(0) + 10)
        page.stdin.close()
        assert page.wait(60) == 0


def test_without_the_extra_nothing_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'safelight\[web\]'"), web.page_beside(True, tmp_path):
        raise AssertionError
