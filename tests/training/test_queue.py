"""Runs that wait: trained in their order, whatever happens to the process that trains them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import run
from safelight import api
from safelight.config import UserError
from safelight.recipe import load
from safelight.store import checkpoint_files, metrics
from safelight.store.directory import RunDirectory
from safelight.store.listing import summary
from training.test_sweep import SMALL, WORDS

ONE = {**SMALL, "train.steps": 4, "watch.every": 4, "watch.images": 4}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("SAFELIGHT_THREADS", "1")


def test_what_waits_is_plain_recipes_in_order(tmp_path, monkeypatch, capsys):
    for words in (["optim.lr=1e-3"], ["optim.lr=1e-2", "--name", "fast"], ["optim.lr=5e-3"]):
        where = ("--runs", str(tmp_path))
        assert run(monkeypatch, capsys, "queue", "add", "digits-class", *WORDS, *words, *where)[0] == 0
    first, second, third = api.queue.entries(tmp_path)
    assert second.file.name == "0002-fast.toml"
    assert second.recipe().tree == load("digits-class", SMALL | {"optim.lr": 1e-2}).tree
    assert second.recipe().name == "digits-class"
    api.queue.remove(2, runs=tmp_path)
    _, out, _ = run(monkeypatch, capsys, "queue", "list", "--json", *where)
    assert [(row["number"], row["status"], row["step"]) for row in json.loads(out)] == [
        (1, "waiting", 0),
        (3, "waiting", 0),
    ]
    with pytest.raises(UserError, match="waits already"):
        api.queue.add("digits-class", SMALL | {"optim.lr": 1e-3}, runs=tmp_path)
    with pytest.raises(UserError, match="2: nothing of that number waits"):
        api.queue.remove(2, runs=tmp_path)
    assert third.name != first.name


def test_it_is_trained_in_order_and_what_fails_is_kept_with_its_reason(tmp_path, monkeypatch, capsys):
    api.queue.add("digits-class", ONE, name="first", runs=tmp_path)
    broken = api.queue.add("digits-class", ONE, name="second", runs=tmp_path)
    broken.file.write_text(broken.file.read_text().replace("batch_size", "batchsize"))
    api.queue.add("digits-class", {**ONE, "train.seed": 1}, name="third", runs=tmp_path)
    words = ("queue", "run", "--on", "local:1", "--runs", str(tmp_path))
    code, out, err = run(monkeypatch, capsys, *words)
    assert code == 1, err
    lines = out.splitlines()
    assert lines[0] == "1: first: trained"
    assert lines[1].startswith("2: second: failed (")
    assert lines[2] == "3: third: trained"
    (left,) = api.queue.entries(tmp_path)
    assert left.to_dict()["status"] == "failed"
    assert "batchsize" in left.to_dict()["problem"]
    assert [summary(RunDirectory(tmp_path / name)).status for name in ("first", "third")] == ["finished"] * 2


def test_a_killed_queue_goes_on_where_it_was(tmp_path):
    """As after a reboot; it is held by one process at a time."""
    api.queue.add("digits-class", SMALL, name="cut", runs=tmp_path / "cut")
    api.queue.add("digits-class", SMALL, name="cut", runs=tmp_path / "whole")
    command = [sys.executable, "-m", "safelight", "queue", "run", "--on", "local:1", "--runs"]
    driver = subprocess.Popen([*command, str(tmp_path / "cut")], env=os.environ, stdout=subprocess.DEVNULL)
    while not metrics.reached(tmp_path / "cut" / "cut"):
        assert driver.poll() is None
        time.sleep(0.01)
    with pytest.raises(UserError, match="another safelight queue works on it"):
        api.queue.run("local:1", runs=tmp_path / "cut")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    while RunDirectory(tmp_path / "cut" / "cut").is_locked():
        time.sleep(0.05)
    digests = []
    for runs in (tmp_path / "cut", tmp_path / "whole"):
        assert api.queue.run("local:1", runs=runs) == 0
        assert api.queue.entries(runs) == []
        digests.append(checkpoint_files.read(checkpoint_files.directory(runs / "cut", 6)).digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("form", "start"), [("systemd", "ExecStart={command}"), ("cron", "@reboot {command}")]
)
def test_what_starts_it_after_a_reboot_is_printed(form, start, tmp_path, monkeypatch, capsys):
    code, out, _ = run(
        monkeypatch, capsys, "queue", "run", "--print", form, "--on", "local:2", "--runs", str(tmp_path)
    )
    command = f"{sys.executable} -m safelight queue run --stay --on local:2 --runs {tmp_path}"
    assert (code, start.format(command=command) in out.splitlines()) == (0, True)
    assert list(Path(tmp_path).iterdir()) == []
